"""How simulated trainers go through their rounds: what they do with weights, and when that reaches the server.

`Rounds` are those of trainers that wait: one event a round, the push's arrival. A trainer that never waits has three:
the end of each period, the arrival of a push, and that of a reply, which is merged at the end of its period.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from workers.server.pushes import Push
from workers.simulator.displacing import CandidateTrainers
from workers.simulator.snapshots import Snapshot
from workers.simulator.trainers import Measured, Place, Trainers
from workers.simulator.wires import Wires

if TYPE_CHECKING:
    from workers.simulator.simulation import Simulation


class What(IntEnum):
    """Kinds of events; of one worker's events at one time, the smaller goes first."""

    ARRIVAL = 0
    CRASH = 1
    RETURN = 2
    REPLY = 3
    PERIOD = 4  # behind REPLY: what arrives at the very end of a period is merged in it


class Rounds:
    def __init__(self, simulation: Simulation, trainers: Trainers) -> None:
        self._simulation, self._trainers = simulation, trainers
        self._wires = Wires(simulation.spec)

    def joined(self, number: int) -> None:
        """A trainer is new, or as if it were."""
        self._trainers.forget(number)
        self._wires.joined(number, compressed=True)

    def read(self, number: int, read: Snapshot, *, refused: bool = False) -> None:
        """The server sends a trainer weights; `refused`: in place of taking in what it pushed."""
        s = self._simulation
        worker = s.workers[number]
        worker.read, worker.step = read, s.core.next_step(number)
        seconds = sum(s.times.of(number, worker.step + i) for i in range(s.spec.outer_steps))
        s.schedule(s.now + s.pull + seconds + s.push, number, What.ARRIVAL)

    def arrived(self, number: int, place: Place) -> tuple[Push, Measured]:
        """A push reaches the server. It is computed now: what lies between start and arrival can't change it."""
        worker = self._simulation.workers[number]
        read, worker.read = worker.read, None
        assert read is not None
        measured = self._trainers.compute(number, worker.step, read, place)
        self._wires.carry(number, place.gradient, measured)
        scale = None if worker.window is None else worker.window.scale
        steps = self._simulation.spec.outer_steps
        return Push(number, place.hand_over, read.version, worker.step, scale, steps), measured

    def happened(self, what: What, number: int) -> None:
        """Something of a trainer's own; those that wait have nothing like it."""
        raise AssertionError(f"{what.name} in a simulation whose trainers wait")


class CandidateRounds(Rounds):
    def __init__(self, simulation: Simulation, trainers: CandidateTrainers) -> None:
        super().__init__(simulation, trainers)
        self._candidates = trainers
        self._coming: dict[int, tuple[Snapshot, bool]] = {}
        """Replies on their way, and whether they refuse; there is one at most for each trainer."""
        self._here: dict[int, tuple[Snapshot, bool]] = {}
        """Replies that have come in the present period."""
        self._measured: dict[int, Measured] = {}
        """What goes with the pushes on their way."""

    def joined(self, number: int) -> None:
        super().joined(number)
        self._here.pop(number, None)

    def read(self, number: int, read: Snapshot, *, refused: bool = False) -> None:
        s = self._simulation
        self._coming[number] = read, refused
        s.schedule(s.now + s.pull, number, What.REPLY)

    def happened(self, what: What, number: int) -> None:
        if what == What.PERIOD:
            self._end_period(number)
            return
        self._here[number] = self._coming.pop(number)
        if not self._candidates.started(number):
            self._begin(number)

    def _begin(self, number: int) -> None:
        read, _ = self._here.pop(number)
        self._candidates.begin(number, read, self._simulation.core.next_step(number))
        self._start_period(number)

    def _start_period(self, number: int) -> None:
        s = self._simulation
        s.schedule(s.now + s.times.of(number, self._candidates.of(number).step), number, What.PERIOD)

    def _end_period(self, number: int) -> None:
        s = self._simulation
        reply = self._here.get(number)
        if reply is not None and reply[1]:
            self._candidates.restart(number)  # what it has computed since rests on what was refused
            self._begin(number)
            return
        self._here.pop(number, None)
        measured = self._candidates.period(number, reply[0] if reply else None)
        if measured is not None:
            self._measured[number] = measured
            s.schedule(s.now + s.push, number, What.ARRIVAL)
        self._start_period(number)

    def arrived(self, number: int, place: Place) -> tuple[Push, Measured]:
        self._candidates.leave_in(number, place)
        mine = self._candidates.of(number)
        gradients = mine.candidate.flying
        return Push(number, place.hand_over, mine.version, mine.first, None, gradients), self._measured.pop(number)


def rounds_of(simulation: Simulation, trainers: Trainers) -> Rounds:
    if isinstance(trainers, CandidateTrainers):
        return CandidateRounds(simulation, trainers)
    return Rounds(simulation, trainers)
