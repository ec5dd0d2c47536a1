"""What trainers' scales do: how much one trainer's varies, and the first trainer's scale and staleness over time."""

from __future__ import annotations

import math
import statistics

from workers.server.pushes import Reaction
from workers.simulator.simulation import Simulation
from workers.studies.measures.base import Measure, Trace

WATCHED = 0


class Scales(Measure):
    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        self._scales: dict[int, list[float]] = {}
        self._scale, self._staleness = Trace([], []), Trace([], [])

    def settled(self, reaction: Reaction) -> None:
        for one in reaction.applied:
            self._scales.setdefault(one.worker, []).append(one.scale)
            if one.worker == WATCHED:
                for trace, value in ((self._scale, one.scale), (self._staleness, float(one.staleness))):
                    trace.seconds.append(self.simulation.seconds)
                    trace.values.append(value)

    def columns(self) -> dict[str, float]:
        """`scale_variation`: mean over trainers of the standard deviation of their scales, over their mean."""
        parts = [statistics.pstdev(s) / statistics.fmean(s) for s in self._scales.values() if any(s)]
        return {"scale_variation": statistics.fmean(parts) if parts else math.nan}

    def traces(self) -> dict[str, Trace]:
        return {"scale": self._scale, "staleness": self._staleness}
