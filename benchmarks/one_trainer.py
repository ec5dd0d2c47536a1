"""A run with one trainer beside a bare PyTorch loop: same problem, batches, optimizer; one thread, b = 32.

The two take turns on the same core (the server has the other one). Both fetch the same examples, and both read loss
and metric of every step. The first steps of each turn, which warm caches up, do not count. The fastest
tenth of both is what a machine that does other things as well says least wrongly.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from benchmarks.children import CONTEXT, SERVER_CORE, TRAINER_CORE, assignment, make_kernel, start, stop, wait_for
from benchmarks.report import Row, millis, percentile
from workers.assignment import Role
from workers.problems import registry
from workers.server.setup import build_model
from workers.spec import RunSpec
from workers.trainer.batches import Batches, fetch

PROBLEMS: dict[str, dict[str, Any]] = {
    "digits CNN": {"kind": "digits"},
    "CNN, 11 M": {"kind": "python", "target": "benchmarks.problems:LargeCnn"},
}
STEPS = {"digits CNN": 400, "CNN, 11 M": 14}
WARM_UP = {"digits CNN": 50, "CNN, 11 M": 4}
ROUNDS = 4
LEARNING_RATE, MOMENTUM = 0.01, 0.9
BAR_PERCENT = 3.0


def spec_of(name: str) -> RunSpec:
    return RunSpec.parse(
        {
            "name": name,
            "problem": PROBLEMS[name],
            "optimizer": {"kind": "sgd", "learning_rate": LEARNING_RATE, "momentum": MOMENTUM},
            "workers": 1,
            "batch_size": 32,
            "budget": {"updates": 10_000_000},
            "evaluation": {"every_passes": 1e6},
            "checkpoints": {"every_seconds": None},
        }
    )


def ours(name: str) -> list[float]:
    """Seconds of each step of a run."""
    spec = spec_of(name)
    with tempfile.TemporaryDirectory(prefix="th-") as path:
        folder = Path(path)
        make_kernel(spec)
        server = start(assignment(spec, folder, Role.SERVER), SERVER_CORE)
        trainer = start(assignment(spec, folder, Role.TRAINER), TRAINER_CORE)
        at = wait_for(folder, STEPS[name], [server, trainer])
        stop(server)
        trainer.join()
    return [b - a for a, b in pairwise(at)][WARM_UP[name] :]


def bare(name: str) -> list[float]:
    """Seconds of each step of a plain loop, in a process of its own."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    child = CONTEXT.Process(target=_bare, args=(name, sender))
    child.start()
    found: list[float] = receiver.recv()
    child.join()
    return found


def _bare(name: str, result: Connection) -> None:
    os.sched_setaffinity(0, {TRAINER_CORE})
    torch.set_num_threads(1)
    spec = spec_of(name)
    problem = registry.load(spec.problem)
    data, model = problem.dataset("train"), build_model(problem, spec.seed)
    batches = Batches(seed=0, worker=0, workers=1, examples=len(data), batch_size=32)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    model.train()
    at = []
    for step in range(STEPS[name]):
        batch = fetch(data, batches[step], problem.collate)
        optimizer.zero_grad()
        loss, metrics = problem.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        float(loss.detach()), [float(m) for m in metrics.values()]
        at.append(time.perf_counter())
    result.send([b - a for a, b in pairwise(at)][WARM_UP[name] :])


def measure(name: str) -> Row:
    run, loop = [], []
    for _ in range(ROUNDS):
        loop += bare(name)
        run += ours(name)
    one, other = statistics.median(run), statistics.median(loop)
    return {
        "model": name,
        "one trainer": millis(one),
        "bare loop": millis(other),
        "slower by": slower(one, other),
        "fastest tenth": slower(percentile(run, 10), percentile(loop, 10)),
        "bar": f"{BAR_PERCENT:.0f} %",
    }


def slower(one: float, other: float) -> str:
    return f"{100 * (one / other - 1):.1f} %"


def main() -> list[Row]:
    torch.set_num_threads(1)
    return [measure(name) for name in PROBLEMS]
