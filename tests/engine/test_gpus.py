"""GPUs as the node agent finds them: through a library that stands in for NVIDIA's where there is none."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pynvml
import pytest

from workers import gpus
from workers.gpus import Gpu


@dataclass(frozen=True)
class Memory:
    total: int


class Library:
    """Answers as `pynvml` does on a machine with these GPUs, or fails as it does where its driver is broken."""

    NVMLError = pynvml.NVMLError
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound

    def __init__(self, names: list[str], failure: pynvml.NVMLError | None = None) -> None:
        self._names, self._failure = names, failure
        self.open = 0

    def nvmlInit(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        return len(self._names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self._names[handle]

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}f00"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Memory:
        return Memory(80 << 30)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return 9, 0


def indices(count: int, environ: dict[str, str], wanted: tuple[int, ...] | None = None) -> list[int]:
    return [g.index for g in gpus.discover(environ, wanted, Library(["H100"] * count))]


def test_it_tells_all_there_is_to_know_and_lets_go_of_the_library() -> None:
    library = Library(["NVIDIA H100"])
    assert gpus.discover({}, nvml=library) == [Gpu(0, "GPU-0f00", "NVIDIA H100", 80 << 30, "580.65.06", "9.0")]
    assert library.open == 0


@pytest.mark.parametrize(
    ("given", "seen"),
    [("", []), ("-1", []), ("1", [1]), ("2,0", [2, 0]), ("GPU-1f", [1]), ("0, GPU-2f00", [0, 2]), ("0,7,1", [0]),
     ("GPU-", []), ("1,1", [1])],
)  # fmt: skip
def test_it_sees_what_cuda_visible_devices_leaves(given: str, seen: list[int]) -> None:
    assert indices(3, {"CUDA_VISIBLE_DEVICES": given}) == seen


def test_settings_restrict_it_further() -> None:
    assert indices(3, {}, (0, 2)) == [0, 2]
    assert indices(3, {"CUDA_VISIBLE_DEVICES": "1,2"}, (0, 2)) == [2]
    assert indices(3, {}, ()) == []


def test_a_wanted_gpu_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert indices(1, {}, (0, 5)) == [0]
    assert "TRAINHUB_GPUS names [5], but this machine offers [0]" in caplog.text


def test_without_a_driver_there_are_none_and_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    missing = pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert gpus.discover({}, nvml=Library(["H100"], missing)) == []
    assert caplog.text == ""


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH])
def test_a_broken_driver_is_told_and_the_node_goes_on_without(code: int, caplog: pytest.LogCaptureFixture) -> None:
    assert gpus.discover({}, nvml=Library(["H100"], pynvml.NVMLError(code))) == []
    assert "driver is installed but does not work, so this node offers no GPUs: " in caplog.text
    assert [r.levelno for r in caplog.records] == [logging.ERROR]


def test_what_this_machine_has_is_found_by_the_real_library() -> None:
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        count = 0
    assert len(gpus.discover({})) == count


def test_a_gpu_has_as_many_slots_as_trainers_and_keeps_their_numbers() -> None:
    found: list[Any] = gpus.discover({}, (1,), Library(["A", "B"]))
    assert {n: f["name"] for n, f in gpus.slots(found, 3).items()} == {3: "B", 4: "B", 5: "B"}


def test_a_torch_without_cuda_offers_none_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    found = gpus.discover({}, nvml=Library(["A"]))
    assert gpus.usable(found, "2.13.0+cpu") == []
    assert "torch 2.13.0+cpu was built without CUDA" in caplog.text
    assert gpus.usable(found, "2.13.0") == found
