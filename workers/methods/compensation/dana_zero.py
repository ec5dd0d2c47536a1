"""DANA-Zero (Hakimi et al., 2019, arXiv:1907.11612): workers are sent where the weights will be.

    v_i = gamma v_i + g;   w -= eta v_i;   send  w - eta gamma sum_j v_j

Each worker has a momentum of its own, and computes on an estimate of the weights after everybody's next step, as
Nesterov's method does for one. The look-ahead is right for full steps only, which is why the spec refuses it with a
rate rule, and eta in it is the scheduled rate at the moment of sending. The sum is kept up to date rather than summed.

Weight decay is added to g by the server, of the weights it holds rather than of those sent ahead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.methods.compensation.base import MomentumOwner
from workers.methods.fragment import Fragment, Terms
from workers.methods.space import Space


class DanaZero(MomentumOwner):
    looks_ahead = True

    def __init__(self, *, momentum: float) -> None:
        self._gamma = momentum

    def prepare(self, space: Space) -> None:
        self._weights, self._decays, self._scales = space.weights, space.decays, space.scales
        self._velocity, self._sum = space.zeros_per_worker(), space.zeros()
        self._tiles = [space.cut(of_worker) for of_worker in self._velocity]
        self._sums = space.cut(self._sum)
        self._scratch = space.scratch()

    def state(self) -> dict[str, Tensor]:
        return {"velocity": self._velocity, "sum": self._sum}

    def begin(self) -> Terms:
        return self._gamma, self._gamma - 1.0

    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor, terms: Terms) -> Tensor:
        # The gradient was computed on weights sent ahead; it is applied to the server's own.
        decay, velocity = self._decays[index], self._tiles[worker][index]
        direction = torch.add(gradient, self._weights[index], alpha=decay, out=self._scratch[: gradient.numel()])
        # sum += (gamma - 1) v_i + g, which is what v_i is about to grow by
        self._sums[index].add_(velocity, alpha=self._gamma - 1.0).add_(direction)
        return velocity.mul_(self._gamma).add_(direction)

    def look_ahead(self, index: int, out: Tensor, rate: float) -> None:
        torch.add(self._weights[index], self._sums[index], alpha=-rate * self._scales[index] * self._gamma, out=out)

    def fragment(self) -> Fragment:
        return Fragment(
            """
            float d = g + decay * w;
            sum += growth * velocity + d;
            velocity = gamma * velocity + d;
            g = velocity;
            """,
            scalars=("gamma", "growth"),
            shared={"sum": self._sum},
            own={"velocity": self._velocity},
            sends="w - ahead * scale * gamma * sum",
        )
