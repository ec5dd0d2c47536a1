"""Local SGD: everybody makes H steps, then all go on from the mean (Stich, 2018, arXiv:1805.09767).

    w -= mean_i delta_i,     delta_i = (weights read) - (weights of trainer i after H steps)

which leaves the mean of the trainers' weights.

We differ: a trainer may use any optimizer, and keeps its moments over the rounds.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from workers.methods.outer.base import Outer
from workers.methods.space import Tiles


class LocalSgd(Outer):
    def step(self, pushed: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        for w, delta, o in zip(self._weights, pushed, out, strict=True):
            w.sub_(delta, alpha=learning_rate)
            o.copy_(w)
