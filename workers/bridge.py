"""The Django side of one member: a supervisor that starts its child, stores what it reports, and ends it.

It runs in a thread of the node agent. Its child trains on when the database is away, when this agent dies, and
when another one takes over; only an answer of the database that says otherwise ends it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import NamedTuple

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from trainhub.actions import artifacts, members, runs, telemetry
from trainhub.actions.members import Fenced, Orders, OutOfReach, Way
from trainhub.models import Artifact, Dataset, Member, Slot, Wish
from workers import children, gpus
from workers.assignment import SERVER_WORKER, Assignment, Cause, Exit, Outcome, Role
from workers.evaluator_keeper import EvaluatorKeeper
from workers.events import Event, SpoolError
from workers.failures import Failure
from workers.log_reader import LogReader
from workers.spec import FromCheckpoint
from workers.spool_reader import SpoolReader
from workers.transport import credentials
from workers.transport.credentials import Pair

log = logging.getLogger(__name__)

TICK_SECONDS = 0.02
BEAT_SECONDS = 0.5
LOG_SECONDS = 0.2
DATABASE_RETRY_SECONDS = 0.5
SHUTDOWN_SECONDS = 15.0
"""How long a child may take to leave when its node shuts down."""
FAREWELL_SECONDS = 2.0
"""How long a child may take to leave when its run has ended without it."""


@dataclass(frozen=True)
class Place:
    """What a supervisor must know of its node."""

    node: str
    home: Path
    runtime_dir: Path
    shm_prefix: str
    threads: int
    environment: dict[str, object]
    address: str = ""
    """Where members on other nodes reach this one's. Empty: nowhere, and no server here opens a port."""


class Device(NamedTuple):
    """What a child computes on, as its assignment names it."""

    device: str
    gpu: str
    gpus: tuple[str, ...] = ()
    """Of all devices of a machine group. Empty: it is one device, or they are CPUs."""


CPU = Device("cpu", "")


