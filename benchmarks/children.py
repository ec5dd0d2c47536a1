"""Real children for measurements: server and trainer of one run, each on a core of its own with one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from workers import events, process
from workers.assignment import SERVER_WORKER, Assignment, Role
from workers.spec import RunSpec

SERVER_CORE, TRAINER_CORE = 0, 1
CONTEXT = multiprocessing.get_context("fork")
END_SECONDS = 60.0
POLL_SECONDS = 0.1


def assignment(spec: RunSpec, folder: Path, role: Role) -> Assignment:
    """The assignment of a run's server or only trainer."""
    return Assignment(
        run=1,
        attempt=1,
        epoch=1,
        member=1 if role is Role.SERVER else 2,
        role=role,
        worker=SERVER_WORKER if role is Role.SERVER else 0,
        work_dir=str(folder / role),
        checkpoint_dir=str(folder / "checkpoints"),
        endpoint=str(folder / "socket"),
        spec=spec.canonical(),
        shm_prefix=f"trainhub-benchmark-{os.getpid()}",
        run_key=b"benchmark",
    )


def start(what: Assignment, core: int) -> BaseProcess:
    child = CONTEXT.Process(target=_pinned, args=(core, what))
    child.start()
    return child


def _pinned(core: int, what: Assignment) -> None:
    os.sched_setaffinity(0, {core})
    process.main(what)


def stop(server: BaseProcess) -> None:
    """End a server in order; its trainer hears it from it."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGTERM)
    server.join(END_SECONDS)


def times(folder: Path) -> list[float]:
    """When each gradient was applied, in seconds since 1970, as far as the server has reported."""
    found: list[float] = []
    for batch in batches(folder / Role.SERVER):
        for points in batch.points:
            if points.key == events.LOSS:
                found += memoryview(points.t).cast("d").tolist()
    return found


def batches(work_dir: Path) -> Iterator[events.Batch]:
    for path in sorted(work_dir.glob("spool-*")):
        data, offset = path.read_bytes(), 0
        while (step := events.decode(data, offset)) is not None:
            yield step[0]
            offset = step[1]


def wait_for(folder: Path, gradients: int, children: list[BaseProcess]) -> list[float]:
    """Wait until so many gradients have been reported; returns their times."""
    while len(found := times(folder)) < gradients:
        assert all(c.is_alive() for c in children), (folder / Role.TRAINER / "output.log").read_text()
        time.sleep(POLL_SECONDS)
    return found[:gradients]
