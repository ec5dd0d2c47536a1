"""DiLoCo: the mean displacement of H local steps is a gradient to an outer Nesterov step (Douillard et al., 2023,
arXiv:2311.08105, algorithm 1).

    delta = mean_i delta_i;   m = momentum m + delta;   w -= lr (delta + momentum m)

The paper's best outer step has lr 0.7 and momentum 0.9, with AdamW in the trainers.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from workers.methods.outer.base import Outer
from workers.methods.space import Space, Tiles


class DiLoCo(Outer):
    def __init__(self, *, learning_rate: float, momentum: float) -> None:
        super().__init__()
        self.learning_rate, self.momentum = learning_rate, momentum

    def prepare(self, space: Space) -> None:
        super().prepare(space)
        self._momentum = space.zeros()
        self._moments = space.cut(self._momentum)

    def state(self) -> dict[str, Tensor]:
        return {"momentum": self._momentum}

    def step(self, pushed: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        rate = self.learning_rate * learning_rate
        for w, delta, m, o in zip(self._weights, pushed, self._moments, out, strict=True):
            m.mul_(self.momentum).add_(delta)
            w.sub_(delta, alpha=rate).sub_(m, alpha=rate * self.momentum)
            o.copy_(w)
