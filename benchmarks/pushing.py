"""A run without training: a real server child, and sessions that push the same gradient again and again."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.children import CONTEXT, SERVER_CORE, TRAINER_CORE, assignment, make_kernel, start, stop
from workers import catalog, process
from workers.assignment import Assignment, Role
from workers.layout import Layout
from workers.problems import registry
from workers.process import StopSignal
from workers.server.core import ParameterServer
from workers.server.setup import build_model, build_rule
from workers.spec import RunSpec
from workers.transport.base import Report
from workers.transport.patience import cores_for
from workers.transport.shared_memory import SharedMemorySession, SlotSize

REPORT = Report(1.0, 1.0, 0.001, 0.001, 0.001, (1.0,))


def spec_of(floats: int, workers: int, changes: Mapping[str, Any] | None = None) -> RunSpec:
    """Plain SGD on so many parameters, without evaluations and checkpoints."""
    base: dict[str, Any] = {
        "name": "pushing",
        "problem": {"kind": "ledger", "coordinates": floats},
        "optimizer": {"kind": "sgd", "learning_rate": 1e-6},
        "workers": workers,
        "budget": {"updates": 10_000_000},
        "evaluation": {"every_passes": 1e6},
        "checkpoints": {"every_seconds": None},
    }
    return RunSpec.parse(base | dict(changes or {}))


class Pusher:
    """A trainer's session that has nothing to compute."""

    def __init__(self, spec: RunSpec, folder: Path, worker: int = 0) -> None:
        problem = registry.load(spec.problem)
        layout = Layout.of(build_model(problem, spec.seed), spec.optimizer)
        manifest = layout.manifest([m.name for m in problem.metrics])
        size = SlotSize.trainer(layout, build_rule(catalog.BATCH_NORMS, spec.batch_norm))
        mine = assignment(spec, folder, Role.TRAINER, worker)
        has_core = cores_for(spec.slots)
        self.session = SharedMemorySession(mine, StopSignal(), manifest, size, has_core=has_core)
        self._step = 0

    def start(self) -> None:
        """Wait for the first weights: until all have joined."""
        self._step = self.session.answer().step
        self.session.gradient.fill_(1e-3)

    def push(self) -> None:
        self.session.push(REPORT, step=self._step)

    def answer(self) -> int:
        """Wait for new weights; returns their version."""
        answer = self.session.answer()
        self._step = answer.step
        return answer.version

    def times(self, count: int) -> list[float]:
        """Seconds of so many cycles: from the push's call to new weights that are readable."""
        found = []
        for _ in range(count):
            self.session.gradient.mul_(1.0)  # as in training, where a backward pass has just written it
            began = time.perf_counter()
            self.push()
            self.answer()
            found.append(time.perf_counter() - began)
        return found

    def close(self) -> None:
        self.session.leave()
        self.session.close()


def serve(spec: RunSpec, folder: Path, *, together: bool = True, compiled: bool = True) -> BaseProcess:
    """The server child, on its core. End it with `children.stop`. `together`: whether gradients that wait at the same
    time may go in by one walk, as they do in a run; `compiled`: whether its rules run as one compiled loop."""
    what = assignment(spec, folder, Role.SERVER)
    if compiled:
        make_kernel(spec)
    else:
        what = replace(what, kernels="")
    if together:
        return start(what, SERVER_CORE)
    child = CONTEXT.Process(target=_one_at_a_time, args=(what,))
    child.start()
    return child


def _one_at_a_time(what: Assignment) -> None:
    """A server that takes in each gradient by a walk of its own: what there is to compare with."""
    os.sched_setaffinity(0, {SERVER_CORE})
    ParameterServer.coalesces = property(lambda self: False)  # type: ignore[method-assign, assignment]
    process.main(what)


def cycles(floats: int, count: int, warm_up: int) -> list[float]:
    """Seconds of so many cycles of one trainer, on the trainer's core, beside a server on its own."""
    spec = spec_of(floats, 1)
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="th-") as path:
        server = serve(spec, Path(path))
        os.sched_setaffinity(0, {TRAINER_CORE})
        torch.set_num_threads(1)
        try:
            pusher = Pusher(spec, Path(path))
            pusher.start()
            found = pusher.times(warm_up + count)[warm_up:]
            pusher.close()
        finally:
            os.sched_setaffinity(0, cores)
            stop(server)
    return found
