"""A run's synchronous counterpart: torch's DistributedDataParallel over gloo, a process a trainer.

The same problem, first weights, batches and injected slowness as a run of the same spec has; torch's own SGD. Each step
takes one batch of each trainer and all-reduces their mean gradient, as long as the slowest one takes.
"""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.children import CONTEXT
from workers.evaluator import evaluate
from workers.problems import registry
from workers.problems.base import Problem
from workers.server.setup import build_model, build_schedule
from workers.spec import RunSpec, Sgd
from workers.trainer.batches import Batches, fetch
from workers.trainer.delays import Delays

DEADLINE = timedelta(seconds=60)
RUN_SECONDS = 300.0
PRACTICE = 20


class Moment(NamedTuple):
    """What the weights were worth at a time, in seconds of training, after so many gradients."""

    seconds: float
    gradients: int
    accuracy: float


def train(spec: RunSpec) -> list[Moment]:
    """Train to the end of the budget. Raises EOFError where a process was lost."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="th-") as folder:
        ranks = [
            CONTEXT.Process(target=_rank, args=(spec, rank, Path(folder) / "store", sender))
            for rank in range(spec.workers.max)
        ]
        for process in ranks:
            process.start()
        sender.close()
        if not receiver.poll(RUN_SECONDS):
            raise TimeoutError(f"DDP did not end within {RUN_SECONDS:.0f} s")
        found: list[Moment] = receiver.recv()
        for process in ranks:
            process.join()
    return found


def _rank(spec: RunSpec, rank: int, store: Path, result: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    trainers = spec.workers.max
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=trainers, timeout=DEADLINE)
    trainer = Trainer(spec, rank)
    trainer.practise()
    dist.barrier()
    snapshots = trainer.train()
    if rank == 0:
        result.send(worth(trainer.problem, build_model(trainer.problem, spec.seed), snapshots, trainers))
    dist.barrier()
    dist.destroy_process_group()


class Trainer:
    """One rank."""

    def __init__(self, spec: RunSpec, rank: int) -> None:
        self._spec, self._rank = spec, rank
        self.problem = registry.load(spec.problem)
        self._data = self.problem.dataset("train")
        examples = len(self._data)  # type: ignore[arg-type]
        self._model = DistributedDataParallel(build_model(self.problem, spec.seed))
        self._optimizer = build_optimizer(spec, self._model)
        self._rate: Callable[[int], float] = build_schedule(spec, examples)
        self._batches = Batches(
            seed=spec.seed, worker=rank, workers=spec.workers.max, examples=examples, batch_size=spec.batch_size
        )
        self._delays = Delays(spec.delays, seed=spec.seed, worker=rank)
        self._steps = -(-int(spec.budget.passes or 0) * examples // (spec.batch_size * spec.workers.max))
        self._compute_seconds = 0.0

    def practise(self) -> None:
        """Learn how long a batch takes to compute, so that sleep and computing together take what the spec says."""
        took = []
        for step in range(PRACTICE):
            began = time.perf_counter()
            with self._model.no_sync():
                self._loss(step).backward()  # type: ignore[no-untyped-call]
            took.append(time.perf_counter() - began)
        self._compute_seconds = statistics.median(took)
        self._optimizer.zero_grad()

    def train(self) -> list[tuple[float, dict[str, Tensor]]]:
        """The weights after each step, with the time at which they were there; of rank 0."""
        found = []
        began = time.perf_counter()
        for step in range(self._steps):
            # Before the backward pass, which all-reduces while it runs.
            time.sleep(self._delays.seconds(step, self._compute_seconds))
            self._loss(step).backward()  # type: ignore[no-untyped-call]
            self._step(step * self._spec.workers.max)
            if self._rank == 0:
                found.append((time.perf_counter() - began, copy.deepcopy(self._model.module.state_dict())))
        return found

    def _loss(self, step: int) -> Tensor:
        self._optimizer.zero_grad()
        return self.problem.loss(self._model, fetch(self._data, self._batches[step], self.problem.collate))[0]

    def _step(self, gradients: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(gradients)
        self._optimizer.step()


def build_optimizer(spec: RunSpec, model: nn.Module) -> torch.optim.Optimizer:
    """torch's own; as in a run, biases don't decay."""
    part = spec.optimizer
    assert isinstance(part, Sgd)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": part.weight_decay}, {"params": others}]
    return torch.optim.SGD(groups, lr=part.learning_rate, momentum=part.momentum, nesterov=part.nesterov)


def worth(
    problem: Problem, model: nn.Module, snapshots: list[tuple[float, dict[str, Tensor]]], trainers: int
) -> list[Moment]:
    """Accuracy on the examples that nobody trains on, looked at when training is over: it costs DDP no time."""
    found = []
    for step, (seconds, state) in enumerate(snapshots, start=1):
        model.load_state_dict(state)
        _, accuracy, *_ = evaluate(problem, model, problem.dataset("test"), 512)
        found.append(Moment(seconds, step * trainers, accuracy))
    return found
