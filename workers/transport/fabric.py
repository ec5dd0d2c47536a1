"""Tensors over a `torch.distributed` group of two: gloo, or NCCL where both ends compute on GPUs, on different ones.

Each session has a group of its own, made directly and never by `init_process_group`: a server has one with each
trainer, and each comes and goes by itself. The two ends meet through their session (`workers.transport.store`).

Neither gloo nor NCCL encrypts anything, or asks who is there. Between the two, gloo opens a port of its own on the
address that the session has, for as long as the group lives; who connects has to name a number that only the session
told. What breaks gloo's own protocol behind that ends the whole process (tensors longer than the receiver's memory do;
it aborts). This is for networks whose every machine is trusted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributed import Work

from workers.transport import process_groups
from workers.transport.store import Channel, SessionStore, StoreError

SERVER, TRAINER = 0, 1
"""Ranks."""
TENSORS, RECEIPTS = 0, 1
"""Tags."""
MEETING_SECONDS = 20.0
PATIENCE_SECONDS = 5.0
LEAST_BYTES_PER_SECOND = 1 << 20
"""A line slower than this is as good as none."""


class FabricLost(Exception):
    """The other end of a group is gone, or too slow, or something else came than was due."""


def patience_seconds(size_bytes: int) -> float:
    """How long a transfer may take."""
    return PATIENCE_SECONDS + size_bytes / LEAST_BYTES_PER_SECOND


class Moving:
    """A tensor on its way out. It must be left alone until `wait` has returned."""

    def __init__(self, group: Any, other: int, tensor: Tensor) -> None:
        self._bytes = _bytes(tensor)
        self._mark = torch.zeros(1, dtype=torch.uint8, device=tensor.device)
        with _lost():
            self._works = [group.send([t], other, TENSORS) for t in (self._bytes, self._mark)]
            # When the other end dies, gloo tells those that wait for what has not begun, but not who is sending.
            self._works.append(group.recv([torch.empty_like(self._mark)], other, RECEIPTS))

    def wait(self) -> None:
        """Returns when the other end has it. Raises FabricLost."""
        _finish(self._works, self._bytes)


class Fabric:
    """One end of a group of two. Whatever goes wrong in it is its end: close it, and join anew."""

    def __init__(self, group: Any, rank: int, backend: str) -> None:
        self._group, self._other = group, 1 - rank
        self.backend = backend
        """`gloo` or `nccl`."""

    @classmethod
    def meet(
        cls,
        channel: Channel,
        rank: int,
        *,
        address: str,
        device: torch.device | str = "cpu",
        seconds: float = MEETING_SECONDS,
    ) -> Self:
        """Make the group with the other end, which has to call this too. `address`: the session's at this end.

        Raises FabricLost when the other end does not come, and what the channel raises.
        """
        store = SessionStore(channel, rank, seconds=seconds)
        try:
            group, backend = _group(store, rank, address, torch.device(device), timedelta(seconds=seconds))
            fabric = cls(group, rank, backend)
            fabric._greet(rank, torch.device(device) if backend == "nccl" else torch.device("cpu"), seconds)
            store.finish()
        except (RuntimeError, TimeoutError, StoreError) as error:
            raise FabricLost(f"the two ends of a session made no group: {error}") from None
        return fabric

    def _greet(self, rank: int, device: torch.device, seconds: float) -> None:
        """Exchange a number, so that whatever is connected late is connected while the store is there."""
        mine, theirs = torch.full((1,), rank, device=device), torch.empty(1, dtype=torch.int64, device=device)
        steps = [lambda: self._group.send([mine], self._other, 0), lambda: self._group.recv([theirs], self._other, 0)]
        for step in steps if rank == SERVER else reversed(steps):
            step().wait(timedelta(seconds=seconds))
        if int(theirs) != self._other:
            raise StoreError(f"rank {int(theirs)} answered where {self._other} was due")

    def start(self, tensor: Tensor) -> Moving:
        """Begin to send; the other end has to receive as many bytes. Raises FabricLost."""
        return Moving(self._group, self._other, tensor)

    def send(self, tensor: Tensor) -> None:
        """Returns when the other end has it. Raises FabricLost."""
        self.start(tensor).wait()

    def receive(self, into: Tensor) -> None:
        """Receive exactly as many bytes as `into` has. Raises FabricLost, and leaves anything in `into` then."""
        raw = _bytes(into)
        mark = torch.empty(1, dtype=torch.uint8, device=into.device)
        with _lost():
            # A byte follows each tensor and is waited for first: gloo does not tell who is receiving when the other end
            # dies in the middle, only those that wait for what has not begun.
            works = [self._group.recv([t], self._other, TENSORS) for t in (raw, mark)]
            _finish(works, raw)
            _finish([self._group.send([mark], self._other, RECEIPTS)], mark)

    def close(self) -> None:
        """Let go of the group; the other end sees it within milliseconds. Harmless the second time."""
        group, self._group = self._group, _Closed()
        with contextlib.suppress(RuntimeError):
            group.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Closed:
    """What is left of a group that was closed."""

    def _refuse(self, *_: object) -> Work:
        raise RuntimeError("the group was closed")

    send = recv = _refuse

    def abort(self) -> None:
        """There is nothing to end."""


def _bytes(tensor: Tensor) -> Tensor:
    """The same memory as bytes, so that both ends mean the same, whatever the numbers in it are."""
    assert tensor.is_contiguous()
    return tensor.detach().view(-1).view(torch.uint8)


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise FabricLost(_words(error)) from None


def _finish(works: list[Work], tensor: Tensor) -> None:
    """Wait for all of them, the last one first. Raises FabricLost."""
    patience = timedelta(seconds=patience_seconds(tensor.numel()))
    with _lost():
        for work in reversed(works):
            work.wait(patience)
        if tensor.is_cuda:
            torch.cuda.current_stream(tensor.device).synchronize()


def _words(error: RuntimeError) -> str:
    """gloo says first in which file of its own it noticed, and last what one might do about it."""
    what = re.sub(r"^\[\S+\] ", "", str(error)).partition(". This is typically")[0]
    return f"the other end of the group is lost: {what}"


def _group(store: SessionStore, rank: int, address: str, device: torch.device, timeout: timedelta) -> tuple[Any, str]:
    """Tell each other what we compute on, and make the group that fits both."""
    store.set(f"device/{rank}", _identity(device))
    mine, theirs = (store.get(f"device/{r}").decode() for r in (rank, 1 - rank))
    if "cpu" not in (mine, theirs) and mine != theirs:
        return process_groups.nccl(store, rank, 2, device=device, timeout=timeout), "nccl"
    return process_groups.gloo(store, rank, 2, address=address, timeout=timeout, threads=1), "gloo"


def _identity(device: torch.device) -> str:
    """The name of a GPU that is its own on all machines; `cpu` where tensors are in ordinary memory."""
    if device.type != "cuda" or not torch.distributed.is_nccl_available():
        return "cpu"
    return str(torch.cuda.get_device_properties(device).uuid)
