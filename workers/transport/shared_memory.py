"""Hand-over slots in /dev/shm, with a Unix socket beside them to wake the other side.

Each child owns one file: a version word, its gradient, its weights, batch-norm statistics both ways. Having pushed, a
trainer touches none of them until it is answered; meanwhile the server reads the gradient and writes new weights into
the very pages the trainer computes with, then the version word, then answers. So nothing can be torn, and a version
word that differs from the answer's marks a server that died in between.

The files are our own (not `multiprocessing.shared_memory`, whose tracker unlinks them when their owner is killed), and
their name goes as soon as the child has mapped them: a kill -9 leaks nothing after that.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import struct
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self, Unpack

import torch
from torch import Tensor

from workers.assignment import Assignment, Cause
from workers.failures import Failure, ServerLost
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.process import StopSignal
from workers.transport import cuda_ipc, frames
from workers.transport.base import ANSWER_SECONDS, JOIN_SECONDS, Answer, Report, RunEnded
from workers.transport.frames import Fields, Frame, JoinBody, Kind
from workers.transport.patience import Patience

FOLDER = Path("/dev/shm")
PAGE_BYTES = 4096
FLOAT_BYTES = 4
RECEIVE_BYTES = 4096
"""More than any frame between ready sessions. Large buffers are mapped and unmapped at each receive: 15 µs."""
CONNECT_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class SlotSize:
    """Floats in each block of a slot, and bytes of the model's constants. An evaluator's has no gradient."""

    gradient: int
    weights: int
    buffers: int
    served: int
    constants_bytes: int

    @classmethod
    def trainer(cls, layout: Layout, batch_norm: BatchNorm) -> Self:
        statistics = batch_norm.parts * layout.channels
        served = statistics if batch_norm.serves else 0
        return cls(layout.size, layout.size, statistics, served, layout.constants_bytes)

    @classmethod
    def evaluator(cls, layout: Layout) -> Self:
        return cls(0, layout.size, layout.buffer_size, 0, layout.constants_bytes)

    @property
    def offsets(self) -> tuple[int, int, int, int, int, int]:
        """Bytes where each block starts, in order, and where the file ends. The version word is first."""
        gradient = PAGE_BYTES
        weights = gradient + _pages(self.gradient * FLOAT_BYTES)
        buffers = weights + _pages(self.weights * FLOAT_BYTES)
        served = buffers + _pages(self.buffers * FLOAT_BYTES)
        constants = served + _pages(self.served * FLOAT_BYTES)
        return gradient, weights, buffers, served, constants, constants + _pages(self.constants_bytes)

    @property
    def size_bytes(self) -> int:
        return self.offsets[-1]

    @property
    def floats(self) -> int:
        """Of the four blocks of floats together, with the gaps between them."""
        return (self.offsets[4] - PAGE_BYTES) // FLOAT_BYTES

    def cut(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four blocks, where they lie on a device as one: gradient, weights, buffers, served."""
        starts = [(offset - PAGE_BYTES) // FLOAT_BYTES for offset in self.offsets[:4]]
        gradient, weights, buffers, served = starts
        return (
            block[gradient : gradient + self.gradient],
            block[weights : weights + self.weights],
            block[buffers : buffers + self.buffers],
            block[served : served + self.served],
        )


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


class Slot:
    """A mapped hand-over slot: its vectors, the version of the weights among them, and the model's constants."""

    def __init__(self, name: str, size: SlotSize, fd: int) -> None:
        self.name = name
        self.memory: int | None = None
        """Its descriptor, at the end that opened it: other processes of the trainer map it by that."""
        # All pages now: the first push should not pay for page faults.
        self._map = mmap.mmap(fd, size.size_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._words = memoryview(self._map)[:8].cast("Q")
        gradient, weights, buffers, served, constants, _ = size.offsets
        self.gradient = self._block(gradient, size.gradient)
        self.weights = self._block(weights, size.weights)
        self.buffers = self._block(buffers, size.buffers)
        self.served = self._block(served, size.served)
        self.constants = self._block(constants, size.constants_bytes, torch.uint8)

    @property
    def vectors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.gradient, self.weights, self.buffers, self.served

    def _block(self, offset: int, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=offset)

    @property
    def version(self) -> int:
        return self._words[0]

    @version.setter
    def version(self, value: int) -> None:
        self._words[0] = value

    @classmethod
    def create(cls, name: str, size: SlotSize) -> Self:
        """Make a new slot, its memory allocated. Raises Failure when /dev/shm has no room for it."""
        check_room(size.size_bytes, f"the slot {name}")
        path = FOLDER / name
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Allocate first: touching a mapping that the file system can't back dies of SIGBUS.
            os.posix_fallocate(fd, 0, size.size_bytes)
            return cls(name, size, fd)
        except OSError as error:
            os.unlink(path)
            if error.errno == errno.ENOSPC:
                raise _too_small(size.size_bytes, f"the slot {name}") from None
            raise
        finally:
            os.close(fd)

    @classmethod
    def open(cls, name: str, size: SlotSize) -> Self:
        """Map a slot that the server made."""
        fd = os.open(FOLDER / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.fstat(fd).st_size != size.size_bytes:
                raise Failure(Cause.ENGINE, f"the slot {name} is not of the agreed size")
            slot = cls(name, size, fd)
            slot._lend(os.dup(fd))
            return slot
        finally:
            os.close(fd)

    @classmethod
    def anonymous(cls, size: SlotSize) -> Self:
        """Make a slot that has no name: whoever is handed its descriptor may map it."""
        fd = os.memfd_create("trainhub-slot")
        # Allocated first, as in `create`.
        os.posix_fallocate(fd, 0, size.size_bytes)
        slot = cls("", size, fd)
        slot._lend(fd)
        return slot

    def _lend(self, fd: int) -> None:
        """Have a descriptor for other processes, as long as this object is there: open, it would keep the memory."""
        self.memory = fd
        weakref.finalize(self, os.close, fd)

    def unlink(self) -> None:
        """Take the name away; those who have mapped the slot keep it."""
        (FOLDER / self.name).unlink(missing_ok=True)


def check_room(needed_bytes: int, what: str) -> None:
    """Raise Failure when /dev/shm has less free than is needed, or is not there."""
    if _free_bytes() < needed_bytes:
        raise _too_small(needed_bytes, what)


def _free_bytes() -> int:
    try:
        state = os.statvfs(FOLDER)
    except FileNotFoundError:
        message = f"{FOLDER} is not there: gradients and weights travel through it; mount a tmpfs on it"
        raise Failure(Cause.SHARED_MEMORY, message) from None
    return state.f_bavail * state.f_frsize


def _too_small(needed_bytes: int, what: str) -> Failure:
    return Failure(
        Cause.SHARED_MEMORY,
        f"{FOLDER} is too small: {what} needs {needed_bytes / 2**20:.1f} MiB, {_free_bytes() / 2**20:.1f} MiB are "
        "free; give it more (in a container: --shm-size)",
    )


class RefusedByServer(Failure):
    """The server does not want this child, and says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(Cause.FENCED, f"the server refused this child: {reason}")
        self.reason = reason


class ClientSession:
    """A child's end of its socket to the server: join, then frames one after another."""

    def __init__(self, assignment: Assignment, stop: StopSignal, *, has_core: bool = False) -> None:
        """`has_core`: whether this child need not share one."""
        self._assignment = assignment
        self._stop = stop
        self._sent = 0
        self._received = 0
        self._decoder = frames.Decoder()
        self._frames: list[Frame] = []
        self.examples = 0
        self.socket = self._connect()
        self._patience, self._poll = Patience(looks=has_core), select.poll()
        self._poll.register(self.socket, select.POLLIN)

    def _connect(self) -> socket.socket:
        """Connect as soon as the server listens; it may have been forked after this child."""
        deadline = time.monotonic() + JOIN_SECONDS
        while not self._stop.requested:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                client.connect(self._assignment.endpoint)
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                client.close()
            else:
                # The kernel's own timeout: Python's would poll before every receive.
                limit = struct.pack("ll", int(ANSWER_SECONDS), 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
                return client
            if time.monotonic() > deadline:
                break
            self._stop.wait(CONNECT_PAUSE_SECONDS)
        raise ServerLost(f"no server listens at {self._assignment.endpoint}")

    def send(self, kind: Kind, **fields: Unpack[Fields]) -> None:
        a = self._assignment
        self._sent += 1
        data = frames.pack(
            kind,
            run=a.run,
            epoch=a.epoch,
            member=a.member,
            worker=a.worker,
            sequence=self._sent,
            **fields,
        )
        try:
            self.socket.sendall(data)
        except OSError:
            self._hear_last_word()

    def _hear_last_word(self) -> NoReturn:
        """The server may have said why before it hung up; receiving raises that, or ServerLost."""
        while True:
            self.receive()

    def receive(self) -> Frame:
        """The next frame. Raises RunEnded, Failure when the server refuses us, ServerLost when it hangs up."""
        while not self._frames:
            began = time.perf_counter()
            self._patience.look(self._poll.poll)
            try:
                data = self.socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                raise ServerLost(f"the server was silent for {ANSWER_SECONDS:.0f} s") from None
            except OSError as error:
                raise ServerLost(f"the server hung up: {error}") from None
            if not data:
                raise ServerLost("the server hung up")
            self._patience.waited(time.perf_counter() - began)
            self._frames = self._decoder.feed(data)
        frame = self._frames.pop(0)
        self._received += 1
        if frame.kind == Kind.REFUSED:
            raise RefusedByServer(frame.body.decode(errors="replace"))
        a = self._assignment
        if frame.sequence != self._received or frame.run != a.run or frame.epoch != a.epoch:
            raise frames.FrameError("a frame of another session came from the server")
        if frame.kind == Kind.STOP:
            raise RunEnded(completed=bool(frame.flags & frames.COMPLETED))
        return frame

    @property
    def pending(self) -> bool:
        """Whether a frame has been taken in of which no poll would tell."""
        return bool(self._frames)

    def waits(self, seconds: float) -> bool:
        """Wait for a frame or a stop; says whether there is something to receive."""
        if not self._frames:
            self._stop.wait(seconds, self.socket)
        return bool(self._frames or select.select([self.socket], [], [], 0)[0])

    def join(self, manifest: bytes, size: SlotSize, *, flags: int = 0, by: str = "", gpu: str = "") -> Slot:
        """Open the session: prove that we know the run and mean the same by every float; map our slot.

        `gpu`: the one that we compute on, which the server answers by a MEMORY.
        """
        body = JoinBody(manifest, by, self._assignment.run_key)
        self.send(Kind.JOIN, flags=flags | (frames.BY if by else 0), body=body.pack())
        welcome = self.expect(Kind.WELCOME)
        (self.examples,) = frames.EXAMPLES.unpack_from(welcome.body)
        slot = Slot.open(welcome.body[frames.EXAMPLES.size :].decode(), size)
        self.send(Kind.READY, body=gpu.encode())
        return slot

    def expect(self, kind: Kind) -> Frame:
        frame = self.receive()
        if frame.kind != kind:
            raise frames.FrameError(f"expected {kind.name}, got {Kind(frame.kind).name}")
        return frame

    def close(self) -> None:
        self.socket.close()


class SharedMemorySession(ClientSession):
    """A trainer's session: `workers.transport.base.TrainerSession` over a slot."""

    def __init__(
        self, assignment: Assignment, stop: StopSignal, manifest: bytes, size: SlotSize, *, has_core: bool = False
    ) -> None:
        super().__init__(assignment, stop, has_core=has_core)
        self._slot = slot = self.join(manifest, size, gpu=assignment.gpu)
        self._version = 0
        handle = self.expect(Kind.MEMORY).body if assignment.gpu else b""
        vectors = size.cut(cuda_ipc.attach(handle, size.floats)) if handle else slot.vectors
        self.gradient, self.weights, self.buffers, self.served = vectors
        self.constants = slot.constants
        self.memory = None if handle else slot.memory

    def push(self, report: Report, *, step: int, scale: float | None = None, gradients: int = 1) -> None:
        version, asked = self._version, scale or 0.0
        self.send(Kind.PUSH, base_version=version, step=step, scale=asked, gradients=gradients, body=report.pack())

    def answer(self) -> Answer:
        frame = self.expect(Kind.WEIGHTS)
        if self._slot.version != frame.version:
            raise frames.FrameError(f"weights of version {self._slot.version} came with the answer for {frame.version}")
        self._version = frame.version
        applied = not frame.flags & frames.NOT_APPLIED
        return Answer(frame.version, frame.step, applied, frame.gradients, frame.staleness)

    def leave(self) -> None:
        self.send(Kind.LEAVE)


class EvaluatorSession(ClientSession):
    """An evaluator's session: it gets a copy of the weights now and then, and answers with what they are worth."""

    def __init__(self, assignment: Assignment, stop: StopSignal, manifest: bytes, size: SlotSize) -> None:
        super().__init__(assignment, stop)
        slot = self.join(manifest, size, flags=frames.EVALUATOR)
        self.weights = slot.weights
        self.buffers = slot.buffers
        self.constants = slot.constants

    def next_version(self) -> int:
        """Wait for weights to evaluate."""
        return self.expect(Kind.EVALUATE).version

    def result(self, version: int, values: Sequence[float]) -> None:
        """Send loss and metrics of `version`."""
        self.send(Kind.RESULT, base_version=version, body=struct.pack(f"<{len(values)}d", *values))

    def leave(self) -> None:
        self.send(Kind.LEAVE)
