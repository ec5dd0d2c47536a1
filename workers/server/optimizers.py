"""SGD and AdamW as torch.optim defines them, over one flat vector, tile by tile; `muon` has the third.

A tile is so small that it stays in cache between the operations of its step, so that memory is read and
written once however many operations a rule has. `passes` walks the tiles.

The learning rate is handed in for each step (eta times the rate rule's S). Weight decay is multiplied by that same
rate, and moments never see it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workers import spec
from workers.layout import Group
from workers.methods.fragment import Fragment, Terms
from workers.methods.space import Space, Tiles

TILE_FLOATS = 64 * 1024
"""256 KiB a vector. Smaller tiles cost more dispatches, larger ones fall out of the caches: at 11 M parameters
gap-aware took 49 ms in these, 56 and 63 ms in tiles twice and four times as large, AdamW 34, 34 and 37 ms
(2 MiB L2)."""


WHOLE = 1 << 62


def tile_floats(device: torch.device) -> int:
    """A GPU takes each group whole: there an operation costs more to ask for than a tile of this size to compute."""
    return TILE_FLOATS if device.type == "cpu" else WHOLE


class Tiling:
    """Cuts flat vectors into tiles that don't cross the bounds of parameter groups."""

    def __init__(self, groups: Sequence[Group], tile_floats: int = TILE_FLOATS) -> None:
        cut = [
            (start, min(start + tile_floats, group.stop), group)
            for group in groups
            for start in range(group.start, group.stop, tile_floats)
        ]
        self.ranges = tuple((start, stop) for start, stop, _ in cut)
        self.scales = tuple(g.learning_rate_scale for _, _, g in cut)
        self.decays = tuple(g.weight_decay for _, _, g in cut)
        self.largest = max(stop - start for start, stop in self.ranges)

    def terms(self, offset: int) -> tuple[float, float]:
        """Learning-rate scale and weight decay of the value at `offset`."""
        index = next(i for i, (start, stop) in enumerate(self.ranges) if start <= offset < stop)
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
        return tuple(flat[start:stop] for start, stop in self.ranges)

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


class Elementwise(ABC):
    """An optimizer whose step is made element by element, so that tiles and gradients may be taken in any order that
    keeps a tile's gradients in theirs."""

    tiling: Tiling
    weights: Tensor
    steps: int

    @abstractmethod
    def begin(self, learning_rate: float) -> Terms:
        """Count a step; returns the numbers that hold for it alone. The rate is the first."""

    @abstractmethod
    def step_tile(self, index: int, gradient: Tensor, terms: Terms) -> None:
        """Step tile `index` of the weights along `gradient`."""

    @abstractmethod
    def fragment(self) -> Fragment:
        """The same for one element. Its scalars are what `begin` returns."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """As `Optimizer.state`."""

    def step(self, gradient: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        """As `Optimizer.step`."""
        terms = self.begin(learning_rate)
        for index, (g, w, o) in enumerate(zip(gradient, self.tiling.of(self.weights), out, strict=True)):
            self.step_tile(index, g, terms)
            o.copy_(w)


@dataclass
class Sgd(Elementwise):
    """torch.optim.SGD: d = g + decay w;  m = momentum m + d;  w -= rate m  (Nesterov: w -= rate (d + momentum m))."""

    part: spec.Sgd
    tiling: Tiling
    weights: Tensor
    steps: int = 0

    def __post_init__(self) -> None:
        self._tiles = self.tiling.of(self.weights)
        self._momentum = torch.zeros_like(self.weights) if self.part.momentum else None
        self._moments = self.tiling.of(self._momentum) if self._momentum is not None else None
        self._scratch = self.weights.new_empty(self.tiling.largest)

    def state(self) -> dict[str, Tensor]:
        return {} if self._momentum is None else {"momentum": self._momentum}

    def begin(self, learning_rate: float) -> Terms:
        self.steps += 1
        return learning_rate, self.part.momentum

    def step_tile(self, index: int, gradient: Tensor, terms: Terms) -> None:
        w, decay = self._tiles[index], self.tiling.decays[index]
        rate, momentum = terms[0] * self.tiling.scales[index], self.part.momentum
        direction = gradient
        if decay:
            # Not w *= 1 - rate * decay: that factor's rounding adds up over the steps.
            direction = torch.add(gradient, w, alpha=decay, out=self._scratch[: gradient.numel()])
        if self._moments is None:
            w.add_(direction, alpha=-rate)
            return
        m = self._moments[index].mul_(momentum).add_(direction)
        if self.part.nesterov:
            w.add_(direction, alpha=-rate)
            w.add_(m, alpha=-rate * momentum)
        else:
            w.add_(m, alpha=-rate)

    def fragment(self) -> Fragment:
        scalars = ("rate", "momentum")
        if self._momentum is None:
            return Fragment("w -= rate * scale * (g + decay * w);", scalars)
        along = "(d + momentum * m)" if self.part.nesterov else "m"
        code = f"""
            const float d = g + decay * w;
            m = momentum * m + d;
            w -= rate * scale * {along};
            """
        return Fragment(code, scalars, {"m": self._momentum})


@dataclass
class AdamW(Elementwise):
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
        self._scratch = self.weights.new_empty(self.tiling.largest)

    def state(self) -> dict[str, Tensor]:
        return {"first_moment": self._first, "second_moment": self._second}

    def begin(self, learning_rate: float) -> Terms:
        self.steps += 1
        beta1, beta2 = self.part.betas
        correction1, root_correction2 = 1.0 - beta1**self.steps, math.sqrt(1.0 - beta2**self.steps)
        return learning_rate, correction1, root_correction2, 1.0 - beta1, beta2, 1.0 - beta2, self.part.eps

    def step_tile(self, index: int, gradient: Tensor, terms: Terms) -> None:
        learning_rate, correction1, root_correction2, fresh1, beta2, fresh2, eps = terms
        w, m, v = self._tiles[index], self._firsts[index], self._seconds[index]
        rate, decay = learning_rate * self.tiling.scales[index], self.tiling.decays[index]
        if decay:
            w.mul_(1.0 - rate * decay)
        m.lerp_(gradient, fresh1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=fresh2)
        denominator = torch.sqrt(v, out=self._scratch[: v.numel()])
        denominator.div_(root_correction2).add_(eps)
        w.addcdiv_(m, denominator, value=-rate / correction1)

    def fragment(self) -> Fragment:
        code = """
            w -= rate * scale * decay * w;
            m += fresh1 * (g - m);
            v = beta2 * v + fresh2 * g * g;
            w -= rate * scale / correction1 * m / (sqrtf(v) / root_correction2 + eps);
            """
        scalars = ("rate", "correction1", "root_correction2", "fresh1", "beta2", "fresh2", "eps")
        return Fragment(code, scalars, {"m": self._first, "v": self._second})


def build(part: spec.Sgd | spec.AdamW, tiling: Tiling, weights: Tensor) -> Optimizer:
    return Sgd(part, tiling, weights) if isinstance(part, spec.Sgd) else AdamW(part, tiling, weights)
