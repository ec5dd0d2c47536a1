"""What the devices of a group send each other through `torch.distributed`: gloo between processes of one machine.

The process group is made directly, around a file in the group's own folder, so that no open store is needed. gloo
itself binds a port on loopback for each device, for as long as the group lives; it accepts nobody else on it.

gloo's own reduce-scatter moves twice the bytes that are needed, and its all-reduce sums in an order of its own. So
there is one operation, its all-to-all; sums are made here, in the order of ranks (`workers.methods.hybrid.base`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from workers.assignment import Cause
from workers.failures import Failure

SILENCE = dt.timedelta(seconds=120)
"""After which a device counts as lost. One that dies is seen within milliseconds; this is for one that is stopped."""
LOOPBACK = "127.0.0.1"
THREADS = 2
"""Of gloo's, for operations under way at once: gradients travel while features do."""


class PeerLost(Failure):
    """Another device of the group does not answer any more."""

    def __init__(self, error: RuntimeError) -> None:
        super().__init__(Cause.CRASHED, f"a device of the group was lost: {str(error).splitlines()[0]}")


class Gloo:
    """One device's end: `workers.methods.hybrid.base.Collectives` over a gloo group on CPU."""

    def __init__(self, meeting: Path, *, rank: int, size: int) -> None:
        """`meeting`: a file that the group's devices find each other by. Raises PeerLost where one does not come."""
        self.rank, self.size = rank, size
        self.sent_bytes: Counter[str] = Counter()
        options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=LOOPBACK)]
        options._timeout = SILENCE
        options._threads = THREADS
        store = dist.FileStore(str(meeting), size)  # type: ignore[attr-defined]
        store.set_timeout(SILENCE)
        try:
            self._group = dist.ProcessGroupGloo(store, rank, size, options)
        except RuntimeError as error:
            raise PeerLost(error) from None

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[Sequence[int]], what: str) -> Travelling:
        sizes = [p.numel() for p in parts]
        self.sent_bytes[what] += (sum(sizes) - sizes[self.rank]) * parts[0].element_size()
        packed = torch.cat([p.reshape(-1) for p in parts])
        expected = [prod(shape) for shape in shapes]
        received = torch.empty(sum(expected), dtype=packed.dtype)
        try:
            work = self._group.alltoall_base(received, packed, expected, sizes, dist.AllToAllOptions())  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise PeerLost(error) from None
        return Travelling(work, packed, received, expected, shapes)


class Travelling:
    def __init__(
        self, work: dist.Work, packed: Tensor, received: Tensor, sizes: list[int], shapes: Sequence[Sequence[int]]
    ) -> None:
        self._work, self._packed, self._received = work, packed, received
        self._sizes, self._shapes = sizes, shapes

    def wait(self) -> list[Tensor]:
        try:
            self._work.wait()
        except RuntimeError as error:
            raise PeerLost(error) from None
        parts: list[Tensor] = list(self._received.split(self._sizes))  # type: ignore[no-untyped-call]
        return [p.view(tuple(shape)) for p, shape in zip(parts, self._shapes, strict=True)]
