"""Delayed Nesterov: momentum moves once in N arrivals (Liu et al., 2024, arXiv:2401.09135, algorithm 3).

Displacements arrive one by one, k = 1, 2, ..., and each is applied at once; the momentum waits for N of them:

    sum += delta
    k mod N = 0:   m = momentum m + sum / N;   w -= lr (momentum m + delta / N);   sum = 0
    otherwise:     w -= lr delta / N

A Nesterov step at every stale arrival would apply the momentum N times where synchronous DiLoCo applies it once.

We differ: the paper can move a share c of the momentum at each arrival, ours is always its default, c = 0; its trainers
also choose their number of steps by their speed, ours are all given the same; N is the number of trainers that the run
asks for, whoever lives.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from workers.methods.outer.base import Outer
from workers.methods.space import Space, Tiles


class DelayedNesterov(Outer):
    def __init__(self, *, learning_rate: float, momentum: float) -> None:
        super().__init__()
        self.learning_rate, self.momentum = learning_rate, momentum

    def prepare(self, space: Space) -> None:
        super().prepare(space)
        self._momentum, self._sum = space.zeros(), space.zeros()
        self._moments, self._sums = space.cut(self._momentum), space.cut(self._sum)

    def state(self) -> dict[str, Tensor]:
        return {"momentum": self._momentum, "sum": self._sum}

    def step(self, pushed: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        rate, share = self.learning_rate * learning_rate, 1.0 / self._workers
        moves = self.steps % self._workers == 0
        for w, delta, m, total, o in zip(self._weights, pushed, self._moments, self._sums, out, strict=True):
            total.add_(delta)
            if moves:
                m.mul_(self.momentum).add_(total, alpha=share)
                w.sub_(m, alpha=rate * self.momentum)
                total.zero_()
            w.sub_(delta, alpha=rate * share)
            o.copy_(w)
