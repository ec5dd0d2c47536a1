"""What the devices of a machine group say to each other, whoever carries it: sums in rank order, and what they move.

Everything is made of one operation, `exchange`: each device has a part for every device, and gets theirs for it. So a
sum can be made in the order of ranks, whatever the transport: the same numbers come out in any process, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Pending(Protocol):
    def wait(self) -> list[Tensor]:
        """The parts of all devices for this one, in the order of ranks, its own among them."""
        ...


class Collectives(Protocol):
    """One device's end. All devices call the same operations in the same order."""

    rank: int
    size: int

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[Sequence[int]], what: str) -> Pending:
        """Send part r to device r. `shapes[r]` is the shape of what device r has for this one.

        The parts may not be changed until it is waited for. `what` names the traffic in the count of bytes.
        """
        ...


class Phases(Protocol):
    """Tells apart what a step's time goes to."""

    def mark(self, phase: str) -> None:
        """The time since the last mark was `phase`."""
        ...


class NoPhases:
    """For whoever does not measure."""

    def mark(self, phase: str) -> None:
        pass


@dataclass(frozen=True)
class Slices:
    """`total` things in a row, cut into one slice per device: device r has `counts[r]` of them, from `starts[r]`."""

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(sum(self.counts[:rank]) for rank in range(len(self.counts)))

    def of(self, rank: int) -> slice:
        start = self.starts[rank]
        return slice(start, start + self.counts[rank])

    def cut(self, rows: Tensor) -> list[Tensor]:
        """Rows of a tensor, by device."""
        return list(rows.split(self.counts))  # type: ignore[no-untyped-call]

    @classmethod
    def even(cls, total: int, size: int, what: str = "things") -> Slices:
        """As equal as can be; the first slices have one more. Raises ValueError where a device would get none."""
        if total < size:
            raise ValueError(f"{total} {what} can't be cut into {size} slices: each device needs at least one")
        return cls(spread(total, size))


def spread(total: int, size: int) -> tuple[int, ...]:
    """The counts of `size` parts of `total`, some of them empty if need be."""
    each, more = divmod(total, size)
    return tuple(each + (rank < more) for rank in range(size))


def all_gather(group: Collectives, own: Tensor, slices: Slices, what: str) -> Tensor:
    """Rows of all devices, in the order of ranks. (n_r, ...) → (n, ...). Moves (G - 1) n_r rows."""
    shapes = [(count, *own.shape[1:]) for count in slices.counts]
    return torch.cat(group.exchange([own] * group.size, shapes, what).wait())


class Sum:
    """A reduce-scatter under way."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def wait(self) -> Tensor:
        return in_rank_order(self._pending.wait())


def reduce_scatter(group: Collectives, rows: Tensor, slices: Slices, what: str) -> Sum:
    """The sum over all devices, of this device's rows alone. (n, ...) → (n_r, ...). Moves n - n_r rows."""
    own = (slices.counts[group.rank], *rows.shape[1:])
    return Sum(group.exchange(slices.cut(rows), [own] * group.size, what))


def in_rank_order(parts: Sequence[Tensor]) -> Tensor:
    """((p0 + p1) + p2) + ...: whoever adds them up like this gets the same bits."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


def all_reduce_sum(group: Collectives, values: Tensor, what: str) -> Tensor:
    """The sum over all devices of a vector, in the order of ranks. Moves 2 (G - 1) / G of it."""
    slices = Slices(spread(len(values), group.size))
    return all_gather(group, reduce_scatter(group, values, slices, what).wait(), slices, what)


def all_reduce_max(group: Collectives, values: Tensor, what: str) -> Tensor:
    """The greatest over all devices of a vector. Moves 2 (G - 1) / G of it."""
    slices = Slices(spread(len(values), group.size))
    shape = (slices.counts[group.rank],)
    parts = group.exchange(slices.cut(values), [shape] * group.size, what).wait()
    return all_gather(group, torch.stack(parts).amax(0), slices, what)
