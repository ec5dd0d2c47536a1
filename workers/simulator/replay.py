"""Computes a real run's weights again from its gradient log: the same, to the bit.

Gradients are made anew, each at the weights its trainer had read, and pushed in the order they came. What the server
does with them is compared, record by record, with what it did then.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from workers import checkpoint
from workers.assignment import Cause
from workers.failures import Failure
from workers.kernels import choosing
from workers.server import setup
from workers.server.checkpoints import model_tensors, restore
from workers.server.event_log import NO_SCALE, EventLog, Fate, Header, Log, Record
from workers.server.passes import EAGER
from workers.server.pushes import Push, Reaction, Stale
from workers.simulator.displacing import CandidateTrainers, trainers_of
from workers.simulator.snapshots import Snapshot, private
from workers.simulator.trainers import Measured, Place
from workers.simulator.wires import Wires
from workers.spec import RunSpec

GRADIENTS = (Fate.APPLIED, Fate.DROPPED, Fate.REFUSED)


class Refused(Failure):
    """This machine can't give the same weights, or the log does not fit."""

    def __init__(self, message: str) -> None:
        super().__init__(Cause.SPEC, message)


@dataclass(frozen=True)
class Replayed:
    """What came out: `tensors` as a checkpoint names them."""

    tensors: dict[str, Tensor]
    version: int
    gradients: int
    hash: str

    def differences(self, path: Path) -> list[str]:
        """Names of the model's tensors that are not, bit for bit, what the checkpoint holds. Raises Failure."""
        saved = checkpoint.model_state(checkpoint.read(path)[0])
        names = sorted(saved.keys() | self.tensors.keys())
        return [n for n in names if n not in saved or n not in self.tensors or not same(saved[n], self.tensors[n])]


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same bytes, NaN and the sign of 0 included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    flat = one.contiguous().reshape(-1), other.contiguous().reshape(-1)
    return torch.equal(flat[0].view(torch.uint8), flat[1].view(torch.uint8))


