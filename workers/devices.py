"""What a child computes on. All that differs between a CPU and a GPU is here, so that nothing else has to ask.

A child is given at most one GPU, by its UUID, and sees no other. It is the first to touch CUDA: the forkserver must
not, for a context does not survive a fork.

`precision: float32` means what it says on a GPU too: matrix products and convolutions of 24 bits, as on a CPU, where
torch by itself would let convolutions round to TF32's 11. Who wants speed for fewer bits says `bfloat16`.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from workers.assignment import Assignment, Cause
from workers.failures import Failure

Pairs = Sequence[tuple[Tensor, Tensor]]
PORTABLE = 1
"""cudaHostRegisterPortable: pinned for every context of the process."""


class Lane(Protocol):
    """A way for copies between a device and host memory, beside the device's computing."""

    def copy(self, pairs: Pairs) -> None:
        """Start to copy each second tensor into the first, behind everything the device was asked for before."""
        ...

    def wait(self) -> None:
        """Return when the copies are complete, so that others may be told of them."""
        ...

    def join(self) -> None:
        """Have everything that the device is asked for from now on see the copies; returns at once."""
        ...


class Feed(Protocol):
    """Batches on their way to a device."""

    def __next__(self) -> Any: ...

    def prepare(self) -> None:
        """Make the next batch ready while the device is busy with the one before. Raises what fetching raises."""
        ...


class Device(Protocol):
    where: torch.device
    """As torch names it."""
    gpu: str
    """UUID. Empty: it is no GPU."""
    name: str
    """As people know it."""

    def seed(self, number: int) -> None:
        """Seed the generators that a model draws from."""
        ...

    def settle(self) -> None:
        """Return when everything the device was asked for is done."""
        ...

    def stamp(self) -> Any:
        """A mark in time, behind everything the device was asked for before; returns at once."""
        ...

    def seconds(self, stamps: Sequence[Any]) -> list[float]:
        """Between each stamp and the next. Waits for the last."""
        ...

    def pin(self, host: Tensor) -> Callable[[], object]:
        """Let copies from and to this host memory run beside everything else, if it starts on a page as a slot's does.

        What is returned ends that; it has to be called before the memory is unmapped. Other memory may share its pages
        with somebody else's, so it stays as it is: copies are right all the same, and slower.
        """
        ...

    def lane(self) -> Lane: ...

    def feed(self, batches: Iterator[Any]) -> Feed: ...


def _nothing() -> None:
    pass


class HostLane:
    """Within host memory a copy is complete when it returns."""

    def copy(self, pairs: Pairs) -> None:
        for target, source in pairs:
            target.copy_(source)

    def wait(self) -> None:
        pass

    def join(self) -> None:
        pass


class HostFeed:
    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches

    def __next__(self) -> Any:
        return next(self._batches)

    def prepare(self) -> None:
        """There is no time to use: the device that is busy is the one that fetches."""


class Host:
    """CPUs, which do what they are asked before they return."""

    where = torch.device("cpu")
    gpu = ""
    name = "cpu"

    def seed(self, number: int) -> None:
        torch.default_generator.manual_seed(number)

    def settle(self) -> None:
        pass

    def stamp(self) -> float:
        return time.perf_counter()

    def seconds(self, stamps: Sequence[float]) -> list[float]:
        return [later - sooner for sooner, later in pairwise(stamps)]

    def pin(self, host: Tensor) -> Callable[[], object]:
        return _nothing

    def lane(self) -> Lane:
        return HostLane()

    def feed(self, batches: Iterator[Any]) -> Feed:
        return HostFeed(batches)


HOST = Host()


