"""Gradients on their way through the server: into the core, the log, the answers and the reports, in this order.

The loop hands over each push that comes; whom the core lets go on is answered through the loop, which owns the
sessions. What there is to report of it waits until nobody waits for the server.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from workers.assignment import Cause, Outcome
from workers.reporting import Reporter
from workers.server.event_log import EventLog
from workers.server.pushes import Push, Reaction
from workers.server.sessions import Session
from workers.server.setup import Run
from workers.server.telemetry import Measurements, Telemetry
from workers.spec import RunSpec
from workers.transport import frames
from workers.transport.frames import Frame

NOT_FINITE_IN_A_ROW = 10
NOT_FINITE_OF_RECENT = 20
RECENT = 100
TOGETHER = 8
"""Gradients of one walk: nobody is answered before it ends, and more hardly save any more."""
UNREPORTED = 64
"""Reactions whose report may wait until nobody waits for the server."""


@dataclass(frozen=True)
class Ending:
    """Why the loop ends, and how."""

    outcome: Outcome
    message: str
    kind: str = ""
    cause: Cause | None = None


class Keeper(Protocol):
    """Who owns the sessions, and ends the run."""

    ending: Ending | None

    def answer(self, session: Session, flags: int = 0) -> None:
        """The newest weights are in this trainer's place: wake it."""
        ...

    def refuse(self, session: Session, reason: str) -> None: ...

    def end(self, ending: Ending) -> None: ...


class Pushed(NamedTuple):
    """A gradient that has come, with what its trainer measured and the scale that it asked for."""

    session: Session
    push: Push
    sequence: int
    measured: tuple[float, ...]
    asked: float