def replay(
    log: Log,
    *,
    restored: Path | None = None,
    data: Path | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Compute the weights that the log leads to. `restored` is the checkpoint the run went on from, if it did; `data`
    the folder of the data set that its problem names.

    `watch` is told how many of how many records are done. Raises Refused before anything is computed where this
    machine's arithmetic is another, and Failure at the first record that comes out differently.
    """
    spec = RunSpec.parse(log.header.spec)
    check(log.header, spec, restored)
    with threads(log.header.threads):
        return Player(spec, log, restored, data).play(watch)


def check(header: Header, spec: RunSpec, restored: Path | None) -> None:
    """Raises Refused, saying what differs."""
    if header.device != "cpu":
        what = f"this run computed on {header.device}, where sums are made in another order each time"
        raise Refused(f"{what}; only what computed on CPUs comes out again to the bit")
    here = Header.here(spec, run=header.run, attempt=header.attempt, restored=header.restored)
    there = header.arithmetic
    # Threads are set to what they were.
    other = {k: v for k, v in here.arithmetic.items() if k != "threads" and v != there[k]}
    if other:
        words = "; ".join(f"{name} is {value} here and was {there[name]} there" for name, value in other.items())
        raise Refused(f"the same weights can't be promised on this machine: {words}")
    if header.restored is not None and restored is None:
        raise Refused(f"this attempt went on from the checkpoint of version {header.restored}: name that file too")
    if header.restored is None and restored is not None:
        raise Refused("this attempt began with fresh weights: it takes no checkpoint")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads an operation, for a while: a sum's last bit depends on how it is split."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Player:
    """Plays one log."""

    def __init__(self, spec: RunSpec, log: Log, restored: Path | None, data: Path | None) -> None:
        self._log = log
        self._run = setup.build(spec, data)
        self._core = self._run.core
        self._use_kernel(log.header.kernel)
        if restored is not None:
            take = spec.start.take if spec.start.kind == "checkpoint" else "all"
            meta = restore(self._run, restored, own_run=log.header.run, take=take)
            if meta.version != log.header.restored:
                raise Refused(
                    f"{restored} leaves the run at version {meta.version}; the log starts at {log.header.restored}"
                )
        self._trainers = trainers_of(spec, self._run)
        self._wires = Wires(spec)
        self._private = self._core.rules.answers_privately
        self._own: dict[int, Snapshot] = {}
        """What trainers were answered with, where that is not the server's weights."""
        first = log.records[0] if log.records else None
        self._again = EventLog(None, attempt=first.attempt if first else 0, epoch=first.epoch if first else 0)
        self._scratch = Place(self._run)
        self._places: dict[int, Place] = {}
        self._free: list[Place] = []
        # A snapshot is kept for as long as gradients on it are to come.
        self._needed = Counter(r.base_version for r in log.records if r.fate in GRADIENTS)
        self._snapshots: dict[int, Snapshot] = {}
        self._keep()

    def _use_kernel(self, kernel: str) -> None:
        """Have the server walk as it did in the run. Raises Refused where this machine makes another kernel."""
        if kernel == EAGER:
            return
        with tempfile.TemporaryDirectory(prefix="trainhub-kernel-") as folder:
            if not choosing.use_the_same(self._core, kernel, Path(folder)):
                raise Refused(
                    f"the run's server used the compiled kernel {kernel}, which this machine can't make: it takes the "
                    "same C++ compiler, processor and version of TrainHub"
                )

    def play(self, watch: Callable[[int, int], None] | None) -> Replayed:
        records = self._log.in_order_of_arrival
        for index, record in enumerate(records):
            self._play(record)
            if watch is not None:
                watch(index + 1, len(records))
        self._again.flush()
        if self._again.hash != self._log.hash:
            raise Failure(Cause.ENGINE, "the replay dealt with the gradients in another way than the run")
        core = self._core
        tensors = model_tensors(self._run, core.exported, core.buffers, core.clocks.statistics)
        return Replayed(tensors, core.version, core.clocks.gradients, self._again.hash)

    def _play(self, record: Record) -> None:
        # Gradients that were forgotten with their trainer have left no record, only a number.
        self._again.flush()
        self._again.arrivals = record.arrival - 1
        match record.fate:
            case Fate.JOINED | Fate.JOINED_COMPRESSED:
                compressed = record.fate == Fate.JOINED_COMPRESSED
                self._again.joined(record.worker, compressed=compressed)
                self._core.join(record.worker)
                self._trainers.forget(record.worker)
                self._wires.joined(record.worker, compressed=compressed)
            case Fate.LOST:
                self._again.lost(record.worker)
                self._own.pop(record.worker, None)
                self._settle(self._core.leave(record.worker))
            case _:
                self._push(record)

    def _push(self, record: Record) -> None:
        read = self._read(record)
        place = self._free.pop() if self._free else Place(self._run)
        measured = self._compute(record, read, place)
        asked = None if record.asked == NO_SCALE else record.asked
        push = Push(record.worker, place.hand_over, record.base_version, record.step, asked, record.gradients)
        self._again.pushed(push, record.sequence)
        if measured.finite == (record.fate == Fate.REFUSED):
            raise self._differs(record, f"its gradient has the norm {measured.gradient_norm}")
        try:
            if measured.finite:
                self._places[record.worker] = place
                self._settle(self._core.receive(push))
            else:
                self._core.refuse(push)
                self._again.refused(record.worker)
                self._own.pop(record.worker, None)
                if isinstance(self._trainers, CandidateTrainers):
                    self._trainers.restart(record.worker)
                self._free.append(place)
        except Stale as stale:
            raise self._differs(record, str(stale)) from None

    def _compute(self, record: Record, read: Snapshot, place: Place) -> Measured:
        if not isinstance(self._trainers, CandidateTrainers):
            measured = self._trainers.compute(record.worker, record.step, read, place)
            self._wires.carry(record.worker, place.gradient, measured)
            return measured
        own = self._trainers.go_on(record.worker, record.step, record.gradients, read)
        if own is None:
            raise self._differs(record, "its trainer pushes after another number of gradients")
        self._trainers.leave_in(record.worker, place)
        return own

    def _read(self, record: Record) -> Snapshot:
        version = record.base_version
        read = self._snapshots.get(version)
        if read is None:
            raise self._differs(record, f"version {version} does not exist yet, or nobody was said to read it")
        self._needed[version] -= 1
        if self._needed[version] == 0:
            del self._snapshots[version]
        return self._own.pop(record.worker, read)

    def _settle(self, reaction: Reaction) -> None:
        self._again.settled(reaction)
        for worker in reaction.answers:
            place = self._places.pop(worker, None)
            if place is not None:
                if self._private and worker not in reaction.dropped:
                    clocks = self._core.clocks
                    self._own[worker] = private(clocks.version, clocks.gradients, place.weights, place.served)
                self._free.append(place)
        self._keep()

    def _keep(self) -> None:
        """Keep the present version if a gradient on it is to come."""
        version = self._core.version
        if self._needed[version] and version not in self._snapshots:
            self._core.send(self._scratch.hand_over)
            gradients, scratch = self._core.clocks.gradients, self._scratch
            self._snapshots[version] = private(version, gradients, scratch.weights, scratch.served)

    @staticmethod
    def _differs(record: Record, how: str) -> Failure:
        return Failure(Cause.ENGINE, f"the replay comes out differently at [{record}]: {how}")
