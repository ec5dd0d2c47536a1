"""How a gradient gets into the weights: one walk over all vectors, tile by tile.

Several gradients that wait may go in one after another within each tile, which reads and writes the server's vectors
once for all of them. That is the same arithmetic in the same order for every element, so the weights come out the same
to the bit as if each had had a walk of its own; only the versions in between are never seen by anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from workers.methods.compensation.base import Compensation
from workers.methods.fragment import Terms
from workers.methods.space import Tiles
from workers.server.optimizers import Elementwise, Optimizer, Tiling

EAGER = "eager"


@dataclass(frozen=True)
class HandOver:
    """A worker's vectors, cut into tiles once: its gradient, where it reads weights, its statistics.

    `served` is where it reads the server's statistics; empty where the batch-norm rule serves none. The addresses are
    of the first elements of gradient and weights, which lie contiguous.
    """

    gradient: Tiles
    weights: Tiles
    buffers: Tensor
    served: Tensor
    has_buffers: bool
    is_served: bool
    gradient_address: int
    weights_address: int

    @classmethod
    def of(
        cls, tiling: Tiling, *, gradient: Tensor, weights: Tensor, buffers: Tensor, served: Tensor | None = None
    ) -> HandOver:
        served = torch.empty(0) if served is None else served
        tiles = tiling.of(gradient), tiling.of(weights)
        has = buffers.numel() > 0, served.numel() > 0
        return cls(*tiles, buffers, served, *has, gradient.data_ptr(), weights.data_ptr())


class Step(NamedTuple):
    """One gradient's part: where it lies, whose it is, and the learning rate (eta times its scale) it steps by."""

    place: HandOver
    worker: int
    rate: float


class Pass(Protocol):
    """A walk. `ahead` is the scheduled learning rate once it is over, which a look-ahead needs."""

    kernel: str
    """What computes: its name in the gradient log."""
    coalesces: bool
    """Whether several gradients may go into one walk."""

    def send(self, place: HandOver, ahead: float) -> None:
        """Leave in a place what its worker is sent: the same bits as beside a step."""
        ...

    def one(self, step: Step, ahead: float) -> None:
        """Step along one gradient, and leave in its place what its worker is sent."""
        ...

    def several(self, steps: Sequence[Step], ahead: float) -> None:
        """Step along these, one after another, and leave what their workers are sent in the places of all."""
        ...

    def mean(self, parts: Sequence[tuple[Step, float]], out: HandOver, rate: float, ahead: float) -> None:
        """Make one step by `rate` along the sum of these, each times its share, and leave in `out` what its worker is
        sent. The shares add up to 1."""
        ...


class EagerPass:
    """Plain tensor operations, on any device."""

    kernel = EAGER

    def __init__(
        self, weights: Tensor, tiling: Tiling, optimizer: Optimizer, compensation: Compensation | None
    ) -> None:
        self._tiles = tiling.of(weights)
        self._optimizer, self._compensation = optimizer, compensation
        self._scratch = weights.new_empty(tiling.largest)
        self.coalesces = isinstance(optimizer, Elementwise)

    def send(self, place: HandOver, ahead: float) -> None:
        if self._compensation is not None and self._compensation.looks_ahead:
            self._look_ahead(place, ahead)
        else:
            torch._foreach_copy_(place.weights, self._tiles)

    def one(self, step: Step, ahead: float) -> None:
        place, compensation = step.place, self._compensation
        if compensation is None:
            self._optimizer.step(place.gradient, place.weights, step.rate)
            return
        terms = compensation.begin()
        adjusted = (self._adjusted(step, index, terms) for index in range(len(self._tiles)))
        self._optimizer.step(adjusted, place.weights, step.rate)
        if compensation.looks_ahead:
            self._look_ahead(place, ahead)

    def several(self, steps: Sequence[Step], ahead: float) -> None:
        optimizer, compensation = self._optimizer, self._compensation
        assert isinstance(optimizer, Elementwise)
        terms = [(() if compensation is None else compensation.begin(), optimizer.begin(s.rate)) for s in steps]
        for index, weights in enumerate(self._tiles):
            for step, (own, stepping) in zip(steps, terms, strict=True):
                optimizer.step_tile(index, self._adjusted(step, index, own), stepping)
            for step in steps:
                step.place.weights[index].copy_(weights)
        if compensation is not None and compensation.looks_ahead:
            for step in steps:
                self._look_ahead(step.place, ahead)

    def mean(self, parts: Sequence[tuple[Step, float]], out: HandOver, rate: float, ahead: float) -> None:
        self._optimizer.step(self._means(parts), out.weights, rate)
        if self._compensation is not None and self._compensation.looks_ahead:
            self._look_ahead(out, ahead)

    def _means(self, parts: Sequence[tuple[Step, float]]) -> Iterator[Tensor]:
        """The sum, a tile at a time as the optimizer asks for it, so that no vector is made for it."""
        compensation = self._compensation
        terms: list[Terms] = [() if compensation is None else compensation.begin() for _ in parts]
        ((first, share), *others), (own, *others_own) = parts, terms
        for index, tile in enumerate(self._tiles):
            mean = torch.mul(self._adjusted(first, index, own), share, out=self._scratch[: tile.numel()])
            for (step, its_share), its in zip(others, others_own, strict=True):
                mean.add_(self._adjusted(step, index, its), alpha=its_share)
            yield mean

    def _adjusted(self, step: Step, index: int, terms: Terms) -> Tensor:
        gradient, compensation = step.place.gradient[index], self._compensation
        if compensation is None:
            return gradient
        return compensation.adjust(index, step.worker, gradient, step.place.weights[index], terms)

    def _look_ahead(self, place: HandOver, ahead: float) -> None:
        assert self._compensation is not None
        for index, out in enumerate(place.weights):
            self._compensation.look_ahead(index, out, ahead)