class Intake:
    """`collects`: whether pushes that come in this turn are taken in together at its end."""

    def __init__(
        self, spec: RunSpec, run: Run, log: EventLog, telemetry: Telemetry, reporter: Reporter, keeper: Keeper
    ) -> None:
        self._core, self._budget = run.core, run.budget
        self._log, self._telemetry, self._reporter, self._keeper = log, telemetry, reporter, keeper
        self._measurements = Measurements(len(run.metrics), own=spec.displaces)
        self._trainers: dict[int, Session] = {}
        self.collects = False
        self._collected: list[Pushed] = []
        self._measured: dict[tuple[int, int], tuple[tuple[float, ...], float]] = {}
        """What came with the gradients that are in no update yet, by worker and step."""
        self._unreported: list[tuple[Reaction, list[tuple[tuple[float, ...], float]]]] = []
        self._recent_not_finite: deque[bool] = deque(maxlen=RECENT)
        self._not_finite_in_a_row = 0

    # ------------------------------------------------------------ who comes and goes

    def joined(self, session: Session, *, compressed: bool) -> None:
        """A trainer is ready. `compressed`: its pushes are, on their way here."""
        self._trainers[session.worker] = session
        self._log.joined(session.worker, compressed=compressed)
        self._core.join(session.worker)

    def forget(self, session: Session) -> None:
        """A trainer is gone: those who wait for it go on."""
        if self._trainers.get(session.worker) is not session:
            return
        del self._trainers[session.worker]
        self._measured = {k: m for k, m in self._measured.items() if k[0] != session.worker}
        if self._keeper.ending is not None:
            return  # what the gate would let through now is beyond the end
        self._log.lost(session.worker)
        reaction = self._core.leave(session.worker)
        if reaction.applied or reaction.answers:
            self._log.settled(reaction)
            self._react(reaction)

    # ------------------------------------------------------------ pushes

    def pushed(self, session: Session, frame: Frame) -> None:
        if self._keeper.ending is not None:
            return  # it has been told to stop; what it still had under way is not applied
        measured = self._measurements.read(frame.body)
        if not (math.isfinite(measured[0]) and math.isfinite(measured[1])):
            self._not_finite(session, frame)
            return
        place, memory = session.place, session.memory
        assert place is not None
        assert memory is not None
        memory.bring()
        if place.has_buffers:
            self._telemetry.look(session.worker, place, self._core.buffers, self._core.version)
        push = Push(session.worker, place, frame.base_version, frame.step, frame.scale or None, frame.gradients)
        pushed = Pushed(session, push, frame.sequence, measured, frame.scale)
        if self.collects:
            self._collected.append(pushed)
            return
        reaction = self._core.receive(push)
        self._take_down(pushed)
        self._log.settled(reaction)
        self._react(reaction)

    def take_in_collected(self) -> None:
        """Have a walk for several of the pushes that came in this turn, as far as the budget goes."""
        while self._collected and self._keeper.ending is None:
            clocks = self._core.clocks
            most = min(TOGETHER, self._budget.left(gradients=clocks.gradients, updates=clocks.version))
            together, self._collected = self._collected[:most], self._collected[most:]
            everything = Reaction([], [], [], [])
            refused = []
            for pushed, outcome in zip(together, self._core.receive_together([p.push for p in together]), strict=True):
                if isinstance(outcome, ValueError):
                    refused.append((pushed.session, str(outcome)))
                    continue
                self._take_down(pushed)
                self._log.settled(outcome)
                everything.add(outcome)
            self._react(everything)
            for session, reason in refused:
                self._keeper.refuse(session, reason)
        self._collected.clear()

    def _take_down(self, pushed: Pushed) -> None:
        """A gradient has been received: note what came with it."""
        self._log.pushed(pushed.push, pushed.sequence)
        self._not_finite_in_a_row = 0
        self._recent_not_finite.append(False)
        self._measured[pushed.push.worker, pushed.push.step] = pushed.measured, pushed.asked

    def _react(self, reaction: Reaction) -> None:
        """Answer whom the core lets go on. What there is to report waits until nobody else is to be answered."""
        self.end_if_spent()
        trainers = self._trainers
        for applied in reaction.applied:
            session = trainers.get(applied.worker)
            if session is not None:
                session.staleness = applied.staleness
        # Taken out first: a trainer that turns out to be gone while it is answered takes what still waits with it.
        measured = [self._measured.pop((a.worker, a.step)) for a in reaction.applied]
        if self._keeper.ending is None:
            for worker in reaction.answers:
                session = trainers.get(worker)
                if session is not None:
                    self._keeper.answer(session, frames.NOT_APPLIED if worker in reaction.dropped else 0)
        if reaction.dropped:
            self._measured = {k: m for k, m in self._measured.items() if k[0] not in reaction.dropped}
        self._unreported.append((reaction, measured))

    @property
    def owes_reports(self) -> bool:
        return bool(self._unreported)

    @property
    def owes_many(self) -> bool:
        """More than may wait."""
        return len(self._unreported) >= UNREPORTED

    def report(self) -> None:
        """Tell of all gradients dealt with since the last report."""
        core, telemetry = self._core, self._telemetry
        for reaction, measured in self._unreported:
            for applied, (values, asked) in zip(reaction.applied, measured, strict=True):
                telemetry.gradient(applied, values, asked=asked)
            for skip in reaction.skips:
                telemetry.skip(skip)
            if reaction.dropped:
                telemetry.dropped(core.version, core.clocks.dropped)
        self._unreported.clear()

    def end_if_spent(self) -> None:
        """End the run when the budget is spent."""
        clocks = self._core.clocks
        if self._budget.spent_updates(gradients=clocks.gradients, updates=clocks.version):
            self._keeper.end(Ending(Outcome.COMPLETED, "the budget is spent", "budget-spent"))

    def _not_finite(self, session: Session, frame: Frame) -> None:
        """Refuse a gradient before it touches the weights; a run that keeps making them has failed."""
        assert session.place is not None
        self.take_in_collected()  # what came before it counts before it
        push = Push(session.worker, session.place, frame.base_version, frame.step, gradients=frame.gradients)
        self._core.refuse(push)
        self._log.pushed(push, frame.sequence)
        self._log.refused(session.worker)
        self._not_finite_in_a_row += 1
        self._recent_not_finite.append(True)
        if self._not_finite_in_a_row == 1:
            self._reporter.warn(
                f"{session.who} made a gradient that is not finite; it was not applied",
                worker=session.worker,
                version=self._core.version,
            )
        recent = sum(self._recent_not_finite)
        if self._not_finite_in_a_row >= NOT_FINITE_IN_A_ROW or recent > NOT_FINITE_OF_RECENT:
            message = f"{recent} of the last {len(self._recent_not_finite)} gradients were not finite"
            self._keeper.end(Ending(Outcome.FAILED, message, cause=Cause.NON_FINITE))
        else:
            self._keeper.answer(session, frames.NOT_APPLIED)
