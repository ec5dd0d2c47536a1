"""How much the loss jumps: the standard deviation of the differences between losses that follow each other."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

from workers.server.pushes import Push
from workers.simulator.simulation import Simulation
from workers.simulator.trainers import Measured
from workers.studies.measures.base import Measure


class LossJitter(Measure):
    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        self._losses: list[float] = []

    def arrived(self, push: Push, measured: Measured) -> None:
        self._losses.append(measured.loss)

    def columns(self) -> dict[str, float]:
        """`loss_jitter`: of training losses, in the order they came."""
        steps = [b - a for a, b in pairwise(self._losses)]
        return {"loss_jitter": statistics.pstdev(steps) if len(steps) > 1 else math.nan}
