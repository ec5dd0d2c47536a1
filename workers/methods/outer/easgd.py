"""Elastic averaging SGD, asynchronous (Zhang et al., 2014, arXiv:1412.6651).

Trainer i has weights x_i of its own, tied to the centre, the server's w, by a spring that acts after every H steps:

    e = alpha (x_i - w);   x_i -= e;   w += e;      alpha = beta / N, beta = 0.9

So trainers push their weights, and are answered with their own ones, drawn to the centre.

We differ: the paper makes the next step with the gradient of before the pull, we make it anew after it; N is the
number of trainers that the run asks for, whoever lives.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from workers.methods.outer.base import Outer
from workers.methods.space import Space, Tiles


class Easgd(Outer):
    pushes_weights = True
    answers_privately = True

    def __init__(self, *, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def prepare(self, space: Space) -> None:
        super().prepare(space)
        self._scratch = space.scratch()

    @property
    def alpha(self) -> float:
        return self.beta / self._workers

    def step(self, pushed: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        for w, x, o in zip(self._weights, pushed, out, strict=True):
            e = self._scratch[: w.numel()]
            e.copy_(x).sub_(w).mul_(self.alpha * learning_rate)
            w.add_(e)
            o.copy_(x).sub_(e)
