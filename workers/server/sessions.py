"""The server's end of all sessions: one Unix socket, one epoll, a slot for each child.

A session proves at its join that it knows the run's key and means the same by every float, before anything is made for
it. Afterwards each frame must carry the session's run, epoch and member, and the next sequence number.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from workers.assignment import SERVER_WORKER, Assignment
from workers.process import StopSignal
from workers.server.memory import Memory
from workers.server.passes import HandOver
from workers.transport import frames
from workers.transport.frames import Fields, Frame, JoinBody, Kind
from workers.transport.patience import Patience
from workers.transport.shared_memory import RECEIVE_BYTES, Slot, SlotSize

BACKLOG = 1024
JOIN_SECONDS = 5.0
STRANGERS = 64
"""Connections that have not joined yet; more are cut at once."""
READ = select.EPOLLIN | select.EPOLLRDHUP


class Hangup(Exception):
    """The other side is gone."""


class Refusal(Exception):
    """A frame that does not belong to this run; the session ends with these words."""


@dataclass(frozen=True)
class Identity:
    """What a child must show to join."""

    assignment: Assignment
    manifest: bytes
    trainer: SlotSize
    evaluator: SlotSize
    workers: int
    has_cores: bool = False
    """Whether the run's processes have a core each, were they all here."""


