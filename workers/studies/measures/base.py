"""What a measure is: an observer of one simulation that has numbers to tell at its end."""

from __future__ import annotations

from typing import NamedTuple

from workers.server.pushes import Push, Reaction
from workers.simulator.simulation import Evaluation, Simulation
from workers.simulator.trainers import Measured


class Trace(NamedTuple):
    """A line over virtual time."""

    seconds: list[float]
    values: list[float]


class Measure:
    """Sees everything, changes nothing. Subclasses take what they need."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation

    def joined(self, worker: int) -> None:
        """As `Observer` says, and all below."""

    def lost(self, worker: int) -> None: ...

    def arrived(self, push: Push, measured: Measured) -> None: ...

    def refused(self, push: Push) -> None: ...

    def settled(self, reaction: Reaction) -> None: ...

    def evaluated(self, evaluation: Evaluation) -> None: ...

    def columns(self) -> dict[str, float]:
        """What goes into the results, at the end. NaN: there is no such number."""
        return {}

    def traces(self) -> dict[str, Trace]:
        return {}


class All(Measure):
    """Several measures as one observer."""

    def __init__(self, simulation: Simulation, parts: list[Measure]) -> None:
        super().__init__(simulation)
        self._parts = parts

    def joined(self, worker: int) -> None:
        for part in self._parts:
            part.joined(worker)

    def lost(self, worker: int) -> None:
        for part in self._parts:
            part.lost(worker)

    def arrived(self, push: Push, measured: Measured) -> None:
        for part in self._parts:
            part.arrived(push, measured)

    def refused(self, push: Push) -> None:
        for part in self._parts:
            part.refused(push)

    def settled(self, reaction: Reaction) -> None:
        for part in self._parts:
            part.settled(reaction)

    def evaluated(self, evaluation: Evaluation) -> None:
        for part in self._parts:
            part.evaluated(evaluation)

    def columns(self) -> dict[str, float]:
        return {name: value for part in self._parts for name, value in part.columns().items()}

    def traces(self) -> dict[str, Trace]:
        return {name: trace for part in self._parts for name, trace in part.traces().items()}
