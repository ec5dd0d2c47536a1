"""Gap-aware ASGD (Barkai et al., 2019, arXiv:1909.10802), with a gap for each parameter.

    C  = eta_max (sqrt(RA) + 1e-8);  RA = .999 RA + .001 v * v, bias-corrected, v the momentum before this gradient
    g' = (g + decay w) / (1 + |w - w_i| / C);   v = gamma v + g';   w -= eta v
    Nesterov:  w -= eta (g' + gamma v)

Every element is divided by how many steps' length it has drifted since w_i. Weight decay is divided alike. The
constants, and v before this gradient, are those of its implementation in FTPipe (Eliad et al., 2021).

An element that has not moved yet has C = eta_max 1e-8 only: the first gradient of each is divided by its gap almost
wholly, where there is a gap.

We differ from it: eta_max is the spec's learning rate from the start, not the largest so far, which is less during
warm-up; and with gamma = 0, where there is no v, RA follows g + decay w instead of g.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workers.methods.compensation.base import MomentumOwner
from workers.methods.fragment import Fragment, Terms
from workers.methods.space import Space

MEMORY = 0.999
FLOOR = 1e-8


class GapAware(MomentumOwner):
    def __init__(self, *, momentum: float, nesterov: bool, learning_rate: float) -> None:
        self._gamma = momentum
        self._nesterov = nesterov
        self._eta_max = learning_rate

    def prepare(self, space: Space) -> None:
        self._weights, self._decays = space.weights, space.decays
        self._velocity, self._average = space.zeros(), space.zeros()
        self._count = torch.zeros(1)
        self._velocities, self._averages = space.cut(self._velocity), space.cut(self._average)
        self._decayed, self._scale, self._drift = (space.scratch() for _ in range(3))

    def state(self) -> dict[str, Tensor]:
        return {"velocity": self._velocity, "average": self._average, "count": self._count}

    def begin(self) -> Terms:
        self._count.add_(1.0)
        root_correction = math.sqrt(1.0 - MEMORY ** float(self._count))
        return self._gamma, self._eta_max, root_correction, MEMORY, 1.0 - MEMORY, FLOOR

    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor, terms: Terms) -> Tensor:
        root_correction = terms[2]
        weights, velocity, average = self._weights[index], self._velocities[index], self._averages[index]
        size, decay = gradient.numel(), self._decays[index]
        raw = torch.add(gradient, weights, alpha=decay, out=self._decayed[:size]) if decay else gradient
        moved = velocity if self._gamma else raw
        average.mul_(MEMORY).addcmul_(moved, moved, value=1.0 - MEMORY)
        # g / (1 + gap / C) = g U / (U + gap / n), where C = n U: each operation walks the tile once more.
        unit = torch.sqrt(average, out=self._scale[:size]).add_(FLOOR * root_correction)
        gap = torch.sub(weights, base, out=self._drift[:size]).abs_()
        below = torch.add(unit, gap, alpha=root_correction / self._eta_max, out=gap)
        direction = unit.mul_(raw).div_(below)
        if not self._gamma:
            return direction
        velocity.mul_(self._gamma).add_(direction)
        return direction.add_(velocity, alpha=self._gamma) if self._nesterov else velocity

    def fragment(self) -> Fragment:
        moved = "velocity" if self._gamma else "d"
        direction = "d + gamma * velocity" if self._nesterov else "velocity"
        return Fragment(
            f"""
            float d = g + decay * w;
            average = memory * average + fresh * {moved} * {moved};
            const float unit = eta_max * (sqrtf(average) / root_correction + tiny);
            d *= unit / (unit + fabsf(w - base));
            velocity = gamma * velocity + d;
            g = {direction};
            """,
            scalars=("gamma", "eta_max", "root_correction", "memory", "fresh", "tiny"),
            shared={"velocity": self._velocity, "average": self._average},
            reads_base=True,
        )