class CudaLane:
    """A stream of its own, and an event behind its copies."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # To wait for it sleeps instead of spinning: other trainers want the core.
        self._complete = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def copy(self, pairs: Pairs) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
            self._complete.record(self._stream)

    def wait(self) -> None:
        self._complete.synchronize()

    def join(self) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._complete)


class CudaFeed:
    """Fetches a batch and copies it, over pinned memory and a stream of its own, while the GPU computes on another."""

    def __init__(self, batches: Iterator[Any], device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._next: tuple[Any, torch.cuda.Event] | None = None

    def prepare(self) -> None:
        if self._next is None:
            self._next = self._upload(next(self._batches))

    def _upload(self, batch: Any) -> tuple[Any, torch.cuda.Event]:
        with torch.cuda.stream(self._stream):
            there = mapped(batch, lambda t: _pinned(t).to(self._device, non_blocking=True))
            complete = torch.cuda.Event()  # type: ignore[no-untyped-call]
            complete.record(self._stream)
        return there, complete

    def __next__(self) -> Any:
        self.prepare()
        assert self._next is not None
        (batch, complete), self._next = self._next, None
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(complete)
        # Its memory was taken on the other stream: not to be given away there while this one still reads it.
        mapped(batch, lambda t: _used_on(t, computing))
        return batch


def _pinned(tensor: Tensor) -> Tensor:
    """A data set may have its examples on the GPU already."""
    return tensor if tensor.is_cuda else tensor.pin_memory()


def _used_on(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    tensor.record_stream(stream)
    return tensor


class Cuda:
    """One GPU, which is asked for work and does it later. Raises Failure where torch can't use it."""

    where = torch.device("cuda", 0)

    def __init__(self, gpu: str) -> None:
        self.gpu = gpu
        if gpu:
            # Read when CUDA is first touched, which is below; whatever the agent was shown no longer matters.
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if not torch.cuda.is_available():
            raise Failure(Cause.ENGINE, f"torch {torch.__version__} can't use the GPU {gpu}: see docs/gpu.md")
        torch.cuda.set_device(self.where)
        self.name = str(torch.cuda.get_device_properties(self.where).name)
        _compute_in_float32()

    def seed(self, number: int) -> None:
        torch.default_generator.manual_seed(number)
        torch.cuda.manual_seed(number)

    def settle(self) -> None:
        torch.cuda.current_stream(self.where).synchronize()

    def stamp(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.where))
        return event

    def seconds(self, stamps: Sequence[torch.cuda.Event]) -> list[float]:
        stamps[-1].synchronize()
        return [sooner.elapsed_time(later) / 1000.0 for sooner, later in pairwise(stamps)]

    def pin(self, host: Tensor) -> Callable[[], object]:
        size, cudart = host.numel() * host.element_size(), torch.cuda.cudart()  # type: ignore[no-untyped-call]
        if size == 0 or host.data_ptr() % mmap.PAGESIZE:
            return _nothing
        if error := int(cudart.cudaHostRegister(host.data_ptr(), size, PORTABLE)):
            # Not to be passed over: the next kernel would be blamed for it.
            what = f"{size / 2**20:.1f} MiB of host memory"
            raise Failure(Cause.SHARED_MEMORY, f"{what} can't be pinned for the GPU: CUDA error {error}")
        return partial(cudart.cudaHostUnregister, host.data_ptr())

    def lane(self) -> Lane:
        return CudaLane(self.where)

    def feed(self, batches: Iterator[Any]) -> Feed:
        return CudaFeed(batches, self.where)


def _compute_in_float32() -> None:
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]


def of(assignment: Assignment, rank: int = 0) -> Device:
    """What this child computes on; in a machine group, its device `rank`. Raises Failure where it can't be used."""
    if assignment.device == "cpu":
        return HOST
    return Cuda(assignment.gpus[rank] if assignment.gpus else assignment.gpu)


def mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with every tensor changed, however it is nested in tuples, lists and dicts."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, dict):
        return {k: mapped(v, change) for k, v in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(v, change) for v in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(v, change) for v in batch)
    return batch


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Where forward passes run: in bfloat16 what torch thinks safe in it, or everything as it is."""
    if precision == "float32":
        return nullcontext()
    return cast("AbstractContextManager[None]", torch.autocast(device.type, torch.bfloat16))
