"""What became of every gradient, in the order the server dealt with it: enough to compute a run's weights again.

A log is a header (JSON) and records of a fixed size, in compressed blocks; at its end stand a closing record and the
SHA-256 of all records. Records hold causes only, no times: two runs that did the same have the same hash. Numbers are
the doubles the server computed with, bit for bit; shown to people, they are hex floats.

The server's thread only appends to a list; a thread of the log's makes records of it, compresses and writes.
A disk that fails costs the log, never the run.
"""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from workers.assignment import Cause
from workers.failures import Failure
from workers.server.passes import EAGER
from workers.server.pushes import Push, Reaction
from workers.spec import RunSpec

FILE_NAME = "gradients.log"
MAGIC = b"TrainHub gradient log 2\n"
LENGTH = struct.Struct("<I")
RECORD = struct.Struct("<BBHiIQQQQIddd")
FLUSH_SECONDS = 0.5
BLOCK_WORDS = 256
MAX_BLOCK_BYTES = 64 * 1024 * 1024
NO_SCALE = -1.0
"""In `asked`: the learner left the scale to the server's rule."""


class Fate(IntEnum):
    APPLIED = 1
    DROPPED = 2  # by the gate or the rate rule
    REFUSED = 3  # not finite
    JOINED = 4  # a trainer came
    LOST = 5  # a trainer went
    END = 6
    JOINED_COMPRESSED = 7  # a trainer came from another host, and its pushes are compressed on their way


class Record(NamedTuple):
    """One push, or a trainer's coming or going. `arrival` counts both, in the order the server heard of them.

    `gradients` of a displacement is the history of its merges too: a trainer that never waits pushes at the end of the
    very period in which its last push was answered, so the counts say when each answer reached it.
    """

    fate: int
    group_end: int
    attempt: int
    worker: int
    epoch: int
    sequence: int
    arrival: int
    base_version: int
    step: int
    gradients: int
    asked: float
    scale: float
    learning_rate: float

    def __str__(self) -> str:
        numbers = f"{self.asked.hex()} {self.scale.hex()} {self.learning_rate.hex()}"
        return (
            f"{self.arrival} {Fate(self.fate).name.lower()} worker={self.worker} attempt={self.attempt} "
            f"epoch={self.epoch} sequence={self.sequence} read={self.base_version} step={self.step} "
            f"gradients={self.gradients} asked,scale,rate={numbers}{' end-of-group' if self.group_end else ''}"
        )


@dataclass(frozen=True)
class Header:
    """What the numbers rest on. The same records give the same weights only where all of `arithmetic` is the same."""

    spec: dict[str, Any]
    run: int
    attempt: int
    restored: int | None
    """Version of the checkpoint it went on from. None: it began afresh."""
    threads: int
    torch: str
    torch_build: str
    numpy: str
    cpu: str
    machine: str
    kernel: str = EAGER
    """What walks over the vectors: tensor code, or a compiled kernel's name."""
    device: str = "cpu"
    """What trainers computed on."""

    @classmethod
    def here(cls, spec: RunSpec, *, run: int, attempt: int, restored: int | None, kernel: str = EAGER) -> Header:
        """The header of a log that is written in this process."""
        return cls(
            spec=json.loads(spec.canonical()),
            run=run,
            attempt=attempt,
            restored=restored,
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
            torch_build=hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:16],
            numpy=np.__version__,
            cpu=torch.backends.cpu.get_cpu_capability(),
            machine=platform.machine(),
            kernel=kernel,
            device=spec.device,
        )

    @property
    def arithmetic(self) -> dict[str, str | int]:
        """What decides over the last bit of a result."""
        names = ("threads", "torch", "torch_build", "numpy", "cpu", "machine")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Pushed:
    """A gradient as it came; what became of it is told later."""

    arrival: int
    sequence: int
    base_version: int
    gradients: int
    asked: float


class Arrived(NamedTuple):
    push: Push
    sequence: int


class Change(NamedTuple):
    """A trainer came or went, or its last gradient was refused."""

    fate: Fate
    worker: int


