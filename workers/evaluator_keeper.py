"""Keeps one evaluator running beside a server: it takes no slot, and is started again when it dies."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL, SIGTERM

from workers import children
from workers.assignment import Assignment, Cause, Exit, Outcome

MOST_STARTS = 5
FIRST_PAUSE_SECONDS = 0.2


class EvaluatorKeeper:
    """Starts the evaluator, and starts it again with back-off. `tend` it some times a second."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.child: children.Child | None = None
        self.starts = 0
        self.again_at = 0.0
        self.given_up = False

    def tend(self, now: float) -> Exit | None:
        """Start what should run. Returns how it ended, once, when starting it again can't help."""
        if self.given_up or now < self.again_at:
            return None
        if self.child is None:
            self._start_or_adopt()
        elif not self.child.alive:
            return self._ended(self.child.last_word(), now)
        return None

    def _start_or_adopt(self) -> None:
        living = children.adopt(Path(self.assignment.work_dir))
        if self.starts == 0 and living.alive:
            self.child = living
            return
        self.starts += 1
        self.child = children.start(self.assignment)

    def _ended(self, ending: Exit, now: float) -> Exit | None:
        self.child = None
        self.again_at = now + FIRST_PAUSE_SECONDS * 2**self.starts
        hopeless = ending.outcome == Outcome.FAILED and ending.cause in (
            Cause.USER_CODE,
            Cause.DATA,
            Cause.SPEC,
        )
        self.given_up = ending.outcome != Outcome.FAILED or hopeless or self.starts >= MOST_STARTS
        return ending if self.given_up and ending.outcome == Outcome.FAILED else None

    def stop(self) -> None:
        if self.child is not None and self.child.alive:
            self.child.send(SIGTERM)
            if not self.child.wait(2):
                self.child.send(SIGKILL)
                self.child.wait(2)
