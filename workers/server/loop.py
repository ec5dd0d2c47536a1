"""The server child: feeds the core from the sessions, keeps the clocks, and brings the run to its end."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from workers import devices
from workers.assignment import Cause, Exit, Outcome
from workers.checkpoint import Meta
from workers.events import Progress
from workers.kernels import choosing
from workers.process import Child
from workers.server import event_log, setup
from workers.server.budget import per_pass
from workers.server.checkpoints import Checkpointer, meta_of, restore
from workers.server.evaluations import Evaluations
from workers.server.memory import Memories
from workers.server.passes import HandOver
from workers.server.pushes import Push, Reaction, Stale
from workers.server.sessions import Hangup, Identity, Refusal, Session, Sessions
from workers.server.telemetry import Measurements, Telemetry
from workers.transport import frames
from workers.transport.frames import Frame, FrameError, Kind
from workers.transport.gateway import Gateway
from workers.transport.refusals import Refusals
from workers.transport.relay import Terms
from workers.transport.shared_memory import SlotSize, check_room

GATHER_SECONDS = 15.0
"""After the first trainer has come, the others have this long before the run starts with the least number."""
ALONE_SECONDS = 600.0
"""A server that nobody works for gives its slot back."""
TICK_SECONDS = 0.2
RATE_SECONDS = 1.0
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


class Pushed(NamedTuple):
    """A gradient that has come, with what its trainer measured and the scale that it asked for."""

    session: Session
    push: Push
    sequence: int
    measured: tuple[float, ...]
    asked: float


def run(child: Child) -> Exit:
    """Serve a run to its end."""
    return Server(child).serve()


class Server:
    def __init__(self, child: Child) -> None:
        self._spec, self._reporter, self._stop = child.spec, child.reporter, child.stop
        self._assignment = child.assignment
        self._device = devices.of(child.assignment)
        self._run = setup.build(child.spec, child.data, self._device.where)
        self._core = self._run.core
        self._seconds_before = self._restore()
        if child.assignment.kernels:
            child.reporter.event("kernel", choosing.use_what_is_ready(self._core, Path(child.assignment.kernels)))
        self._log_writer = self._begin_log()
        self._log = self._log_writer.log
        identity = self._identity()
        self._sessions = Sessions(identity, child.stop)
        self._memories = Memories(identity.trainer, self._device)
        self._refusals = Refusals(child.reporter)
        self._gateway = self._open_door(identity)
        rule, own = self._core.rules.batch_norm, child.spec.displaces
        self._telemetry = Telemetry(child.reporter, self._run.layout, self._run.metrics, rule, own=own)
        self._measurements = Measurements(len(self._run.metrics), own=own)
        self._checkpointer = Checkpointer(self._run, Path(child.assignment.checkpoint_dir), child.reporter)
        self._evaluations = Evaluations(
            self._run, self._sessions, self._telemetry, child.reporter, every=self._evaluation_every()
        )
        self._by_worker: dict[int, Session] = {}
        self._unreported: list[tuple[Reaction, list[tuple[tuple[float, ...], float]]]] = []
        self._collects = False
        """Whether pushes that come in this turn are taken in together at its end."""
        self._collected: list[Pushed] = []
        self._measured: dict[tuple[int, int], tuple[tuple[float, ...], float]] = {}
        """What came with the gradients that are in no update yet, by worker and step."""
        self._recent_not_finite: deque[bool] = deque(maxlen=RECENT)
        self._not_finite_in_a_row = 0
        self._ending: Ending | None = None
        self._started_at: float | None = None
        self._first_join_at: float | None = None
        self._listening_at = self._company_at = time.monotonic()
        self._saved_version = self._core.version
        self._next_tick = self._next_rate = self._next_checkpoint = 0.0

    def _evaluation_every(self) -> float:
        return self._spec.evaluation.every_passes * per_pass(self._spec, self._run.examples)

    def _restore(self) -> float:
        path = self._assignment.restore
        if path is None:
            return 0.0
        take = self._spec.start.take if self._spec.start.kind == "checkpoint" else "all"
        meta = restore(self._run, Path(path), own_run=self._assignment.run, take=take)
        self._reporter.event(
            "restored",
            f"continues from version {meta.version}" if meta.version else "starts with the weights of a checkpoint",
            version=meta.version,
            gradients=meta.gradients,
            path=path,
        )
        return meta.seconds

    def _begin_log(self) -> event_log.Writer:
        a = self._assignment
        restored = None if a.restore is None else self._core.version
        kernel = self._core.walk.kernel
        header = event_log.Header.here(self._spec, run=a.run, attempt=a.attempt, restored=restored, kernel=kernel)
        folder = Path(a.work_dir)
        return event_log.Writer(folder, header, attempt=a.attempt, epoch=a.epoch, warn=self._reporter.warn)

    def _identity(self) -> Identity:
        layout = self._run.layout
        trainer, evaluator = SlotSize.trainer(layout, self._core.rules.batch_norm), SlotSize.evaluator(layout)
        workers = self._spec.workers.max
        check_room(workers * trainer.size_bytes + evaluator.size_bytes, f"a run of {workers} trainers")
        return Identity(self._assignment, layout.manifest(self._run.metrics), trainer, evaluator, workers)

    def _open_door(self, identity: Identity) -> Gateway | None:
        """Listen for trainers of other hosts. None: this run has none, and no port is opened."""
        if not self._assignment.listen:
            return None
        return Gateway(Terms(self._assignment, identity.trainer, self._spec), self._refusals, self._stop)

    # ------------------------------------------------------------ the life of a run

    def serve(self) -> Exit:
        self._reporter.watch(self.progress)
        self._reporter.event(
            "listening",
            "the server listens",
            endpoint=self._assignment.endpoint,
            address=self._gateway.address if self._gateway else "",
            version=self._core.version,
        )
        try:
            while self._ending is None:
                self._turn()
            return self._finish(self._ending)
        finally:
            self._report()
            self._sessions.close()
            if self._gateway is not None:
                self._gateway.close()
            self._refusals.close()
            self._log_writer.close()

    def _turn(self) -> None:
        speaking = self._sessions.poll(0.0 if self._unreported else TICK_SECONDS)
        if not speaking or len(self._unreported) >= UNREPORTED:
            self._report()
        self._collects = len(speaking) > 1 and self._core.coalesces
        for session in speaking:
            self._hear(session)
        self._take_in_collected()
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._report()
            self._tick(now)

    def _tick(self, now: float) -> None:
        for session in self._sessions.late_strangers():
            self._sessions.cut(session, "no join came in time")
        if self._stop.requested:
            self._end(Ending(Outcome.STOPPED, "stopped as asked"))
        elif self._started_at is None:
            self._gather(now)
        else:
            self._while_training(now)
        if self._sessions.trainers():
            self._company_at = now
        elif now - self._company_at > ALONE_SECONDS:
            self._end(Ending(Outcome.FAILED, f"no trainer for {ALONE_SECONDS:.0f} s", cause=Cause.DEADLINE))

    def _while_training(self, now: float) -> None:
        if self._run.budget.spent_seconds(self.seconds):
            self._end(Ending(Outcome.COMPLETED, "the time is spent", "budget-spent"))
        if now >= self._next_rate:
            self._next_rate = now + RATE_SECONDS
            self._telemetry.rate(self._core.version)
        if now >= self._next_checkpoint and not self._checkpointer.busy and self._core.version > self._saved_version:
            self._next_checkpoint = now + (self._spec.checkpoints.every_seconds or math.inf)
            self._saved_version = self._core.version
            self._checkpointer.start(self._meta())
        if self._evaluations.reached(self._spec.budget.target):
            self._end(
                Ending(Outcome.COMPLETED, f"{self._evaluations.latest_text} reaches the target", "target-reached")
            )
        self._evaluations.begin_if_due()

    def _end(self, ending: Ending) -> None:
        self._ending = self._ending or ending

    def _finish(self, ending: Ending) -> Exit:
        if ending.kind:
            self._reporter.event(ending.kind, ending.message, version=self._core.version)
        completed = ending.outcome is Outcome.COMPLETED
        self._tell_trainers(completed)
        self._report()
        if self._started_at is not None:
            self._telemetry.rate(self._core.version)
        if completed:
            self._evaluations.finish(self._hear, give_up=lambda: self._stop.requested)
        if ending.outcome is not Outcome.FAILED:
            self._checkpointer.start(self._meta(), final=True)
        self._checkpointer.wait()
        evaluator = self._sessions.evaluator()
        if evaluator is not None:
            self._say(evaluator, Kind.STOP, flags=frames.COMPLETED if completed else 0)
        return Exit(ending.outcome, ending.cause, ending.message, self._core.version)

    def _tell_trainers(self, completed: bool) -> None:
        for session in self._sessions.trainers():
            self._say(session, Kind.STOP, flags=frames.COMPLETED if completed else 0)

    # ------------------------------------------------------------ gathering

    def _gather(self, now: float) -> None:
        """Start when all trainers are here, or after a while when enough are."""
        here = len(self._sessions.trainers())
        if here and self._first_join_at is None:
            self._first_join_at = now
        patience_over = self._first_join_at is not None and now - self._first_join_at > GATHER_SECONDS
        workers = self._spec.workers
        if here >= workers.max or (patience_over and here >= workers.min):
            self._start(now)
        elif now - self._listening_at > ALONE_SECONDS:
            message = f"{here} of at least {workers.min} trainers came within {ALONE_SECONDS:.0f} s"
            self._end(Ending(Outcome.FAILED, message, cause=Cause.DEADLINE))

    def _start(self, now: float) -> None:
        self._started_at = now
        self._telemetry.start(self._core.version, seconds_before=self._seconds_before)
        self._next_rate = now + RATE_SECONDS
        self._next_checkpoint = now + (self._spec.checkpoints.every_seconds or math.inf)
        trainers = self._sessions.trainers()
        self._reporter.event(
            "training", f"{len(trainers)} trainers start", trainers=len(trainers), version=self._core.version
        )
        for session in trainers:
            self._send_weights(session)
        if self._budget_spent():
            self._end(Ending(Outcome.COMPLETED, "the budget is spent", "budget-spent"))

    # ------------------------------------------------------------ sessions

    def _hear(self, session: Session) -> None:
        """Take in what a session says; whatever is wrong with it ends this session, never the run."""
        if not self._sessions.knows(session):
            return  # it was cut a moment ago, by what another one said
        try:
            for frame in session.receive():
                if self._sessions.knows(session):
                    session.check(frame)
                    self._handle(session, frame)
        except Hangup:
            self._gone(session)
        except (Refusal, Stale, FrameError, ValueError) as refusal:
            self._refuse(session, str(refusal))

    def _handle(self, session: Session, frame: Frame) -> None:
        if frame.kind == Kind.PUSH and session.place is not None and not session.evaluator:
            self._pushed(session, frame)
        elif not session.joined:
            self._join(session, frame)
        elif frame.kind == Kind.READY and not session.ready:
            self._ready(session, frame)
        elif frame.kind == Kind.RESULT and session.evaluator:
            self._evaluations.result(session, frame)
        elif frame.kind == Kind.LEAVE:
            session.left = True
        else:
            raise Refusal(f"a {Kind(frame.kind).name} out of place")

    def _join(self, session: Session, frame: Frame) -> None:
        holder = self._sessions.holder(frame.worker)
        if holder is not None and not frame.flags & frames.EVALUATOR:
            # A killed trainer's last push may still lie in its socket: take it in before its successor starts.
            # First what it sent, then its hang-up.
            self._hear(holder)
            self._hear(holder)
        if self._ending is not None and not frame.flags & frames.EVALUATOR:
            raise Refusal("the run has ended")
        self._sessions.check_join(session, frame)
        self._give_way(frame)
        slot = self._sessions.make_slot(session, frame)
        self._run.layout.give_constants(self._run.model, slot.constants)
        session.send(Kind.WELCOME, body=frames.EXAMPLES.pack(self._run.examples) + slot.name.encode())

    def _give_way(self, frame: Frame) -> None:
        """A trainer's place is its latest member's: the one that still holds it was given up, whatever it thinks."""
        holder = self._sessions.holder(frame.worker)
        if holder is not None and not frame.flags & frames.EVALUATOR:
            self._refuse(holder, "a later member has its place")

    def _ready(self, session: Session, frame: Frame) -> None:
        slot = session.slot
        assert slot is not None
        slot.unlink()
        session.ready = True
        if session.evaluator:
            return
        session.memory = self._memories.of(slot, session.worker, frame.body.decode())
        session.place = HandOver.of(self._core.tiling, **session.memory.vectors._asdict())
        if frame.body:
            session.send(Kind.MEMORY, body=session.memory.handle)
        self._by_worker[session.worker] = session
        compressed = bool(session.peer) and self._spec.transport.compression.kind != "none"
        self._log.joined(session.worker, compressed=compressed)
        self._core.join(session.worker)
        self._reporter.event(
            "joined",
            f"{session.who} joined over {session.transport}{f' from {session.peer}' if session.peer else ''}",
            worker=session.worker,
            member=session.member,
            version=self._core.version,
            transport=session.transport,
            peer=session.peer,
        )
        if self._started_at is not None:
            self._send_weights(session)
        else:
            self._gather(time.monotonic())

    def _gone(self, session: Session) -> None:
        self._take_in_collected()  # its own last push may be among them
        if not self._sessions.knows(session):
            return  # answering that push has found it gone already
        self._sessions.cut(session)
        if not session.joined:
            return
        if session.evaluator:
            self._evaluations.lost()
        self._forget(session)
        expected = session.left or self._ending is not None
        self._reporter.event(
            "left",
            f"{session.who} left" if expected else f"{session.who} was lost",
            level="info" if expected else "warning",
            worker=session.worker,
            member=session.member,
            expected=expected,
            version=self._core.version,
        )

    def _forget(self, session: Session) -> None:
        """A trainer is gone: those who wait for it go on."""
        if self._by_worker.get(session.worker) is not session:
            return
        del self._by_worker[session.worker]
        self._measured = {k: m for k, m in self._measured.items() if k[0] != session.worker}
        if self._ending is not None:
            return  # what the gate would let through now is beyond the end
        self._log.lost(session.worker)
        reaction = self._core.leave(session.worker)
        if reaction.applied or reaction.answers:
            self._log.settled(reaction)
            self._react(reaction)

    def _refuse(self, session: Session, reason: str) -> None:
        self._take_in_collected()
        if not self._sessions.knows(session):
            return
        self._sessions.cut(session, reason)
        self._forget(session)
        self._refusals.tell(session.who if session.joined else "a connection", reason, peer=session.peer)

    def _say(self, session: Session, kind: Kind, *, flags: int = 0) -> None:
        try:
            session.send(kind, flags=flags)
        except Hangup:
            self._gone(session)

    def _send_weights(self, session: Session, flags: int = 0) -> None:
        assert session.place is not None
        self._core.send(session.place)
        self._answer(session, flags)

    def _answer(self, session: Session, flags: int = 0) -> None:
        """The weights are in the slot: name their version, then wake the trainer."""
        assert session.slot is not None
        assert session.memory is not None
        session.memory.give()
        clocks = self._core.clocks
        session.slot.version = clocks.version
        try:
            session.answer(clocks.version, self._core.next_step(session.worker), clocks.gradients, flags)
        except Hangup:
            self._gone(session)

    # ------------------------------------------------------------ pushes

    def _pushed(self, session: Session, frame: Frame) -> None:
        if self._ending is not None:
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
        if self._collects:
            self._collected.append(pushed)
            return
        reaction = self._core.receive(push)
        self._take_down(pushed)
        self._log.settled(reaction)
        self._react(reaction)

    def _take_in_collected(self) -> None:
        """Have a walk for several of the pushes that came in this turn, as far as the budget goes."""
        while self._collected and self._ending is None:
            clocks = self._core.clocks
            most = min(TOGETHER, self._run.budget.left(gradients=clocks.gradients, updates=clocks.version))
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
                self._refuse(session, reason)
        self._collected.clear()

    def _take_down(self, pushed: Pushed) -> None:
        """A gradient has been received: note what came with it."""
        self._log.pushed(pushed.push, pushed.sequence)
        self._not_finite_in_a_row = 0
        self._recent_not_finite.append(False)
        self._measured[pushed.push.worker, pushed.push.step] = pushed.measured, pushed.asked

    def _react(self, reaction: Reaction) -> None:
        """Answer whom the core lets go on. What there is to report waits until nobody else is to be answered."""
        if self._budget_spent():
            self._end(Ending(Outcome.COMPLETED, "the budget is spent", "budget-spent"))
        by_worker = self._by_worker
        for applied in reaction.applied:
            session = by_worker.get(applied.worker)
            if session is not None:
                session.staleness = applied.staleness
        # Taken out first: a trainer that turns out to be gone while it is answered takes what still waits with it.
        measured = [self._measured.pop((a.worker, a.step)) for a in reaction.applied]
        if self._ending is None:
            for worker in reaction.answers:
                session = by_worker.get(worker)
                if session is not None:
                    self._answer(session, frames.NOT_APPLIED if worker in reaction.dropped else 0)
        if reaction.dropped:
            self._measured = {k: m for k, m in self._measured.items() if k[0] not in reaction.dropped}
        self._unreported.append((reaction, measured))
        self._evaluations.begin_if_due()

    def _report(self) -> None:
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

    def _budget_spent(self) -> bool:
        clocks = self._core.clocks
        return self._run.budget.spent_updates(gradients=clocks.gradients, updates=clocks.version)

    def _not_finite(self, session: Session, frame: Frame) -> None:
        """Refuse a gradient before it touches the weights; a run that keeps making them has failed."""
        assert session.place is not None
        self._take_in_collected()  # what came before it counts before it
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
            self._end(Ending(Outcome.FAILED, message, cause=Cause.NON_FINITE))
        else:
            self._answer(session, frames.NOT_APPLIED)

    # ------------------------------------------------------------ where it stands

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a restart included."""
        now = 0.0 if self._started_at is None else time.monotonic() - self._started_at
        return self._seconds_before + now

    def progress(self) -> Progress:
        """Called from the reporter's thread: reads numbers, changes nothing."""
        clocks = self._core.clocks
        fraction = self._run.budget.fraction(gradients=clocks.gradients, updates=clocks.version, seconds=self.seconds)
        return Progress(clocks.version, clocks.gradients, fraction, clocks.refused, dict(enumerate(clocks.applied)))

    def _meta(self) -> Meta:
        metrics = self._evaluations.of(self._core.version)
        return meta_of(self._core, self._assignment, self._spec, seconds=self.seconds, metrics=metrics)
