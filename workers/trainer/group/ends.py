"""What the devices of a group send each other through `torch.distributed`, between processes of one machine.

NCCL where each device is a GPU of its own; gloo between CPUs, and between devices that share a GPU, which NCCL does not
take: their tensors pass through host memory. The process group is made directly, around a file in the group's own
folder, so that no open store is needed. gloo itself binds a port on loopback for each device, for as long as the group
lives; it accepts nobody else on it.

gloo's own reduce-scatter moves twice the bytes that are needed, and all-reduces sum in an order of their own. So there
is one operation, all-to-all; sums are made here, in the order of ranks (`workers.methods.hybrid.base`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from workers.assignment import Cause
from workers.devices import HOST, Device
from workers.failures import Failure
from workers.transport import process_groups

SILENCE = dt.timedelta(seconds=120)
"""After which a device counts as lost. One that dies is seen within milliseconds; this is for one that is stopped."""
LOOPBACK = "127.0.0.1"
THREADS = 2
"""Of gloo's, for operations under way at once: gradients travel while features do."""


class PeerLost(Failure):
    """Another device of the group does not answer any more."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(Cause.CRASHED, f"a device of the group was lost: {str(error).splitlines()[0]}")


class End:
    """One device's end: `workers.methods.hybrid.base.Collectives` over a process group of torch's."""

    def __init__(self, group: Any, backend: str, rank: int, size: int, where: torch.device, by: torch.device) -> None:
        """`where` the device's tensors are, and `by` which they travel: host memory, where that is not the same."""
        self.backend, self.rank, self.size = backend, rank, size
        self.sent_bytes: Counter[str] = Counter()
        self._group, self._where, self._by = group, where, by

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[Sequence[int]], what: str) -> Travelling:
        sizes = [p.numel() for p in parts]
        self.sent_bytes[what] += (sum(sizes) - sizes[self.rank]) * parts[0].element_size()
        packed = torch.cat([p.reshape(-1) for p in parts]).to(self._by)
        expected = [prod(shape) for shape in shapes]
        received = torch.empty(sum(expected), dtype=packed.dtype, device=self._by)
        with lost():
            work = self._group.alltoall_base(received, packed, expected, sizes, dist.AllToAllOptions())
        return Travelling(work, packed, received, expected, shapes, self._where)

    def abort(self) -> None:
        """End what this device waits for, from another thread: it gets what is not to be used."""
        self._group.abort()


class Travelling:
    def __init__(
        self,
        work: dist.Work,
        packed: Tensor,
        received: Tensor,
        sizes: list[int],
        shapes: Sequence[Sequence[int]],
        where: torch.device,
    ) -> None:
        self._work, self._packed, self._received = work, packed, received
        self._sizes, self._shapes, self._where = sizes, shapes, where

    def wait(self) -> list[Tensor]:
        with lost():
            self._work.wait()
        parts: list[Tensor] = list(self._received.to(self._where).split(self._sizes))  # type: ignore[no-untyped-call]
        return [p.view(tuple(shape)) for p, shape in zip(parts, self._shapes, strict=True)]


def meet(meeting: Path, *, rank: int, size: int, device: Device = HOST, gpus: Sequence[str] = ()) -> End:
    """Meet the group's other devices at a file. `gpus` are all devices', by rank; none: they are CPUs.

    Raises PeerLost where one does not come.
    """
    store = dist.FileStore(str(meeting), size)  # type: ignore[attr-defined]
    store.set_timeout(SILENCE)
    with lost():
        if apart(gpus) and dist.is_nccl_available():
            nccl = process_groups.nccl(store, rank, size, device=device.where, timeout=SILENCE)
            return End(nccl, "nccl", rank, size, device.where, device.where)
        gloo = process_groups.gloo(store, rank, size, address=LOOPBACK, timeout=SILENCE, threads=THREADS)
        return End(gloo, "gloo", rank, size, device.where, HOST.where)


def apart(gpus: Sequence[str]) -> bool:
    """Whether each device is a GPU that no other one computes on."""
    return bool(gpus) and len(set(gpus)) == len(gpus)


@contextmanager
def lost() -> Iterator[None]:
    """What torch says of a group that is not whole any more."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(error) from None