class Supervisor:
    """One member's keeper, from the doorbell to its end. One thread owns it."""

    def __init__(self, member: Member, place: Place, shutdown: threading.Event) -> None:
        self.member = member
        self.place = place
        self.shutdown = shutdown
        self.child: children.Child | None = None
        self.spool: SpoolReader | None = None
        self.log: LogReader | None = None
        self.evaluator: EvaluatorKeeper | None = None
        self.stop_deadline: float | None = None
        self.next_beat = 0.0
        self.next_log = 0.0
        self.outage = Outage(member)

    def run(self) -> None:
        """Keep the member until it has ended, and write how. An agent's shutdown ends it in order."""
        try:
            if self.member.work_dir:
                self.child = children.adopt(Path(self.member.work_dir), patience_seconds=2)
            elif not self._get_a_role():
                return
            else:
                self._launch()
            self._watch()
        except Fenced as reason:
            log.info("%s", reason)
            self._write_end(self._end_child() or Exit(Outcome.STOPPED, None, str(reason)))
        except Failure as reason:
            self._write_end(Exit(Outcome.FAILED, reason.cause, str(reason)))
        finally:
            connection.close()

    # ------------------------------------------------------------ becoming somebody

    def _get_a_role(self) -> bool:
        """Win the promotion or join its winner. False: the member ended before it had a role."""
        pause = TICK_SECONDS
        while True:
            with self.outage:
                if self.shutdown.is_set() or self._orders().wish:
                    members.end(self.member, Exit(Outcome.STOPPED))
                    return False
                if epoch := members.claim(self.member, certify=self._certify()):
                    self.member = members.get(self.member.pk)
                    log.info("%s: promoted to %s, epoch %s", self.member.attempt, self.member.role, epoch)
                    return True
                if joined := members.become_trainer(self.member):
                    self.member = joined
                    return True
            self.shutdown.wait(pause)
            pause = min(pause * 1.3, 0.25)

    def _certify(self) -> Callable[[int, int], Pair] | None:
        """What makes the certificates of an epoch. None: its server opens no port."""
        opens = self.place.address and not self.member.attempt.run.is_simulated
        return _certificates if opens else None

    def _launch(self) -> None:
        """Write where the child works, then start it: whoever comes after us finds it."""
        run_dir = self.place.home / "runs" / str(self.member.attempt.run_id)
        work_dir = run_dir / str(self.member.attempt.number) / str(self.member.pk)
        members.launching(self.member, str(work_dir))
        self.member.work_dir = str(work_dir)
        assignment = replace(self._assignment(run_dir, work_dir), restore=self._restore_point())
        if self.member.leads:
            members.note_environment(self.member.attempt, self._environment())
        self.child = children.start(assignment)
        members.running(self.member)

    def _assignment(self, run_dir: Path, work_dir: Path) -> Assignment:
        run, member = self.member.attempt.run, self.member
        where = self._device()
        way = self._way()
        return Assignment(
            run=run.pk,
            attempt=member.attempt.number,
            epoch=member.epoch,
            member=member.pk,
            role=Role(member.role),
            worker=SERVER_WORKER if member.worker is None else member.worker,
            work_dir=str(work_dir),
            checkpoint_dir=str(run_dir / "checkpoints"),
            endpoint=way.endpoint,
            listen=self.place.address if way.tls and member.role == Role.SERVER else "",
            tls=way.tls,
            spec=run.run_spec.canonical(),
            shm_prefix=f"{self.place.shm_prefix}r{run.pk}e{member.epoch}",
            run_key=bytes(run.key),
            threads=self.place.threads,
            data=str(self.place.home / dataset.path) if (dataset := self._dataset()) else "",
            kernels=str(self.place.home / "kernels"),
            device=where.device,
            gpu=where.gpu,
            gpus=where.gpus,
        )

    def _device(self) -> Device:
        """Where the child computes: a trainer on its slot's GPU, a machine group on those of all its slots; the server
        where all of its trainers are, if that is one GPU of this node, so that nothing leaves it; everybody else on
        CPUs. A machine group shares host memory with its server, wherever its devices are."""
        spec, role = self.member.attempt.run.run_spec, self.member.role
        if spec.device != gpus.CUDA:
            return CPU
        if role == Role.TRAINER:
            return _devices_of(members.slots_of(self.member)) if spec.shards > 1 else _device_of(self.member.slot)
        return self._gpu_of_all() if role == Role.SERVER and spec.shards == 1 else CPU

    def _gpu_of_all(self) -> Device:
        slots = [m.slot for m in members.trainers_of(self.member.attempt)]
        found = {_device_of(slot) if self._here(slot) else CPU for slot in slots}
        return found.pop() if len(found) == 1 else CPU

    def _here(self, slot: Slot | None) -> bool:
        return slot is not None and self.member.slot is not None and slot.node_id == self.member.slot.node_id

    def _evaluator_device(self) -> Device:
        """A GPU of this node that a trainer has, where the spec asks for one."""
        if self.member.attempt.run.run_spec.evaluation.device != gpus.CUDA:
            return CPU
        held = (_device_of(m.slot) for m in members.trainers_of(self.member.attempt) if self._here(m.slot))
        return next((device for device in held if device != CPU), CPU)

    def _dataset(self) -> Dataset | None:
        """The data set that the problem names. None: it names none, or there is none."""
        run = self.member.attempt.run
        name = getattr(run.run_spec.problem, "dataset", None)
        return Dataset.objects.filter(project=run.experiment.project_id, name=name).first() if name else None

    def _environment(self) -> dict[str, object]:
        """What the attempt runs on. The data set's facts are kept with it: the data set may be deleted one day."""
        dataset = self._dataset()
        return {**self.place.environment, **({"dataset": dataset.facts} if dataset else {})}

    def _way(self) -> Way:
        """Where the server listens, and what is shown there. Empty for a simulation, which has nobody to listen to."""
        if self.member.role == Role.SIMULATION:
            return Way("")
        if self.member.role == Role.SERVER:
            socket = self.place.runtime_dir / f"r{self.member.attempt.run_id}e{self.member.epoch}.sock"
            return Way(str(socket), members.credentials_of_server(self.member))
        try:
            return members.way_to_server(self.member)
        except OutOfReach as reason:
            raise Failure(Cause.NODE_LOST, str(reason)) from None

    def _restore_point(self) -> str | None:
        """What a server starts from: newest whole checkpoint of this run; else the one its spec names; else none.

        A simulation always begins anew. Raises Failure where the one that the spec names is gone: fresh weights are not
        what was asked for.
        """
        if self.member.role != Role.SERVER:
            return None
        run = self.member.attempt.run
        candidates = artifacts.newest_checkpoints(run)
        start = run.run_spec.start
        if isinstance(start, FromCheckpoint):
            given = runs.start_checkpoint(run.experiment.project, start)
            candidates += [given] if given else []
        found = next((c.path for c in candidates if _is_whole(c)), None)
        if found is None and isinstance(start, FromCheckpoint):
            raise Failure(Cause.SPEC, f"start.run: the checkpoint of run {start.run} is gone or damaged")
        return found

    # ------------------------------------------------------------ keeping it

    def _watch(self) -> None:
        assert self.child is not None
        self.spool = SpoolReader(self.child.work_dir, file=self.member.spool_file, offset=self.member.spool_offset)
        self.log = LogReader(self.child.work_dir / "output.log", offset=self.member.log_offset)
        if self.member.role == Role.SERVER:
            self.evaluator = EvaluatorKeeper(self._evaluator_assignment())
        try:
            while self.child.alive:
                self._tick()
                self.child.wait(TICK_SECONDS)
        finally:
            if self.evaluator:
                self.evaluator.stop()
        self._write_end(self.child.last_word())

    def _tick(self) -> None:
        now = time.monotonic()
        if self.shutdown.is_set():
            self._stop_in_order(now + SHUTDOWN_SECONDS, now)
        if now < self.outage.again_at:
            return
        with self.outage:
            self._store_reports()
            if now >= self.next_log:
                self.next_log = now + LOG_SECONDS
                self._store_log()
            self._beat_when_due()
            if self.evaluator:
                self._tend_evaluator()

    def _beat_when_due(self) -> None:
        now = time.monotonic()
        if now >= self.next_beat:
            self.next_beat = now + BEAT_SECONDS
            self._obey(self._orders(), now)

    def _orders(self) -> Orders:
        return members.beat(self.member)

    def _obey(self, orders: Orders, now: float) -> None:
        if not orders.wish or self.child is None:
            return
        if not self.member.leads and orders.wish != Wish.KILL:
            return  # The server tells its trainers
        left = (orders.deadline - timezone.now()) if orders.deadline else dt.timedelta(0)
        self._stop_in_order(now + left.total_seconds(), now)

    def _stop_in_order(self, deadline: float, now: float) -> None:
        """Ask the child once; past the deadline, don't ask."""
        assert self.child is not None
        if deadline <= now or (self.stop_deadline is not None and self.stop_deadline <= now):
            self.child.send(SIGKILL)
        elif self.stop_deadline is None:
            self.stop_deadline = deadline
            self.child.send(SIGTERM)

    def _store_reports(self) -> None:
        if self.spool is None:
            return
        try:
            for batch, file, offset in self.spool.read():
                if telemetry.store(self.member, batch, telemetry.Position(file, offset)):
                    self._prune(batch.events)
                # A model of many layers on a slow disk may leave a backlog of seconds: that is no silence.
                self._beat_when_due()
        except SpoolError as damage:
            log.error("%s: %s; what is behind it is read on", self.member, damage)
            self.spool.skip_damage()

    def _prune(self, events: list[Event]) -> None:
        if any(e.kind == "checkpoint" for e in events):
            for path in artifacts.prune(self.member.attempt.run):
                Path(path).unlink(missing_ok=True)

    def _store_log(self) -> None:
        if self.log is None:
            return
        lines, behind = self.log.read()
        if lines:
            telemetry.store_log(self.member, lines, behind)
            self.log.offset = behind

    def _tend_evaluator(self) -> None:
        assert self.evaluator is not None
        broken = self.evaluator.tend(time.monotonic())
        if broken is not None:
            members.evaluator_failed(self.member, broken)

    def _evaluator_assignment(self) -> Assignment:
        assert self.child is not None
        run_dir = self.child.work_dir.parent.parent
        work_dir = self.child.work_dir.with_name(f"{self.child.work_dir.name}-evaluator")
        where = self._evaluator_device()
        servers = self._assignment(run_dir, work_dir)
        mine = replace(servers, role=Role.EVALUATOR, worker=SERVER_WORKER, device=where.device, gpu=where.gpu)
        return replace(mine, listen="", tls=None)

    # ------------------------------------------------------------ its end

    def _end_child(self) -> Exit | None:
        """End a child that is not wanted any more. One whose run has just ended may be leaving by itself."""
        if self.child is None:
            return None
        if not self.child.wait(FAREWELL_SECONDS):
            self.child.send(SIGKILL)
            self.child.wait(5)
        return self.child.last_word()

    def _write_end(self, ending: Exit) -> None:
        """Store the last reports, then the end, however long the database takes to come back."""
        self._sweep()
        while True:
            with self.outage:
                try:
                    self._store_reports()
                    self._store_log()
                except Fenced:
                    log.info("%s: last reports of an epoch that is over", self.member)
                members.end(self.member, ending)
                return
            if self.shutdown.wait(DATABASE_RETRY_SECONDS):
                return  # The next agent of this node finds the child ended, and writes it

    def _sweep(self) -> None:
        """Remove what a killed server left in shared memory and among the sockets."""
        if self.member.role == Role.SERVER:
            run, epoch = self.member.attempt.run_id, self.member.epoch
            for left in Path("/dev/shm").glob(f"{self.place.shm_prefix}r{run}e{epoch}-*"):
                left.unlink(missing_ok=True)
            (self.place.runtime_dir / f"r{run}e{epoch}.sock").unlink(missing_ok=True)


