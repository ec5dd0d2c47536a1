"""Real children for measurements: a server, and trainers or what stands for them, each with one thread."""

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
from workers.kernels import choosing, compiling
from workers.server import setup
from workers.spec import RunSpec

SERVER_CORE, TRAINER_CORE = 0, 1
CONTEXT = multiprocessing.get_context("fork")
MEMBERS = {Role.SERVER: 1, Role.EVALUATOR: 2, Role.TRAINER: 3}
KERNELS = Path(__file__).resolve().parent.parent / ".trainhub" / "kernels"
"""Where a service started here keeps them too."""
END_SECONDS = 60.0
POLL_SECONDS = 0.1


def assignment(spec: RunSpec, folder: Path, role: Role, worker: int = 0) -> Assignment:
    """The assignment of a run's server, of its evaluator, or of trainer `worker`."""
    trains = role is Role.TRAINER
    return Assignment(
        run=1,
        attempt=1,
        epoch=1,
        member=MEMBERS[role] + worker,
        role=role,
        worker=worker if trains else SERVER_WORKER,
        work_dir=str(work_dir(folder, role, worker)),
        checkpoint_dir=str(folder / "checkpoints"),
        endpoint=str(folder / "socket"),
        spec=spec.canonical(),
        shm_prefix=f"trainhub-benchmark-{os.getpid()}",
        run_key=b"benchmark",
        kernels=str(KERNELS),
    )


def make_kernel(spec: RunSpec) -> None:
    """Compile the run's rules where that can be done: as on a machine that has trained by them before."""
    text = choosing.text(setup.build(spec).core)
    if text is not None:
        compiling.build(text, KERNELS)


def work_dir(folder: Path, role: Role, worker: int = 0) -> Path:
    return folder / (f"{role}-{worker}" if role is Role.TRAINER else role)


def start(what: Assignment, *cores: int) -> BaseProcess:
    """Start a child on these cores. None named: on all that there are."""
    child = CONTEXT.Process(target=_pinned, args=(cores or tuple(os.sched_getaffinity(0)), what))
    child.start()
    return child


def _pinned(cores: tuple[int, ...], what: Assignment) -> None:
    os.sched_setaffinity(0, cores)
    process.main(what)


def stop(server: BaseProcess) -> None:
    """End a server in order; its trainers hear it from it."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGTERM)
    server.join(END_SECONDS)


def times(folder: Path) -> list[float]:
    """When each gradient was applied, in seconds since 1970, as far as the server has reported."""
    found: list[float] = []
    for batch in batches(work_dir(folder, Role.SERVER)):
        for points in batch.points:
            if points.key == events.LOSS:
                found += memoryview(points.t).cast("d").tolist()
    return found


def batches(of: Path) -> Iterator[events.Batch]:
    for path in sorted(of.glob("spool-*")):
        data, offset = path.read_bytes(), 0
        while (step := events.decode(data, offset)) is not None:
            yield step[0]
            offset = step[1]


def wait_for(folder: Path, gradients: int, children: list[BaseProcess]) -> list[float]:
    """Wait until so many gradients have been reported; returns their times."""
    while len(found := times(folder)) < gradients:
        assert all(c.is_alive() for c in children), (work_dir(folder, Role.TRAINER) / "output.log").read_text()
        time.sleep(POLL_SECONDS)
    return found[:gradients]