class Session:
    """One child's connection. `joined` once it has proven itself, `ready` once it has mapped its slot."""

    def __init__(self, server: Sessions, connection: socket.socket) -> None:
        self._server = server
        self._assignment = server.identity.assignment
        self.socket = connection
        self.fd = connection.fileno()
        self.opened_at = time.monotonic()
        self.decoder = frames.Decoder()
        self.received = 0
        self.sent = 0
        self.member = 0
        self.worker = SERVER_WORKER
        self.evaluator = False
        self.joined = False
        self.ready = False
        self.left = False
        self.slot: Slot | None = None
        self.place: HandOver | None = None
        self.memory: Memory | None = None
        """Where the server's core finds the trainer's vectors; `place` is made of it."""
        self.staleness = 0
        """What its last gradient met; told with the next weights."""
        self.transport = "shared memory"
        self.peer = ""
        """Address that a trainer of another host comes from."""

    @property
    def who(self) -> str:
        return "the evaluator" if self.evaluator else f"trainer {self.worker}"

    def receive(self) -> list[Frame]:
        """The frames that have come. Raises Hangup, FrameError or Refusal."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            raise Hangup from None
        if not data:
            raise Hangup
        return self.decoder.feed(data)

    def check(self, frame: Frame) -> None:
        """Refuse a frame of another run, epoch or sender, and any but the next one."""
        a = self._assignment
        self.received += 1
        if frame.run != a.run or frame.epoch != a.epoch:
            raise Refusal(f"this is run {a.run}, epoch {a.epoch}; the frame is of run {frame.run}, epoch {frame.epoch}")
        if frame.sequence != self.received:
            raise Refusal(f"frame {frame.sequence} came where {self.received} was due")
        if self.joined and (frame.member != self.member or frame.worker != self.worker):
            raise Refusal("a frame of another sender")

    def answer(self, version: int, step: int, gradients: int, flags: int) -> None:
        """Send WEIGHTS: what `send` does, without its ways round; it is on the way of every gradient."""
        a = self._assignment
        self.sent += 1
        data = frames.HEADER.pack(
            frames.MAGIC,
            Kind.WEIGHTS,
            flags,
            0,
            a.run,
            a.epoch,
            a.member,
            SERVER_WORKER,
            self.sent,
            0,
            version,
            step,
            self.staleness,
            gradients,
            0.0,
        )
        try:
            if self.socket.send(data) != len(data):
                raise Hangup
        except OSError:
            raise Hangup from None

    def send(self, kind: Kind, **fields: Unpack[Fields]) -> None:
        """Send a frame, of a few bytes. A peer that does not read them is as good as gone: raises Hangup."""
        a = self._assignment
        self.sent += 1
        data = frames.pack(
            kind,
            run=a.run,
            epoch=a.epoch,
            member=a.member,
            worker=SERVER_WORKER,
            sequence=self.sent,
            **fields,
        )
        try:
            if self.socket.send(data) != len(data):
                raise Hangup
        except OSError:
            raise Hangup from None


class Sessions:
    """Listens, accepts and joins. Frames of ready sessions go to the loop."""

    def __init__(self, identity: Identity, stop: StopSignal) -> None:
        self.identity = identity
        self._stop = stop
        self._by_fd: dict[int, Session] = {}
        self._slots = 0
        self._epoll = select.epoll()
        self._patience = Patience(looks=identity.has_cores)
        self._listener = self._listen(identity.assignment.endpoint)
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(stop.fileno(), select.EPOLLIN)

    @staticmethod
    def _listen(endpoint: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        umask = os.umask(0o177)
        try:
            if os.path.exists(endpoint):
                os.unlink(endpoint)  # of a server of this run that was killed
            listener.bind(endpoint)
        finally:
            os.umask(umask)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_fd.values()))

    def trainers(self) -> list[Session]:
        return [s for s in self._by_fd.values() if s.ready and not s.evaluator]

    def evaluator(self) -> Session | None:
        return next((s for s in self._by_fd.values() if s.ready and s.evaluator), None)

    def poll(self, timeout_seconds: float) -> list[Session]:
        """Wait for something to happen; returns the sessions that have something to say."""
        speaking = []
        for fd, _ in self._wait(timeout_seconds):
            session = self._by_fd.get(fd)
            if session is not None:
                speaking.append(session)
            elif fd == self._listener.fileno():
                self._accept()
            elif fd == self._stop.fileno():
                self._epoll.unregister(fd)  # it stays readable; `requested` tells
        return speaking

    def _wait(self, timeout_seconds: float) -> Sequence[tuple[int, int]]:
        began = time.perf_counter()
        poll, patience = self._epoll.poll, self._patience
        found = (patience.look(poll) if timeout_seconds else ()) or poll(timeout_seconds)
        if found or timeout_seconds:
            patience.waited(time.perf_counter() - began)
        return found

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if sum(not s.joined for s in self._by_fd.values()) >= STRANGERS:
            connection.close()
            return
        session = Session(self, connection)
        self._by_fd[session.fd] = session
        self._epoll.register(session.fd, READ)

    def make_slot(self, session: Session, frame: Frame) -> Slot:
        """Let a child in that `check_join` has found good, and make its slot. Raises Failure."""
        session.evaluator = bool(frame.flags & frames.EVALUATOR)
        session.member, session.worker, session.joined = frame.member, frame.worker, True
        self._slots += 1
        name = f"{self.identity.assignment.shm_prefix}-{self._slots}"
        size = self.identity.evaluator if session.evaluator else self.identity.trainer
        session.slot = Slot.create(name, size)
        return session.slot

    def check_join(self, session: Session, frame: Frame) -> None:
        """Raises Refusal for whoever has not shown that it belongs to this run, or whose place a later member has."""
        if frame.kind != Kind.JOIN:
            raise Refusal("the first frame of a session is a join")
        shown = JoinBody.of(frame)
        if frame.flags & frames.BY:
            session.transport, _, session.peer = shown.by.rpartition(" ")
        if not hmac.compare_digest(shown.key, self.identity.assignment.run_key):
            raise Refusal("this is not the key of this run")
        if not hmac.compare_digest(shown.manifest, self.identity.manifest):
            raise Refusal("the model is not laid out as the server's: do both have the same code and spec?")
        if frame.flags & frames.EVALUATOR:
            if self.evaluator() is not None:
                raise Refusal("the run has an evaluator already")
            return
        if not 0 <= frame.worker < self.identity.workers:
            raise Refusal(f"there is no trainer {frame.worker}; they are 0 to {self.identity.workers - 1}")
        holder = self.holder(frame.worker)
        if holder is not None and holder.member > frame.member:
            raise Refusal(f"there is a later trainer {frame.worker} already")

    def holder(self, worker: int) -> Session | None:
        """The trainer's session that holds this number."""
        return next((s for s in self._by_fd.values() if s.joined and not s.evaluator and s.worker == worker), None)

    def late_strangers(self) -> list[Session]:
        """Connections that have not joined in time."""
        late = time.monotonic() - JOIN_SECONDS
        return [s for s in self._by_fd.values() if not s.joined and s.opened_at < late]

    def knows(self, session: Session) -> bool:
        """Whether the session is still open on this side."""
        return self._by_fd.get(session.fd) is session

    def cut(self, session: Session, reason: str = "") -> None:
        """End a session, with a reason if it is to hear one."""
        if session.fd not in self._by_fd:
            return
        if reason:
            with contextlib.suppress(Hangup):
                session.send(Kind.REFUSED, body=reason.encode())
        del self._by_fd[session.fd]
        self._epoll.unregister(session.fd)
        if session.slot is not None and not session.ready:
            session.slot.unlink()
        session.socket.close()

    def close(self) -> None:
        """Hang up on everybody and take the socket's name away."""
        for session in self:
            self.cut(session)
        self._listener.close()
        self._epoll.close()
        Path(self.identity.assignment.endpoint).unlink(missing_ok=True)
