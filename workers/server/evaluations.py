"""Evaluations, from the server's side: when one is due, a copy of the weights for it, what came of it.

Nobody waits for an evaluation but the end of the run.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.reporting import Reporter
from workers.server.sessions import Hangup, Session, Sessions
from workers.server.setup import Run
from workers.server.telemetry import Telemetry
from workers.spec import Target
from workers.transport.frames import Frame, Kind

ABSENT_SECONDS = 15.0
"""How long the end of a run waits for an evaluator that is not there."""
LEAST_SECONDS = 60.0
"""How long it waits for one at work, at least; longer where the last evaluation took long."""
PATIENCE = 5.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Result:
    version: int
    loss: float
    metrics: dict[str, float]


class Evaluations:
    def __init__(self, run: Run, sessions: Sessions, telemetry: Telemetry, reporter: Reporter, *, every: float) -> None:
        self._run, self._sessions, self._telemetry, self._reporter = run, sessions, telemetry, reporter
        self._every = every
        self._next = (math.floor(run.core.clocks.gradients / every) + 1) * every
        self._under_way: int | None = None
        self._began_at = 0.0
        self._took_seconds = 0.0
        self._latest: Result | None = None

    def begin_if_due(self) -> None:
        """Have the present weights evaluated if it is time and the evaluator is free."""
        gradients = self._run.core.clocks.gradients
        if gradients >= self._next and self._begin():
            self._next = (math.floor(gradients / self._every) + 1) * self._every

    def _begin(self) -> bool:
        session = self._sessions.evaluator()
        if session is None or self._under_way is not None:
            return False
        assert session.slot is not None
        core = self._run.core
        session.slot.weights.copy_(core.exported)
        session.slot.buffers.copy_(core.buffers[: self._run.layout.buffer_size])
        session.slot.version = core.version
        try:
            session.send(Kind.EVALUATE, version=core.version)
        except Hangup:
            return False  # its hang-up is heard in the next turn
        self._under_way, self._began_at = core.version, time.monotonic()
        return True

    def result(self, session: Session, frame: Frame) -> None:
        """Take in what an evaluator found. Raises ValueError when it was not asked, or answers otherwise."""
        metrics = self._run.metrics
        if frame.base_version != self._under_way or len(frame.body) != 8 * (1 + len(metrics)):
            raise ValueError("a result that nobody asked for")
        loss, *values = struct.unpack(f"<{1 + len(metrics)}d", frame.body)
        self._under_way = None
        self._took_seconds = time.monotonic() - self._began_at
        self._latest = Result(frame.base_version, loss, dict(zip(metrics, values, strict=True)))
        self._telemetry.evaluation(frame.base_version, loss, self._latest.metrics)
        self._reporter.event(
            "evaluated", self.latest_text, version=frame.base_version, metrics=self._latest.metrics, loss=loss
        )

    def lost(self) -> None:
        """The evaluator is gone, and what it was at with it."""
        self._under_way = None

    def of(self, version: int) -> dict[str, float]:
        """Metrics of exactly this version; empty where it was not evaluated."""
        return self._latest.metrics if self._latest and self._latest.version == version else {}

    def reached(self, target: Target | None) -> bool:
        if target is None or self._latest is None:
            return False
        return target.reached_by(self._latest.metrics[target.metric])

    @property
    def latest_text(self) -> str:
        if self._latest is None:
            return ""
        values = {"loss": self._latest.loss, **self._latest.metrics}
        return f"version {self._latest.version}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items())

    def finish(self, hear: Callable[[Session], None], *, give_up: Callable[[], bool]) -> None:
        """Wait until the last version has been evaluated, or say that it could not be."""
        version = self._run.core.version
        absent_since = began = time.monotonic()
        patience = max(LEAST_SECONDS, PATIENCE * self._took_seconds)
        while self._latest is None or self._latest.version != version:
            now = time.monotonic()
            if self._sessions.evaluator() is not None:
                absent_since = now
                self._begin()
            if give_up() or now - absent_since > ABSENT_SECONDS or now - began > patience:
                self._reporter.warn(f"the last version, {version}, was not evaluated: no answer from an evaluator")
                return
            for session in self._sessions.poll(POLL_SECONDS):
                hear(session)
