"""Watching a run from afar: asked often while it moves, seldom while it does not."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from trainhub.client.errors import TookTooLong
from trainhub.client.shapes import LogLine, Run, Series
from trainhub.client.wire import Clock

LEAST_SECONDS = 0.5
MOST_SECONDS = 2.0
RECENT_VERSIONS = 100
"""How many of the last updates make "now"."""
SPEED_SECONDS = 10.0
"""Over how long updates a second are counted."""
LOG_LINES = 1000


@dataclass(frozen=True)
class Progress:
    """Where a run stands. None: not known (yet)."""

    run: Run
    loss: float | None = None
    """Mean training loss of the last updates."""
    staleness: float | None = None
    """Their mean staleness, in versions."""
    updates_per_second: float | None = None

    def as_data(self) -> dict[str, Any]:
        run = self.run
        return {
            "run": run.id,
            "state": run.state,
            "version": run.version,
            "fraction": run.fraction,
            "seconds_left": run.seconds_left,
            "loss": self.loss,
            "staleness": self.staleness,
            "updates_per_second": self.updates_per_second,
            "metrics": run.as_data().get("metrics", {}),
        }


class Source(Protocol):
    """The part of the client that following needs."""

    clock: Clock

    def run(self, run_id: int, *, patience: float | None = None) -> Run: ...

    def runs(self, *, experiment: int | None = None, patience: float | None = None) -> Iterator[Run]: ...

    def series(
        self, run_id: int, *, key: list[str], first: int | None = None, patience: float | None = None
    ) -> Series: ...

    def log_after(self, run_id: int, after: int, member: int | None, *, patience: float) -> list[LogLine]: ...


class Speed:
    """Updates a second, of a version that is read now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, run: Run) -> float | None:
        """None: it has not been watched for long enough, or does not train."""
        if run.state != "running" or run.now is None:
            self._seen.clear()
            return None
        at = run.now.timestamp()
        if self._seen and run.version < self._seen[-1][1]:  # it went back to a checkpoint
            self._seen.clear()
        self._seen.append((at, run.version))
        while at - self._seen[0][0] > SPEED_SECONDS:
            self._seen.popleft()
        began, version = self._seen[0]
        return (run.version - version) / (at - began) if at - began >= LEAST_SECONDS else None


class Pace:
    """Rests between looks: short ones while things move, longer ones while they do not."""

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        self._clock = clock
        self._seconds = seconds
        self._deadline = math.inf if seconds is None else clock.now() + seconds
        self._wait = LEAST_SECONDS

    def rest(self, *, moved: bool) -> None:
        """Raises TookTooLong where the time would be over."""
        self._wait = LEAST_SECONDS if moved else min(self._wait * 1.5, MOST_SECONDS)
        if self._clock.now() + self._wait > self._deadline:
            raise TookTooLong(f"That takes longer than {self._seconds:g} s.")
        self._clock.sleep(self._wait)


def follow(source: Source, run_id: int, *, patience: float, seconds: float | None) -> Iterator[Progress]:
    """Each change of a run until it has ended; the last one tells the end. Raises TookTooLong."""
    pace, speed, last = Pace(source.clock, seconds), Speed(), None
    while True:
        run = source.run(run_id, patience=patience)
        moved = last is None or told_of(run) != told_of(last)
        if moved:
            yield progress(source, run, speed, patience)
        if run.has_ended:
            return
        last = run
        pace.rest(moved=moved)


def follow_many(source: Source, experiment: int, *, patience: float, seconds: float | None) -> Iterator[list[Run]]:
    """All runs of an experiment, each time that something has changed, until all have ended. Raises TookTooLong."""
    pace, last = Pace(source.clock, seconds), None
    while True:
        runs = sorted(source.runs(experiment=experiment, patience=patience), key=lambda run: run.id)
        told = [told_of(run) for run in runs]
        if moved := told != last:
            yield runs
        if all(run.has_ended for run in runs):
            return
        last = told
        pace.rest(moved=moved)


def told_of(run: Run) -> tuple[object, ...]:
    return run.state, run.wish, run.version, run.waiting_reason, run.attempt, run.metrics


def progress(source: Source, run: Run, speed: Speed, patience: float | None) -> Progress:
    """A run with its last updates summed up."""
    if not run.version:
        return Progress(run)
    recent = source.series(
        run.id, key=["loss", "staleness"], first=max(0, run.version - RECENT_VERSIONS), patience=patience
    )
    return Progress(run, mean_of(recent, "loss", run), mean_of(recent, "staleness", run), speed.of(run))


def mean_of(recent: Series, key: str, run: Run) -> float | None:
    lines = [line for line in recent.series if line.key == key and line.attempt == run.attempt]
    # Of trainers where there are any: a simulation of many has means under -1 beside them.
    lines = [line for line in lines if line.worker >= 0] or lines
    values = [y for line in lines for y in line.y if math.isfinite(y)]
    return fmean(values) if values else None


def follow_log(
    source: Source, run_id: int, *, member: int | None, patience: float, seconds: float | None
) -> Iterator[LogLine]:
    """Lines as they come, until the run has ended and its last line was read. Raises TookTooLong."""
    pace, after = Pace(source.clock, seconds), 0
    while True:
        ended = source.run(run_id, patience=patience).has_ended  # before its lines: none comes after the end
        lines = source.log_after(run_id, after, member, patience=patience)
        yield from lines
        after = lines[-1].id if lines else after
        if len(lines) == LOG_LINES:
            continue  # there is more to be had at once
        if ended:
            return
        pace.rest(moved=bool(lines))
