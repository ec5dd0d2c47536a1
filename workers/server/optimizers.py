"""SGD and AdamW as torch.optim defines them, over one flat vector, tile by tile; `muon` has the third.

A tile is so small that it stays in cache between the operations of its step, so that memory is read and
written once however many operations a rule has; the last one copies the new weights to where the trainer reads them.

The learning rate is handed in for each step (eta times the rate rule's S). Weight decay is multiplied by that same
rate, and moments never see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workers import spec
from workers.layout import Group
from workers.methods.space import Space, Tiles

TILE_FLOATS = 256 * 1024
"""1 MiB a vector. Smaller tiles would fit into L2, but each operation costs microseconds to dispatch: at 11 M
parameters AdamW took 40 ms in tiles of 32 Ki floats, 27 ms in these and 36 ms untiled (0.5 MiB L2, 32 MiB L3)."""


class Tiling:
    """Cuts flat vectors into tiles that don't cross the bounds of parameter groups."""

    def __init__(self, groups: Sequence[Group], tile_floats: int = TILE_FLOATS) -> None:
        self._ranges = [
            (start, min(start + tile_floats, group.stop), group)
            for group in groups
            for start in range(group.start, group.stop, tile_floats)
        ]
        self.scales = tuple(g.learning_rate_scale for _, _, g in self._ranges)
        self.decays = tuple(g.weight_decay for _, _, g in self._ranges)
        self.largest = max(stop - start for start, stop, _ in self._ranges)

    def terms(self, offset: int) -> tuple[float, float]:
        """Learning-rate scale and weight decay of the value at `offset`."""
        index = next(i for i, (start, stop, _) in enumerate(self._ranges) if start <= offset < stop)
        return self.scales[index], self.decays[index]

    def without_decay(self) -> Tiling:
        """The same tiles, for an optimizer whose weight decay is added by somebody else."""
        other = copy(self)
        other.decays = (0.0,) * len(self.decays)
        return other

    def without_scales(self) -> Tiling:
        """The same tiles, for an optimizer that takes what comes as it is: scaled and decayed by who sent it."""
        other = self.without_decay()
        other.scales = (1.0,) * len(self.scales)
        return other

    def of(self, flat: Tensor) -> Tiles:
        return tuple(flat[start:stop] for start, stop, _ in self._ranges)

    def space(self, weights: Tensor, workers: int) -> Space:
        """The room of a method that works on `weights`."""
        return Space(self.of(weights), self.of, self.decays, self.scales, weights.numel(), workers)


class Optimizer(Protocol):
    def step(self, gradient: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        """Step the weights along `gradient` and leave them in `out` too. Allocates nothing.

        Each tile of `gradient` is asked for just before it is used, and used no more when the next is asked for.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Its vectors by name, to save or to load in place."""
        ...

    @property
    def steps(self) -> int: ...

    @steps.setter
    def steps(self, value: int) -> None: ...


@dataclass
class Sgd:
    """torch.optim.SGD: d = g + decay w;  m = momentum m + d;  w -= rate m  (Nesterov: w -= rate (d + momentum m))."""

    part: spec.Sgd
    tiling: Tiling
    weights: Tensor
    steps: int = 0

    def __post_init__(self) -> None:
        self._tiles = self.tiling.of(self.weights)
        self._momentum = torch.zeros_like(self.weights) if self.part.momentum else None
        self._moments = self.tiling.of(self._momentum) if self._momentum is not None else None
        self._scratch = torch.empty(self.tiling.largest)
        self._plain = set(self.tiling.scales) == {1.0} and set(self.tiling.decays) == {0.0}

    def state(self) -> dict[str, Tensor]:
        return {} if self._momentum is None else {"momentum": self._momentum}

    def step(self, gradient: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        if self._moments is not None:
            self._step_with_momentum(self._moments, gradient, out, learning_rate)
        elif self._plain:
            rate = -learning_rate
            for w, g, o in zip(self._tiles, gradient, out, strict=True):
                w.add_(g, alpha=rate)
                o.copy_(w)
        else:
            terms = zip(self._tiles, gradient, out, self.tiling.scales, self.tiling.decays, strict=True)
            for w, g, o, scale, decay in terms:
                # Not w *= 1 - rate * decay: that factor's rounding adds up over the steps.
                direction = torch.add(g, w, alpha=decay, out=self._scratch[: g.numel()]) if decay else g
                w.add_(direction, alpha=-learning_rate * scale)
                o.copy_(w)

    def _step_with_momentum(self, moments: Tiles, gradient: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        momentum, nesterov = self.part.momentum, self.part.nesterov
        terms = zip(self._tiles, gradient, moments, out, self.tiling.scales, self.tiling.decays, strict=True)
        for w, g, m, o, scale, decay in terms:
            rate = learning_rate * scale
            direction = g
            if decay:
                direction = torch.add(g, w, alpha=decay, out=self._scratch[: g.numel()])
            m.mul_(momentum).add_(direction)
            if nesterov:
                w.add_(direction, alpha=-rate)
                w.add_(m, alpha=-rate * momentum)
            else:
                w.add_(m, alpha=-rate)
            o.copy_(w)


@dataclass
class AdamW:
    """torch.optim.AdamW (Loshchilov & Hutter, 2017, arXiv:1711.05101, algorithm 2), with its decoupled decay.

    We differ as torch does: the decay is multiplied by the learning rate, the paper's only by the schedule.
    """

    part: spec.AdamW
    tiling: Tiling
    weights: Tensor
    steps: int = 0

    def __post_init__(self) -> None:
        self._tiles = self.tiling.of(self.weights)
        self._first = torch.zeros_like(self.weights)
        self._second = torch.zeros_like(self.weights)
        self._firsts, self._seconds = self.tiling.of(self._first), self.tiling.of(self._second)
        self._scratch = torch.empty(self.tiling.largest)

    def state(self) -> dict[str, Tensor]:
        return {"first_moment": self._first, "second_moment": self._second}

    def step(self, gradient: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        beta1, beta2 = self.part.betas
        correction1 = 1.0 - beta1**self.steps
        root_correction2 = math.sqrt(1.0 - beta2**self.steps)
        terms = zip(
            self._tiles, gradient, self._firsts, self._seconds, out, self.tiling.scales, self.tiling.decays, strict=True
        )
        for w, g, m, v, o, scale, decay in terms:
            rate = learning_rate * scale
            if decay:
                w.mul_(1.0 - rate * decay)
            m.lerp_(g, 1.0 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
            denominator = torch.sqrt(v, out=self._scratch[: v.numel()])
            denominator.div_(root_correction2).add_(self.part.eps)
            w.addcdiv_(m, denominator, value=-rate / correction1)
            o.copy_(w)


def build(part: spec.Sgd | spec.AdamW, tiling: Tiling, weights: Tensor) -> Optimizer:
    return Sgd(part, tiling, weights) if isinstance(part, spec.Sgd) else AdamW(part, tiling, weights)
