"""What one device of a group computes with: the group's vectors themselves, or on a GPU its own part of them.

A GPU holds what lies below the last layer and its own rows of that, nothing of the other devices': one vector of
ranges of the group's, which are copied into it when new weights are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.devices import HOST, Device
from workers.layout import Layout, Segment, aligned
from workers.methods.hybrid.base import Slices
from workers.spec_errors import SpecError
from workers.trainer.group.heads import Head
from workers.transport.mirror import pin_for

ALIGNED_FLOATS = 64
"""Ranges start on multiples of 256 bytes of a GPU's memory, as its libraries like them."""


class Shared(NamedTuple):
    """What a device works with, in host memory. Weights and gradient are the group's; of `buffers` each device has its
    own, and those of the first one are reported."""

    weights: Tensor
    gradient: Tensor
    buffers: Tensor
    served: Tensor


class Range(NamedTuple):
    """Values `start` to `stop` of the group's weights lie from `place` on in the device's."""

    start: int
    stop: int
    place: int


class Holding:
    """One device's own. `where` everything lies with which it computes."""

    def __init__(
        self, layout: Layout, head: Head, classes: Slices, rank: int, shared: Shared, device: Device = HOST
    ) -> None:
        """Raises SpecError where the last layer's rows do not lie one after another and the device needs them to."""
        self.layout, self.head, self.rank, self.shared = layout, head, rank, shared
        self.own = classes.of(rank)
        self.lane = device.lane()
        self.where = device.where
        self._apart = device.where != HOST.where
        self.buffers, self.served = shared.buffers, shared.served
        if not self._apart:
            self._ranges = [Range(0, layout.size, 0)]
            self._weights = shared.weights
            return
        self._ranges = list(ranges(self._held()))
        size = sum(_aligned(r.stop - r.start) for r in self._ranges)
        self._weights = torch.zeros(size, device=device.where)
        self.buffers = torch.zeros_like(shared.buffers, device=device.where)
        self.served = torch.zeros_like(shared.served, device=device.where)
        pin_for(self, shared, device)

    @property
    def size_bytes(self) -> int:
        """Of the weights that the device has for itself. 0: it computes with the group's."""
        return self._weights.numel() * self._weights.element_size() if self._apart else 0

    def _held(self) -> Iterable[tuple[int, int]]:
        """Where what the device needs of the group's weights starts and stops, in order."""
        for segment in self.layout.segments:
            if segment.name not in self.head.parameters:
                yield segment.offset, segment.offset + segment.size
                continue
            row = segment.stride[0]
            if row * segment.shape[0] != segment.size:
                raise SpecError.one(
                    "layout.kind",
                    f"must be single: hybrid gives each GPU rows of the last layer, and those of {segment.name} do "
                    "not lie one after another in memory",
                )
            yield segment.offset + row * self.own.start, segment.offset + row * self.own.stop

    def _place(self, offset: int) -> int:
        [found] = [r for r in self._ranges if r.start <= offset < r.stop]
        return found.place + offset - found.start

    def weights(self, segment: Segment) -> Tensor:
        """A parameter as this device has it: of one that is cut, its own rows."""
        if segment.name not in self.head.parameters:
            return self._weights.as_strided(segment.shape, segment.stride, self._place(segment.offset))
        shape = (self.own.stop - self.own.start, *segment.shape[1:])
        start = segment.offset + segment.stride[0] * self.own.start
        return self._weights.as_strided(shape, segment.stride, self._place(start))

    def bind(self, model: nn.Module, *, serves: bool) -> None:
        """Make the parameters of a model whose last layer is cut, and its batch norm's buffers, views of what the
        device has."""
        self.layout.bind_parameters(model, self.weights)
        self.layout.bind_statistics(model, self.served if serves else self.buffers)

    def bring(self) -> None:
        """New weights are there: what the device is asked for from now on sees them."""
        if self._apart:
            source, target = self.shared.weights, self._weights
            pairs = [(target[r.place : r.place + r.stop - r.start], source[r.start : r.stop]) for r in self._ranges]
            self.lane.copy([*pairs, (self.served, self.shared.served)])
            self.lane.join()

    def give(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Copy each second tensor, of this device, into the first, of the group's vectors; with them what batch norm
        found, if that is this device's to report. Returns when all of it is there."""
        statistics = [(self.shared.buffers, self.buffers)] if self._apart and self.rank == 0 else []
        self.lane.copy([*pairs, *statistics])
        self.lane.wait()


def ranges(held: Iterable[tuple[int, int]]) -> Iterable[Range]:
    """The fewest that cover all pieces and nothing else than the gaps that alignment leaves between neighbours."""
    place = 0
    start, stop = -1, -1
    for first, last in held:
        if start >= 0 and first == aligned(stop):
            stop = last
            continue
        if start >= 0:
            yield Range(start, stop, place)
            place += _aligned(stop - start)
        start, stop = first, last
    if start >= 0:
        yield Range(start, stop, place)


def _aligned(size: int) -> int:
    return -(-size // ALIGNED_FLOATS) * ALIGNED_FLOATS