class EventLog:
    """Appends records. `file` None: only their hash is kept.

    One thread tells and one flushes, without a lock, as `workers.reporting.Table` does: to tell is to append to a
    list, and records are made of that at the flush, off the way of any gradient.
    """

    def __init__(self, file: BinaryIO | None, *, attempt: int, epoch: int) -> None:
        self._file = file
        self._attempt, self._epoch = attempt, epoch
        self._told: list[Arrived | Reaction | Change] = []
        self._pending: dict[tuple[int, int], Pushed] = {}
        self._digest = hashlib.sha256()
        self.arrivals = 0
        """How many gradients, comings and goings have been taken down."""

    # ------------------------------------------------------------ what the server tells

    def pushed(self, push: Push, sequence: int) -> None:
        """A gradient came, in the frame of that number."""
        self._told.append(Arrived(push, sequence))

    def settled(self, reaction: Reaction) -> None:
        """What was applied and dropped since."""
        self._told.append(reaction)

    def refused(self, worker: int) -> None:
        """The gradient that came last from `worker` was not finite."""
        self._told.append(Change(Fate.REFUSED, worker))

    def joined(self, worker: int, *, compressed: bool = False) -> None:
        """`compressed`: its pushes are, on their way here."""
        self._told.append(Change(Fate.JOINED_COMPRESSED if compressed else Fate.JOINED, worker))

    def lost(self, worker: int) -> None:
        """A trainer went, and its gradients that wait are forgotten."""
        self._told.append(Change(Fate.LOST, worker))

    @property
    def waiting(self) -> int:
        """How much has been told since the last flush."""
        return len(self._told)

    # ------------------------------------------------------------ records

    def _records(self, told: list[Arrived | Reaction | Change]) -> Iterator[bytes]:
        for word in told:
            match word:
                case Arrived(push, sequence):
                    self._take_down(push, sequence)
                case Reaction():
                    yield from self._fates(word)
                case Change(Fate.REFUSED, worker):
                    yield self._last(worker, Fate.REFUSED)
                case Change(fate, worker):
                    yield self._membership(fate, worker)

    def _take_down(self, push: Push, sequence: int) -> None:
        self.arrivals += 1
        asked = NO_SCALE if push.scale is None else push.scale
        came = Pushed(self.arrivals, sequence, push.base_version, push.gradients, asked)
        self._pending[push.worker, push.step] = came

    def _fates(self, reaction: Reaction) -> Iterator[bytes]:
        applied = reaction.applied
        for index, one in enumerate(applied):
            ends = index + 1 == len(applied) or applied[index + 1].group != one.group
            yield self._record(Fate.APPLIED, one.worker, one.step, ends, one.scale, one.learning_rate)
        for worker in reaction.dropped:
            yield self._last(worker, Fate.DROPPED)

    def _last(self, worker: int, fate: Fate) -> bytes:
        step = max(step for who, step in self._pending if who == worker)
        return self._record(fate, worker, step, False, 0.0, 0.0)

    def _record(self, fate: Fate, worker: int, step: int, ends: bool, scale: float, rate: float) -> bytes:
        p = self._pending.pop((worker, step))
        who = (fate, ends, self._attempt, worker, self._epoch)
        return RECORD.pack(*who, p.sequence, p.arrival, p.base_version, step, p.gradients, p.asked, scale, rate)

    def _membership(self, fate: Fate, worker: int) -> bytes:
        if fate == Fate.LOST:
            for key in [key for key in self._pending if key[0] == worker]:
                del self._pending[key]
        self.arrivals += 1
        return RECORD.pack(fate, 0, self._attempt, worker, self._epoch, 0, self.arrivals, 0, 0, 0, NO_SCALE, 0.0, 0.0)

    # ------------------------------------------------------------ where it goes

    def flush(self) -> None:
        """Write what has been told. Raises OSError."""
        while self._told:
            told = self._told[:BLOCK_WORDS]
            del self._told[: len(told)]
            raw = b"".join(self._records(told))
            self._digest.update(raw)
            if self._file is not None and raw:
                packed = zlib.compress(raw, 1)
                self._file.write(LENGTH.pack(len(packed)) + packed)
            time.sleep(0)  # let the server have the interpreter

    @property
    def hash(self) -> str:
        """SHA-256 of all records flushed so far."""
        return self._digest.hexdigest()

    def stop_writing(self) -> None:
        """From now on, only the hash is kept: a log with a gap is worth nothing."""
        self._file = None

    def close(self) -> str:
        """Write the end; returns the hash. Raises OSError."""
        self.flush()
        digest = self._digest.digest()
        if self._file is not None:
            end = RECORD.pack(Fate.END, 0, self._attempt, 0, self._epoch, 0, self.arrivals, 0, 0, 0, 0.0, 0.0, 0.0)
            packed = zlib.compress(end, 1)
            self._file.write(LENGTH.pack(len(packed)) + packed + digest)
            self._file.close()
        return digest.hex()


