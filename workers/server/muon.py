"""Muon: momentum whose matrices are made orthogonal before each step (Jordan et al., 2024, "Muon: an optimizer for
hidden layers in neural networks"; scaled as in Liu et al., 2025, arXiv:2502.16982, eq. 4).

    m = momentum m + (1 - momentum) g
    u = (1 - momentum) g + momentum m  (Nesterov),  or m
    a matrix:         w -= rate (0.2 sqrt(max(rows, columns)) orthogonal(u) + decay w)
    anything else:    w -= rate (m' / (sqrt(v') + eps) + decay w),  as AdamW

orthogonal(u) is u with its singular values brought near 1 by five Newton-Schulz steps, and 0.2 sqrt(...) makes its
elements about as large as AdamW's, so that both share one learning rate. A convolution is a matrix of its output
channels; the paper leaves first and last layers to AdamW, ours treats every matrix alike.

A step's length does not depend on the gradient's, so that no late gradient can throw the weights far, whatever the
curvature where it was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers import spec
from workers.layout import Segment
from workers.methods.space import Tiles
from workers.server.optimizers import Tiling

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
RMS = 0.2
BETA2 = 0.99
EPS = 1e-8


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) with the same singular vectors, and singular values near 1 (0.7 to 1.2)."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrix / torch.linalg.matrix_norm(matrix).add_(EPS)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


@dataclass
class Piece:
    """One parameter, as views of the vectors."""

    weights: Tensor
    gradient: Tensor
    momentum: Tensor
    second: Tensor | None
    """None: it is a matrix."""
    rate: float
    decay: float


class Muon:
    def __init__(self, part: spec.Muon, tiling: Tiling, weights: Tensor, segments: Sequence[Segment]) -> None:
        self._part = part
        self._tiles = tiling.of(weights)
        self._momentum = torch.zeros_like(weights)
        self._gradient = torch.zeros_like(weights)
        self._gradients = tiling.of(self._gradient)
        plain = sum(s.size for s in segments if not _is_matrix(s))
        self._second = weights.new_zeros(plain)
        self._pieces = self._cut(tiling, weights, segments)
        self.steps = 0

    def _cut(self, tiling: Tiling, weights: Tensor, segments: Sequence[Segment]) -> list[Piece]:
        pieces, offset = [], 0
        for s in segments:
            second = None
            if not _is_matrix(s):
                second = self._second[offset : offset + s.size].view(s.shape)
                offset += s.size
            rate, decay = tiling.terms(s.offset)
            gradient, momentum = s.of(self._gradient), s.of(self._momentum)
            pieces.append(Piece(s.of(weights), gradient, momentum, second, rate, decay))
        return pieces

    def state(self) -> dict[str, Tensor]:
        return {"momentum": self._momentum, "second_moment": self._second}

    def step(self, gradient: Iterable[Tensor], out: Tiles, learning_rate: float) -> None:
        self.steps += 1
        # A matrix may lie across tiles: the whole gradient has to be here first.
        for whole, g in zip(self._gradients, gradient, strict=True):
            whole.copy_(g)
        for piece in self._pieces:
            rate = learning_rate * piece.rate
            if piece.decay:
                piece.weights.mul_(1.0 - rate * piece.decay)
            piece.momentum.lerp_(piece.gradient, 1.0 - self._part.momentum)
            piece.weights.sub_(self._direction(piece), alpha=rate)
        for w, o in zip(self._tiles, out, strict=True):
            o.copy_(w)

    def _direction(self, piece: Piece) -> Tensor:
        if piece.second is not None:
            return self._as_adam(piece, piece.second)
        along = piece.momentum
        if self._part.nesterov:
            along = piece.gradient.lerp(piece.momentum, self._part.momentum)
        flat = orthogonal(along.flatten(1))
        return flat.mul_(RMS * math.sqrt(max(flat.shape))).view(piece.weights.shape)

    def _as_adam(self, piece: Piece, second: Tensor) -> Tensor:
        second.mul_(BETA2).addcmul_(piece.gradient, piece.gradient, value=1.0 - BETA2)
        mean = piece.momentum / (1.0 - self._part.momentum**self.steps)
        return mean.div_((second / (1.0 - BETA2**self.steps)).sqrt_().add_(EPS))


def _is_matrix(segment: Segment) -> bool:
    rows = segment.shape[0] if len(segment.shape) > 1 else 1
    return rows > 1 and segment.size // rows > 1
