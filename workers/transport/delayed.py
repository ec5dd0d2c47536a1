"""A slow line before any transport: what a trainer sends, and what it is answered, is held back.

A thread carries one push at a time to the server and its answer home, so that the trainer can compute meanwhile. It
works over every transport, because all it does is to wait before it hands on.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from workers import spec
from workers.failures import ServerLost
from workers.process import StopSignal
from workers.transport.base import ANSWER_SECONDS, Answer, Report, TrainerSession


@dataclass(frozen=True)
class Line:
    """One-way times of a line."""

    push_seconds: float
    pull_seconds: float

    @classmethod
    def of(cls, delays: Sequence[spec.Delay], worker: int) -> Self | None:
        """The line of this trainer: the latencies of a spec add up. None: it has none."""
        own = [d for d in delays if isinstance(d, spec.Latency) and (d.workers is None or worker in d.workers)]
        push, pull = sum(d.push_seconds for d in own), sum(d.pull_seconds for d in own)
        return cls(push, pull) if push or pull else None


@dataclass(frozen=True)
class Parcel:
    """A push on its way."""

    sent_at: float
    report: Report
    step: int
    scale: float | None
    gradients: int


class DelayedSession:
    """A trainer's session behind a line. Vectors are the session's own: they are not the trainer's before its answer
    has come home, so that a longer way changes nothing about who may touch them."""

    def __init__(self, session: TrainerSession, line: Line, stop: StopSignal) -> None:
        self._session, self._line, self._stop = session, line, stop
        self.weights, self.gradient = session.weights, session.gradient
        self.buffers, self.served = session.buffers, session.served
        self.constants, self.examples = session.constants, session.examples
        self.memory = session.memory
        self._outbox: queue.SimpleQueue[Parcel] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        self._rings, self._bell = socket.socketpair()
        self._under_way = False
        threading.Thread(target=self._carry, name="line", daemon=True).start()

    def push(self, report: Report, *, step: int, scale: float | None = None, gradients: int = 1) -> None:
        self._under_way = True
        self._outbox.put(Parcel(time.monotonic(), report, step, scale, gradients))

    def answer(self) -> Answer:
        if not self._under_way:
            return self._session.answer()  # the first weights: nothing has been sent for them
        # The session gives up by itself; where it can join anew, that takes it up to three times its own patience.
        patience = 3.0 * ANSWER_SECONDS + 2.0 * (self._line.push_seconds + self._line.pull_seconds)
        try:
            came = self._inbox.get(timeout=patience)
        except queue.Empty:
            raise ServerLost(f"no answer came over the line in {patience:.0f} s") from None
        self._bell.recv(1)
        self._under_way = False
        if isinstance(came, BaseException):
            raise came
        return came

    def waits(self, seconds: float) -> bool:
        if not self._under_way:
            return self._session.waits(seconds)
        if self._inbox.empty():
            self._stop.wait(seconds, self._bell)
        return not self._inbox.empty()

    def leave(self) -> None:
        self._session.leave()

    def _carry(self) -> None:
        """The line itself. A stop of the server's comes home without delay: there is nothing left to measure."""
        while True:
            parcel = self._outbox.get()
            _sleep_until(parcel.sent_at + self._line.push_seconds)
            came: Answer | BaseException
            try:
                self._session.push(parcel.report, step=parcel.step, scale=parcel.scale, gradients=parcel.gradients)
                came = self._session.answer()
                _sleep_until(time.monotonic() + self._line.pull_seconds)
            except BaseException as error:  # noqa: BLE001 - a thread ends here; the trainer raises it
                came = error
            self._inbox.put(came)
            self._rings.send(b"!")
            if isinstance(came, BaseException):
                return


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