def create(path: Path, header: Header, *, attempt: int, epoch: int) -> EventLog:
    """Begin a log file. Raises OSError."""
    file = open(path, "wb", buffering=0)  # noqa: SIM115 - the log owns and closes it
    text = json.dumps(asdict(header)).encode()
    file.write(MAGIC + LENGTH.pack(len(text)) + text)
    return EventLog(file, attempt=attempt, epoch=epoch)


class Writer:
    """A run's log in its folder, flushed by a thread of its own until it is closed or the disk fails."""

    def __init__(self, folder: Path, header: Header, *, attempt: int, epoch: int, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._failed = False
        self.log = EventLog(None, attempt=attempt, epoch=epoch)
        self._try(lambda: self._create(folder / FILE_NAME, header, attempt, epoch))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event log", daemon=True)
        self._thread.start()

    def _create(self, path: Path, header: Header, attempt: int, epoch: int) -> None:
        self.log = create(path, header, attempt=attempt, epoch=epoch)

    def _run(self) -> None:
        while not self._over.wait(FLUSH_SECONDS):
            self._try(self.log.flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - a thread ends here; the run goes on without its log
            if not self._failed:
                self._failed = True
                self.log.stop_writing()
                self._warn(f"the gradient log can't be written, so this run can't be replayed: {error}")

    def close(self) -> None:
        """Write the rest and the end."""
        self._over.set()
        self._thread.join()
        self._try(self.log.close)


@dataclass(frozen=True)
class Log:
    """A log that was read. `complete`: it has its end; the log of a killed server has none."""

    header: Header
    records: list[Record]
    hash: str
    complete: bool

    @property
    def in_order_of_arrival(self) -> list[Record]:
        return sorted(self.records, key=lambda r: r.arrival)


def read(path: Path) -> Log:
    """Read a log; a torn tail is left out. Raises Failure where there is none, or where it was tampered with."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure(Cause.DATA, f"the log {path} can't be read: {error}") from None
    if not data.startswith(MAGIC):
        raise Failure(Cause.DATA, f"{path} is no gradient log of this version")
    (length,) = LENGTH.unpack_from(data, len(MAGIC))
    start = len(MAGIC) + LENGTH.size
    try:
        header = Header(**json.loads(data[start : start + length]))
    except (ValueError, TypeError) as error:
        raise Failure(Cause.DATA, f"the header of {path} is damaged: {error}") from None
    digest = hashlib.sha256()
    records: list[Record] = []
    for raw, rest in _blocks(data, start + length):
        if raw[0] == Fate.END:
            if rest != digest.digest():
                raise Failure(Cause.DATA, f"{path} is damaged: its records do not have the hash it ends with")
            return Log(header, records, digest.hexdigest(), complete=True)
        digest.update(raw)
        records += [Record._make(fields) for fields in RECORD.iter_unpack(raw)]
    return Log(header, records, digest.hexdigest(), complete=False)


def _blocks(data: bytes, offset: int) -> Iterator[tuple[bytes, bytes]]:
    """The blocks that are whole, each with the bytes behind it, where the last one has the hash."""
    while offset + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, offset)
        offset += LENGTH.size
        if length > MAX_BLOCK_BYTES or offset + length > len(data):
            return
        try:
            raw = zlib.decompress(data[offset : offset + length])
        except zlib.error:
            return
        offset += length
        yield raw, data[offset : offset + hashlib.sha256().digest_size]