class Outage:
    """Lets a supervisor survive a database that is away: look again in a moment, over a fresh connection."""

    def __init__(self, who: Member) -> None:
        self.who = who
        self.again_at = 0.0

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, OperationalError | InterfaceError):
            if error is None:
                self.again_at = 0.0
            return False
        if self.again_at == 0.0:
            log.warning("%s: the database does not answer: %s", self.who, error)
        self.again_at = time.monotonic() + DATABASE_RETRY_SECONDS
        connection.close()
        return True


def _device_of(slot: Slot | None) -> Device:
    return Device("cuda:0", slot.device["uuid"]) if slot is not None and slot.kind == gpus.CUDA else CPU


def _devices_of(slots: Sequence[Slot]) -> Device:
    uuids = tuple(slot.device["uuid"] for slot in slots)
    return Device("cuda:0", uuids[0], uuids)


def _certificates(run: int, epoch: int) -> Pair:
    return credentials.make(run=run, epoch=epoch)


def _is_whole(checkpoint: Artifact) -> bool:
    """Whether the file is here and is what was written."""
    try:
        with Path(checkpoint.path).open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == checkpoint.sha256
    except FileNotFoundError:
        whole = False
    if not whole:
        log.warning("checkpoint %s is missing or damaged; trying an older one", checkpoint.path)
    return whole
