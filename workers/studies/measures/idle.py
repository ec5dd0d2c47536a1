"""How much of their time trainers do not compute: they wait for the server and for what travels."""

from __future__ import annotations

import math

from workers.server.pushes import Push
from workers.simulator.simulation import Simulation
from workers.simulator.times import SECOND
from workers.simulator.trainers import Measured
from workers.studies.measures.base import Measure


class Idle(Measure):
    """From each trainer's first arrival to its last: whole rounds, and one that never waits comes out as 0."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        self._computed: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def arrived(self, push: Push, measured: Measured) -> None:
        s, worker = self.simulation, push.worker
        self._last[worker] = s.now
        if worker not in self._first:
            self._first[worker] = s.now
            return
        steps = range(push.step, push.step + push.gradients)
        self._computed[worker] = self._computed.get(worker, 0) + sum(s.times.of(worker, step) for step in steps)

    def columns(self) -> dict[str, float]:
        """`idle`: share of all trainers' time, in 0 to 1. `gradients_a_second`: applied, of all trainers together."""
        lived = sum(self._last.values()) - sum(self._first.values())
        seconds = self.simulation.now / SECOND
        return {
            "idle": 1.0 - sum(self._computed.values()) / lived if lived else math.nan,
            "gradients_a_second": self.simulation.core.clocks.gradients / seconds if seconds else math.nan,
        }
