"""The evaluator child: says what the server's weights are worth on the test examples, beside the training.

On a CPU, unless the spec asks for a GPU: the GPUs' memory and time are the trainers'. And in float32 whatever trainers
compute in: these are the weights that a checkpoint holds, and what they are worth in plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from workers import devices
from workers.assignment import Cause, Exit, Outcome
from workers.devices import HOST, mapped
from workers.failures import user_code
from workers.layout import Layout
from workers.problems import registry
from workers.problems.base import Problem
from workers.process import Child
from workers.server.setup import build_model
from workers.trainer.batches import fetch
from workers.transport.base import RunEnded
from workers.transport.mirror import mirror
from workers.transport.shared_memory import EvaluatorSession, SlotSize

IDLE_SECONDS = 5.0


def run(child: Child) -> Exit:
    """Evaluate whenever the server asks, until it hangs up or says stop."""
    device = devices.of(child.assignment)
    problem = registry.load(child.spec.problem, child.data)
    model = build_model(problem, child.spec.seed)
    layout = Layout.of(model, child.spec.optimizer)
    with user_code("dataset('test')", Cause.DATA):
        dataset = problem.dataset("test")
    manifest = layout.manifest([m.name for m in problem.metrics])
    session = EvaluatorSession(child.assignment, child.stop, manifest, SlotSize.evaluator(layout))
    model.to(device.where)
    layout.take_constants(model, session.constants)
    vectors = mirror((session.weights, session.buffers), device)
    layout.bind(model, *vectors.vectors)
    try:
        while not child.stop.requested:
            if session.waits(IDLE_SECONDS):
                version = session.next_version()
                vectors.bring()
                values = evaluate(problem, model, dataset, child.spec.evaluation.batch_size, device.where)
                session.result(version, values)
    except RunEnded:
        return Exit(Outcome.COMPLETED)
    session.leave()
    return Exit(Outcome.STOPPED)


def evaluate(
    problem: Problem, model: nn.Module, dataset: Dataset[Any], batch_size: int, device: torch.device = HOST.where
) -> list[float]:
    """Loss and the problem's metrics, in their order: means over all test examples. The model is on `device`."""
    model.eval()
    sums = [0.0] * (1 + len(problem.metrics))
    count = 0
    with torch.no_grad():
        for indices in _ranges(len(dataset), batch_size):  # type: ignore[arg-type]
            with user_code("fetching test examples", Cause.DATA):
                batch = mapped(fetch(dataset, indices, problem.collate), lambda t: t.to(device))
            with user_code("loss() in evaluation"):
                loss, metrics = problem.loss(model, batch)
            values = [float(loss), *(float(metrics.get(m.name, float("nan"))) for m in problem.metrics)]
            sums = [s + v * len(indices) for s, v in zip(sums, values, strict=True)]
            count += len(indices)
    return [s / count for s in sums] if count else [float("nan")] * len(sums)


def _ranges(length: int, size: int) -> Iterator[list[int]]:
    for start in range(0, length, size):
        yield list(range(start, min(start + size, length)))
