"""The server child: feeds the core from the sessions, keeps the clocks, and brings the run to its end."""

from __future__ import annotations

import math
import time
from pathlib import Path

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
from workers.server.intake import Ending, Intake
from workers.server.memory import Memories
from workers.server.passes import HandOver
from workers.server.pushes import Stale
from workers.server.sessions import Hangup, Identity, Refusal, Session, Sessions
from workers.server.telemetry import Telemetry
from workers.transport import frames
from workers.transport.frames import Frame, FrameError, Kind
from workers.transport.gateway import Gateway
from workers.transport.patience import cores_for
from workers.transport.refusals import Refusals
from workers.transport.relay import Terms
from workers.transport.shared_memory import SlotSize, check_room

GATHER_SECONDS = 15.0
"""After the first trainer has come, the others have this long before the run starts with the least number."""
ALONE_SECONDS = 600.0
"""A server that nobody works for gives its slot back."""
TICK_SECONDS = 0.2
RATE_SECONDS = 1.0


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
        self._checkpointer = Checkpointer(self._run, Path(child.assignment.checkpoint_dir), child.reporter)
        self._evaluations = Evaluations(
            self._run, self._sessions, self._telemetry, child.reporter, every=self._evaluation_every()
        )
        self._intake = Intake(child.spec, self._run, self._log, self._telemetry, child.reporter, self)
        self.ending: Ending | None = None
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
        manifest, has_cores = layout.manifest(self._run.metrics), cores_for(self._spec.slots)
        return Identity(self._assignment, manifest, trainer, evaluator, workers, has_cores)

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
            while self.ending is None:
                self._turn()
            return self._finish(self.ending)
        finally:
            self._intake.report()
            self._sessions.close()
            if self._gateway is not None:
                self._gateway.close()
            self._refusals.close()
            self._log_writer.close()

    def _turn(self) -> None:
        intake = self._intake
        speaking = self._sessions.poll(0.0 if intake.owes_reports else TICK_SECONDS)
        if not speaking or intake.owes_many:
            intake.report()
        intake.collects = len(speaking) > 1 and self._core.coalesces
        for session in speaking:
            self._hear(session)
            self._evaluations.begin_if_due()
        intake.take_in_collected()
        self._evaluations.begin_if_due()
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            intake.report()
            self._tick(now)

    def _tick(self, now: float) -> None:
        for session in self._sessions.late_strangers():
            self._sessions.cut(session, "no join came in time")
        if self._stop.requested:
            self.end(Ending(Outcome.STOPPED, "stopped as asked"))
        elif self._started_at is None:
            self._gather(now)
        else:
            self._while_training(now)
        if self._sessions.trainers():
            self._company_at = now
        elif now - self._company_at > ALONE_SECONDS:
            self.end(Ending(Outcome.FAILED, f"no trainer for {ALONE_SECONDS:.0f} s", cause=Cause.DEADLINE))

    def _while_training(self, now: float) -> None:
        if self._run.budget.spent_seconds(self.seconds):
            self.end(Ending(Outcome.COMPLETED, "the time is spent", "budget-spent"))
        if now >= self._next_rate:
            self._next_rate = now + RATE_SECONDS
            self._telemetry.rate(self._core.version)
        if now >= self._next_checkpoint and not self._checkpointer.busy and self._core.version > self._saved_version:
            self._next_checkpoint = now + (self._spec.checkpoints.every_seconds or math.inf)
            self._saved_version = self._core.version
            self._checkpointer.start(self._meta())
        if self._evaluations.reached(self._spec.budget.target):
            self.end(Ending(Outcome.COMPLETED, f"{self._evaluations.latest_text} reaches the target", "target-reached"))
        self._evaluations.begin_if_due()

    def end(self, ending: Ending) -> None:
        """Leave the loop after this turn; the first reason counts."""
        self.ending = self.ending or ending

    def _finish(self, ending: Ending) -> Exit:
        if ending.kind:
            self._reporter.event(ending.kind, ending.message, version=self._core.version)
        completed = ending.outcome is Outcome.COMPLETED
        self._tell_trainers(completed)
        self._intake.report()
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
            self.end(Ending(Outcome.FAILED, message, cause=Cause.DEADLINE))

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
        self._intake.end_if_spent()

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
            self.refuse(session, str(refusal))

    def _handle(self, session: Session, frame: Frame) -> None:
        if frame.kind == Kind.PUSH and session.place is not None and not session.evaluator:
            self._intake.pushed(session, frame)
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
        if self.ending is not None and not frame.flags & frames.EVALUATOR:
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
            self.refuse(holder, "a later member has its place")

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
        compressed = bool(session.peer) and self._spec.transport.compression.kind != "none"
        self._intake.joined(session, compressed=compressed)
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
        self._intake.take_in_collected()  # its own last push may be among them
        if not self._sessions.knows(session):
            return  # answering that push has found it gone already
        self._sessions.cut(session)
        if not session.joined:
            return
        if session.evaluator:
            self._evaluations.lost()
        self._intake.forget(session)
        expected = session.left or self.ending is not None
        self._reporter.event(
            "left",
            f"{session.who} left" if expected else f"{session.who} was lost",
            level="info" if expected else "warning",
            worker=session.worker,
            member=session.member,
            expected=expected,
            version=self._core.version,
        )

    def refuse(self, session: Session, reason: str) -> None:
        """End a session for what it did, and say so to it and to the run's owner."""
        self._intake.take_in_collected()
        if not self._sessions.knows(session):
            return
        self._sessions.cut(session, reason)
        self._intake.forget(session)
        self._refusals.tell(session.who if session.joined else "a connection", reason, peer=session.peer)

    def _say(self, session: Session, kind: Kind, *, flags: int = 0) -> None:
        try:
            session.send(kind, flags=flags)
        except Hangup:
            self._gone(session)

    def _send_weights(self, session: Session, flags: int = 0) -> None:
        assert session.place is not None
        self._core.send(session.place)
        self.answer(session, flags)

    def answer(self, session: Session, flags: int = 0) -> None:
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
