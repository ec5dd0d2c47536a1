"""The trainer child: batch, gradient, push, new weights; until the server says stop."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from workers import catalog
from workers.assignment import Cause, Exit, Outcome
from workers.failures import Failure, from_user, user_code
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.problems import registry
from workers.problems.base import Problem
from workers.process import Child
from workers.server.setup import build_model, build_rule
from workers.spec import RunSpec
from workers.trainer.batches import STEP, Batches, number, stream, to_device
from workers.trainer.delays import Delays
from workers.transport.base import Answer, Report, RunEnded, TrainerSession
from workers.transport.shared_memory import SharedMemorySession, SlotSize

START_SECONDS = 1.0


def run(child: Child) -> Exit:
    """Train until the run ends, or this trainer is asked to leave."""
    trainer = Trainer(child)
    try:
        trainer.train()
    except RunEnded as end:
        return Exit(Outcome.COMPLETED if end.completed else Outcome.STOPPED, version=trainer.version)
    return Exit(Outcome.STOPPED, version=trainer.version)


class Trainer:
    def __init__(self, child: Child) -> None:
        self._child = child
        spec, worker = child.spec, child.assignment.worker
        self._problem = registry.load(spec.problem)
        with user_code("placed()"):
            self._problem.placed(worker, spec.workers.max)
        with user_code("dataset('train')", Cause.DATA):
            self._dataset = self._problem.dataset("train")
        self._model = build_model(self._problem, spec.seed)
        self._layout = Layout.of(self._model, spec.optimizer)
        self._batch_norm: BatchNorm = build_rule(catalog.BATCH_NORMS, spec.batch_norm)
        self._batch_norm.prepare(self._model)
        self._session = self._join()
        self._layout.take_constants(self._model, self._session.constants)
        self._layout.bind(self._model, self._session.weights, self._session.buffers)
        self._reset_statistics()
        self._gradients = Gradients(self._model, self._layout, self._session, spec)
        self._delays = Delays(spec.delays, seed=spec.seed, worker=worker)
        self._steps = Steps(self._problem, self._model, spec, worker)
        self.version = 0

    def _join(self) -> TrainerSession:
        layout = self._layout
        manifest = layout.manifest([m.name for m in self._problem.metrics])
        return SharedMemorySession(self._child.assignment, self._child.stop, manifest, SlotSize.trainer(layout))

    def _reset_statistics(self) -> None:
        """As torch starts them. Needed at the start, and where a batch that was not finite has left NaN:
        0 * NaN would keep it there."""
        for statistic in self._layout.statistics:
            statistic.of(self._session.buffers).fill_(0.0 if statistic.kind == "running_mean" else 1.0)

    def train(self) -> None:
        """Returns when asked to leave. Raises RunEnded, ServerLost or Failure."""
        answer = self._started()
        if answer is None:
            return
        wait_seconds = math.nan
        batches = self._stream(answer.step)
        self._model.train()
        while not self._child.stop.requested:
            self.version = answer.version
            report = self._compute(batches, answer.step, wait_seconds)
            pushed_at = time.perf_counter()
            self._session.push(report, step=answer.step)
            answer = self._next(answer)
            wait_seconds = time.perf_counter() - pushed_at
        self._session.leave()

    def _started(self) -> Answer | None:
        """Wait until the run starts. None: asked to leave before."""
        while not self._child.stop.requested:
            if self._session.waits(START_SECONDS):
                return self._session.answer()
        self._session.leave()
        return None

    def _next(self, last: Answer) -> Answer:
        answer = self._session.answer()
        if answer.step != last.step + 1:
            raise Failure(Cause.ENGINE, f"the server goes on with step {answer.step} after step {last.step}")
        if not answer.applied:
            self._reset_statistics()
        return answer

    def _stream(self, step: int) -> Iterator[Any]:
        spec, worker = self._child.spec, self._child.assignment.worker
        batches = Batches(
            seed=spec.seed,
            worker=worker,
            workers=spec.workers.max,
            examples=len(self._dataset),  # type: ignore[arg-type]
            batch_size=spec.batch_size,
        )
        first = step * spec.accumulation
        return stream(self._dataset, batches, first, self._problem.collate, spec.data_loader_workers, spec.seed)

    def _compute(self, batches: Iterator[Any], step: int, wait_seconds: float) -> Report:
        """Make one gradient and leave it in the slot."""
        began = time.perf_counter()
        self._steps.begin(step)
        for index in range(self._child.spec.accumulation):
            batch_began = time.perf_counter()
            self._steps.add(next(batches))
            if self._delays:
                batch = step * self._child.spec.accumulation + index
                self._session.waits(self._delays.seconds(batch, time.perf_counter() - batch_began))
        computed = time.perf_counter()
        norm = self._gradients.hand_over()
        ended = time.perf_counter()
        loss, metrics = self._steps.means()
        return Report(loss, norm, computed - began, wait_seconds, ended - computed, metrics)


class Steps:
    """Forward and backward of the batches of one push. Gradients of their mean loss are in `parameter.grad`."""

    def __init__(self, problem: Problem, model: nn.Module, spec: RunSpec, worker: int) -> None:
        self._problem, self._model, self._spec, self._worker = problem, model, spec, worker
        self._parameters = list(model.parameters())
        self._names = [m.name for m in problem.metrics]
        self._loss = 0.0
        self._metrics = [0.0] * len(self._names)

    def begin(self, step: int) -> None:
        """Start a step with nothing but its number to go by, random numbers included: it can be made again."""
        seed = number(self._spec.seed, STEP, self._worker, step)
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        for parameter in self._parameters:
            parameter.grad = None  # as zero_grad does, which walks all modules to find them: 40 µs
        self._loss = 0.0
        self._metrics = [0.0] * len(self._names)

    def add(self, batch: Any) -> None:
        try:
            loss, metrics = self._problem.loss(self._model, to_device(batch, self._spec.device))
            mean = loss / self._spec.accumulation if self._spec.accumulation > 1 else loss
            mean.backward()  # type: ignore[no-untyped-call]
            self._loss += float(loss.detach())
            for index, name in enumerate(self._names):
                self._metrics[index] += float(metrics.get(name, math.nan))
        except MemoryError:
            raise
        except Exception as error:
            raise from_user("loss()", error) from error

    def means(self) -> tuple[float, tuple[float, ...]]:
        count = self._spec.accumulation
        return self._loss / count, tuple(m / count for m in self._metrics)


class Gradients:
    """Moves gradients from the model into the slot."""

    def __init__(self, model: nn.Module, layout: Layout, session: TrainerSession, spec: RunSpec) -> None:
        named = dict(model.named_parameters())
        self._parameters = [named[s.name] for s in layout.segments]
        self._addresses = [p.data_ptr() for p in self._parameters]
        self._targets = [s.of(session.gradient) for s in layout.segments]
        self._flat = session.gradient
        self._clip_norm = spec.clip_norm
        self._flat.zero_()

    def hand_over(self) -> float:
        """Copy the gradients into the slot, clipped; returns their norm before clipping."""
        if any(p.data_ptr() != address for p, address in zip(self._parameters, self._addresses, strict=True)):
            raise Failure(Cause.USER_CODE, "a parameter was replaced in training; change its values in place instead")
        self._copy()
        norm = float(torch.linalg.vector_norm(self._flat))
        if self._clip_norm is not None and norm > self._clip_norm:
            self._flat.mul_(self._clip_norm / norm)
        return norm

    def _copy(self) -> None:
        gradients: list[Tensor] = []
        targets: list[Tensor] = []
        for parameter, target in zip(self._parameters, self._targets, strict=True):
            if parameter.grad is None:
                target.zero_()  # not used in this batch
            else:
                gradients.append(parameter.grad)
                targets.append(target)
        torch._foreach_copy_(targets, gradients)
