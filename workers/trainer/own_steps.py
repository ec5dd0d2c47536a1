"""The steps of a trainer that steps by itself: its own optimizer's, as displacements p, so that w - p is the step.

A displacement can be added up, sent and subtracted again elsewhere; a step made in place can't. Moments and weight
decay are torch's, as in `workers.server.optimizers`. They stay with the trainer: one that is lost takes them with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from workers import spec
from workers.layout import Group
from workers.spec_errors import SpecError


class OwnOptimizer(Protocol):
    def displacement(self, gradient: Tensor, weights: Tensor, learning_rate: float) -> Tensor:
        """The step from `weights` along `gradient`, to be subtracted. It holds until the next call."""
        ...

    def reset(self) -> None:
        """Forget all moments."""
        ...


class Part(NamedTuple):
    """The range of one parameter group."""

    range: slice
    rate: float
    decay: float


class Base:
    def __init__(self, groups: Sequence[Group], like: Tensor) -> None:
        self._groups = groups
        self._step = torch.zeros_like(like)

    def _parts(self, learning_rate: float) -> Iterator[Part]:
        for g in self._groups:
            yield Part(slice(g.start, g.stop), learning_rate * g.learning_rate_scale, g.weight_decay)


class OwnSgd(Base):
    """d = g + decay w;  m = momentum m + d;  p = rate m  (Nesterov: p = rate (d + momentum m))."""

    def __init__(self, part: spec.Sgd, groups: Sequence[Group], like: Tensor) -> None:
        super().__init__(groups, like)
        self._part = part
        self._momentum = torch.zeros_like(like) if part.momentum else None

    def reset(self) -> None:
        if self._momentum is not None:
            self._momentum.zero_()

    def displacement(self, gradient: Tensor, weights: Tensor, learning_rate: float) -> Tensor:
        for part in self._parts(learning_rate):
            p, g, w = self._step[part.range], gradient[part.range], weights[part.range]
            torch.add(g, w, alpha=part.decay, out=p) if part.decay else p.copy_(g)
            if self._momentum is not None:
                m = self._momentum[part.range].mul_(self._part.momentum).add_(p)
                p.add_(m, alpha=self._part.momentum) if self._part.nesterov else p.copy_(m)
            p.mul_(part.rate)
        return self._step


class OwnAdamW(Base):
    """m, v as Adam's;  p = rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w)."""

    def __init__(self, part: spec.AdamW, groups: Sequence[Group], like: Tensor) -> None:
        super().__init__(groups, like)
        self._part = part
        self._first, self._second = torch.zeros_like(like), torch.zeros_like(like)
        self._scratch = torch.zeros_like(like)
        self._steps = 0

    def reset(self) -> None:
        self._first.zero_()
        self._second.zero_()
        self._steps = 0

    def displacement(self, gradient: Tensor, weights: Tensor, learning_rate: float) -> Tensor:
        self._steps += 1
        beta1, beta2 = self._part.betas
        correction1, root_correction2 = 1.0 - beta1**self._steps, math.sqrt(1.0 - beta2**self._steps)
        self._first.lerp_(gradient, 1.0 - beta1)
        self._second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        denominator = torch.sqrt(self._second, out=self._scratch).div_(root_correction2).add_(self._part.eps)
        torch.div(self._first, denominator, out=self._step).div_(correction1)
        for part in self._parts(learning_rate):
            p = self._step[part.range]
            if part.decay:
                p.add_(weights[part.range], alpha=part.decay)
            p.mul_(part.rate)
        return self._step


def build(part: spec.Sgd | spec.AdamW | spec.Muon, groups: Sequence[Group], like: Tensor) -> OwnOptimizer:
    """Make the optimizer of a trainer; `like` is a vector as long as its weights."""
    match part:
        case spec.Sgd():
            return OwnSgd(part, groups, like)
        case spec.AdamW():
            return OwnAdamW(part, groups, like)
        case spec.Muon():
            raise SpecError.one("optimizer.kind", "muon steps at the server; trainers that step take sgd or adamw")
