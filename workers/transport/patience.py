"""Waiting between processes of one machine: to sleep and be woken takes longer than many a cycle.

Whose last wait was brief looks a while before it sleeps the next time, and hands its core to whoever else wants it
between two looks. Who had to wait longer sleeps at once. So a wait costs at most BRIEF_SECONDS of a core, and only
where the one before it was as short as that; and it costs nothing where a run's processes outnumber the cores, since
who looks would be in the way of who computes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

BRIEF_SECONDS = 250e-6
"""To be woken takes 15 to 60 µs on each side, and whoever wakes finds its caches cold."""


def cores_for(processes: int) -> bool:
    """Whether each of so many may have a core to itself."""
    return processes <= (os.cpu_count() or 1)


class Patience:
    """How one waits for one thing. `looks`: whether there is a core to look on."""

    def __init__(self, *, looks: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._looks, self._clock = looks, clock
        self.brief = False
        """Whether the last wait was."""

    def look(self, ready: Callable[[float], Sequence[T]]) -> Sequence[T]:
        """What has come, or comes in a moment. `ready(0.0)` says so without waiting. Empty: sleep for it."""
        if not self.brief:
            return ()
        clock, found = self._clock, ready(0.0)
        until = clock() + BRIEF_SECONDS
        while not found and clock() < until:
            os.sched_yield()
            found = ready(0.0)
        return found

    def waited(self, seconds: float) -> None:
        """It came after so long."""
        self.brief = self._looks and seconds < BRIEF_SECONDS
