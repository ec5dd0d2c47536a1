"""This machine's GPUs, found by NVIDIA's management library: the node agent never loads torch.

They are told apart by their UUIDs. Numbers differ between NVIDIA's library (order on the bus) and CUDA (fastest first,
and only what CUDA_VISIBLE_DEVICES leaves), so a child is shown its GPU by UUID and sees no other.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

CUDA = "cuda"
"""The kind of a slot that comes with a GPU."""


@dataclass(frozen=True)
class Gpu:
    """`index` is its number in the library's order, and in nvidia-smi's; `capability` its compute capability."""

    index: int
    uuid: str
    name: str
    memory_bytes: int
    driver: str
    capability: str

    def __str__(self) -> str:
        return f"{self.name}, {self.memory_bytes / 2**30:.0f} GiB, compute capability {self.capability}"


def discover(environ: Mapping[str, str], wanted: Sequence[int] | None = None, nvml: Any = None) -> list[Gpu]:
    """The GPUs that this machine offers: those that CUDA_VISIBLE_DEVICES leaves, and of these the `wanted` numbers.

    `wanted` None: all; empty: none, and nothing is looked at. `nvml` is the module `pynvml`, or what stands in for it.
    A machine without NVIDIA's driver has none. One whose driver fails has none either, and the log says why.
    """
    if wanted is not None and not wanted:
        return []
    nvml = nvml or importlib.import_module("pynvml")
    try:
        found = _all(nvml)
    except nvml.NVMLError_LibraryNotFound:
        return []  # no driver: the ordinary machine without a GPU
    except nvml.NVMLError as error:
        log.error("NVIDIA's driver is installed but does not work, so this node offers no GPUs: %s", error)
        return []
    chosen = _visible(found, environ.get("CUDA_VISIBLE_DEVICES"))
    if wanted is not None:
        _tell_absent(wanted, chosen)
        chosen = [gpu for gpu in chosen if gpu.index in wanted]
    return chosen


def _all(nvml: ModuleType) -> list[Gpu]:
    nvml.nvmlInit()
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return [_gpu(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: ModuleType, index: int, driver: str) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        index=index,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=driver,
        capability=f"{major}.{minor}",
    )


def _text(value: str | bytes) -> str:
    """Older versions of the library answer with bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _visible(gpus: Sequence[Gpu], given: str | None) -> list[Gpu]:
    """What CUDA would see: numbers or beginnings of UUIDs, up to the first that names nothing, as CUDA reads them."""
    if given is None:
        return list(gpus)
    visible: list[Gpu] = []
    for word in (w.strip() for w in given.split(",")):
        named = [g for g in gpus if _names(word, g)]
        if len(named) != 1 or named[0] in visible:
            break
        visible += named
    return visible


def _names(word: str, gpu: Gpu) -> bool:
    return gpu.index == int(word) if word.isdecimal() else bool(word) and gpu.uuid.startswith(word)


def _tell_absent(wanted: Sequence[int], there: Sequence[Gpu]) -> None:
    absent = sorted(set(wanted) - {gpu.index for gpu in there})
    if absent:
        log.error("TRAINHUB_GPUS names %s, but this machine offers %s", absent, [g.index for g in there] or "none")


def usable(gpus: Sequence[Gpu], torch: str) -> list[Gpu]:
    """All of them, unless the torch that children load, of this version, was built without CUDA."""
    if gpus and torch.endswith("+cpu"):
        log.error("this machine has %d GPUs, but torch %s was built without CUDA: install another", len(gpus), torch)
        return []
    return list(gpus)


def slots(gpus: Sequence[Gpu], each: int) -> dict[int, dict[str, Any]]:
    """`each` slots for every GPU: number of the slot → facts of its GPU. A GPU's slots keep their numbers whichever
    other GPUs are offered."""
    return {gpu.index * each + n: asdict(gpu) for gpu in gpus for n in range(each)}
