"""Delay-compensated ASGD (Zheng et al., 2016, arXiv:1609.08326, eq. 10: DC-ASGD-c and DC-ASGD-a).

    g' = g + lam * g * g * (w - w_i)

g was computed at w_i, some versions ago; the second term estimates how it has moved since, with g * g for the diagonal
of the Hessian.

    constant (c):  lam as given
    adaptive (a):  lam = lam0 / sqrt(ms + 1e-7);   ms = .95 ms + .05 g * g

ms starts at 0 and is kept for each worker, so that a slow one's gradients are held against its own. So does the
updater of Microsoft's Multiverso that implements the paper, whose formula does not name a worker.

We differ: weight decay and momentum, which the formula leaves out, come after it: g' holds no decay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.methods.compensation.base import Compensation
from workers.methods.fragment import Fragment, Terms
from workers.methods.space import Space

MEMORY = 0.95
FLOOR = 1e-7


class DcAsgd(Compensation):
    """DC-ASGD-c: the same lam always and everywhere."""

    def __init__(self, *, lam: float) -> None:
        self._lam = lam

    def prepare(self, space: Space) -> None:
        self._weights = space.weights
        self._scratch = space.scratch()

    def begin(self) -> Terms:
        return (self._lam,)

    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor, terms: Terms) -> Tensor:
        change = torch.sub(self._weights[index], base, out=self._scratch[: gradient.numel()])
        return torch.addcmul(gradient, change.mul_(gradient), gradient, value=self._lam, out=change)

    def fragment(self) -> Fragment:
        return Fragment("g += lam * g * g * (w - base);", scalars=("lam",), reads_base=True)


class DcAsgdAdaptive(Compensation):
    """DC-ASGD-a: lam falls where gradients are large."""

    def __init__(self, *, lam0: float) -> None:
        self._lam0 = lam0

    def prepare(self, space: Space) -> None:
        self._weights = space.weights
        self._mean_squares = space.zeros_per_worker()
        self._tiles = [space.cut(of_worker) for of_worker in self._mean_squares]
        self._scratch, self._square, self._inverse = space.scratch(), space.scratch(), space.scratch()

    def state(self) -> dict[str, Tensor]:
        return {"mean_squares": self._mean_squares}

    def begin(self) -> Terms:
        return self._lam0, MEMORY, 1.0 - MEMORY, FLOOR

    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor, terms: Terms) -> Tensor:
        mean_square, size = self._tiles[worker][index], gradient.numel()
        square = torch.mul(gradient, gradient, out=self._square[:size])
        mean_square.lerp_(square, 1.0 - MEMORY)
        inverse = torch.add(mean_square, FLOOR, out=self._inverse[:size]).rsqrt_()
        change = torch.sub(self._weights[index], base, out=self._scratch[:size]).mul_(square)
        return torch.addcmul(gradient, change, inverse, value=self._lam0, out=change)

    def fragment(self) -> Fragment:
        return Fragment(
            """
            mean_square = memory * mean_square + fresh * g * g;
            g += lam0 / sqrtf(mean_square + tiny) * g * g * (w - base);
            """,
            scalars=("lam0", "memory", "fresh", "tiny"),
            own={"mean_square": self._mean_squares},
            reads_base=True,
        )
