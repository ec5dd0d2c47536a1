"""Multi-ASGD: asynchronous SGD with a momentum for each worker (Hakimi et al., 2019, arXiv:1907.11612), which the paper
compares DANA with.

    v_i = gamma v_i + g;   w -= eta (g + gamma v_i)

The step is Nesterov's, as we read the paper, over the worker's own gradients: one's momentum does not push another's.
Workers are sent w itself, where DANA-Zero sends them ahead. Weight decay is added to g.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.methods.compensation.base import MomentumOwner
from workers.methods.fragment import Fragment, Terms
from workers.methods.space import Space


class MultiAsgd(MomentumOwner):
    def __init__(self, *, momentum: float) -> None:
        self._gamma = momentum

    def prepare(self, space: Space) -> None:
        self._weights, self._decays = space.weights, space.decays
        self._velocity = space.zeros_per_worker()
        self._tiles = [space.cut(of_worker) for of_worker in self._velocity]
        self._scratch = space.scratch()

    def state(self) -> dict[str, Tensor]:
        return {"velocity": self._velocity}

    def begin(self) -> Terms:
        return (self._gamma,)

    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor, terms: Terms) -> Tensor:
        decay, velocity = self._decays[index], self._tiles[worker][index]
        direction = torch.add(gradient, self._weights[index], alpha=decay, out=self._scratch[: gradient.numel()])
        velocity.mul_(self._gamma).add_(direction)
        return direction.add_(velocity, alpha=self._gamma)

    def fragment(self) -> Fragment:
        return Fragment(
            """
            float d = g + decay * w;
            velocity = gamma * velocity + d;
            g = d + gamma * velocity;
            """,
            scalars=("gamma",),
            own={"velocity": self._velocity},
        )
