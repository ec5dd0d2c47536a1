"""The parameter server as a pure object: weights, clocks and rules; no socket, no thread, no time.

The loop feeds it from sessions; a simulation can feed it from a heap of virtual finish times. It has one owner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from workers.methods.batch_norm.base import BatchNorm
from workers.methods.gates.base import Gate
from workers.methods.rates.base import Rate
from workers.server.optimizers import Optimizer, Tiles, Tiling


class Stale(ValueError):
    """A push that does not fit what this worker was told: of a version or a step it was not given."""


@dataclass(frozen=True)
class Rules:
    """Everything that may differ between two runs of the same problem."""

    optimizer: Optimizer
    rate: Rate
    gate: Gate
    batch_norm: BatchNorm
    schedule: Callable[[int], float]
    """Learning rate eta by gradients applied so far."""


@dataclass(frozen=True)
class HandOver:
    """A worker's three vectors, cut into tiles once: its gradient, where it reads weights, its statistics."""

    gradient: Tiles
    weights: Tiles
    buffers: Tensor
    has_buffers: bool

    @classmethod
    def of(cls, tiling: Tiling, *, gradient: Tensor, weights: Tensor, buffers: Tensor) -> HandOver:
        return cls(tiling.of(gradient), tiling.of(weights), buffers, buffers.numel() > 0)


class Applied(NamedTuple):
    """One gradient's part in an update. The update made version `version_before + 1`."""

    worker: int
    version_before: int
    staleness: int
    scale: float
    learning_rate: float


@dataclass
class Clocks:
    """Where the run stands. `steps` holds each worker's next step that has not been taken into account."""

    version: int = 0
    gradients: int = 0
    refused: int = 0
    statistics: int = 0
    steps: list[int] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)


class ParameterServer:
    """Applies gradients. `weights` and `buffers` are its own vectors; everybody else gets copies."""

    def __init__(self, weights: Tensor, buffers: Tensor, tiling: Tiling, rules: Rules, *, workers: int) -> None:
        self.weights = weights
        self.buffers = buffers
        self.tiling = tiling
        self._tiles = tiling.of(weights)
        self.rules = rules
        self.clocks = Clocks(steps=[0] * workers, applied=[0] * workers)

    @property
    def version(self) -> int:
        return self.clocks.version

    def push(self, worker: int, place: HandOver, *, base_version: int, step: int) -> Applied:
        """Apply the gradient that `worker` left in `place`, and leave the new weights there.

        `base_version` is the version it was computed on, `step` its number in the worker's data. Raises Stale.
        """
        self._check(worker, base_version, step)
        clocks, rules = self.clocks, self.rules
        staleness = clocks.version - base_version
        scale = rules.rate.scales((staleness,), (worker,))[0]
        learning_rate = rules.schedule(clocks.gradients) * scale
        if scale > 0.0:
            rules.optimizer.step(place.gradient, place.weights, learning_rate)
        else:
            self.send(place)
        if place.has_buffers:
            rules.batch_norm.merge(self.buffers, place.buffers, clocks.statistics)
            clocks.statistics += 1
        applied = Applied(worker, clocks.version, staleness, scale, learning_rate)
        clocks.version += 1
        clocks.gradients += 1
        clocks.steps[worker] = step + 1
        clocks.applied[worker] += 1
        return applied

    def refuse(self, worker: int, place: HandOver, *, base_version: int, step: int) -> None:
        """Pass over a gradient that is not finite: it is counted, and the worker gets the present weights."""
        self._check(worker, base_version, step)
        self.clocks.refused += 1
        self.clocks.steps[worker] = step + 1
        self.send(place)

    def send(self, place: HandOver) -> None:
        """Copy the present weights to where a worker reads them."""
        torch._foreach_copy_(place.weights, self._tiles)

    def _check(self, worker: int, base_version: int, step: int) -> None:
        if base_version > self.clocks.version:
            raise Stale(f"trainer {worker} pushed for version {base_version}, which does not exist yet")
        if step != self.clocks.steps[worker]:
            raise Stale(f"trainer {worker} pushed step {step}, step {self.clocks.steps[worker]} is its next")
