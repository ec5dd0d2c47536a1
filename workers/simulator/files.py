"""Simulation and replay for whoever has files: one thread an operation, logs opened and closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.server import event_log
from workers.server.event_log import Header
from workers.simulator.replay import replay, threads
from workers.simulator.simulation import Simulation
from workers.spec import RunSpec

RUN = 0
"""The number of a simulated run, in its log."""


@contextmanager
def simulation(spec: RunSpec, log: Path | None, *, data: Path | None = None) -> Iterator[Simulation]:
    """A simulation that writes its log to a file, if it is given one. `data` is the folder of the problem's
    data set. Raises SpecError, Failure and OSError."""
    with threads(1):
        if log is None:
            yield Simulation(spec, data=data)
            return
        header = Header.here(spec, run=RUN, attempt=1, restored=None)
        written = event_log.create(log, header, attempt=1, epoch=1)
        try:
            yield Simulation(spec, log=written, data=data)
        finally:
            written.close()


@dataclass(frozen=True)
class Comparison:
    """What a replay led to. `differences` names tensors that are not what the checkpoint holds; None: not compared."""

    version: int
    gradients: int
    log_hash: str
    complete: bool
    differences: list[str] | None


def replay_file(
    path: Path,
    *,
    checkpoint: Path | None = None,
    restored: Path | None = None,
    data: Path | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Replay a log, and compare with a checkpoint if one is named. Raises Failure."""
    log = event_log.read(path)
    done = replay(log, restored=restored, data=data, watch=watch)
    differences = None if checkpoint is None else done.differences(checkpoint)
    return Comparison(done.version, done.gradients, done.hash, log.complete, differences)


def records(path: Path) -> Iterator[str]:
    """The records of a log as lines. Raises Failure."""
    for record in event_log.read(path).records:
        yield str(record)
