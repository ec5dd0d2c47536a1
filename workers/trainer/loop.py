"""The trainer child: batch, gradient, push, new weights; until the server says stop.

`Trainer` pushes gradients and waits. Trainers that step by themselves are its subclasses in `displacing`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from workers import catalog, devices
from workers.assignment import Cause, Exit, Outcome
from workers.devices import Feed
from workers.failures import Failure, user_code
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.problems import registry
from workers.problems.base import Problem
from workers.process import Child
from workers.server.setup import build_model, build_rule, build_window
from workers.spec import RunSpec
from workers.trainer.batches import Batches, stream
from workers.trainer.delays import Delays
from workers.trainer.early import Early
from workers.trainer.steps import Gradients, Steps
from workers.transport import choose
from workers.transport.base import Answer, Report, RunEnded, TrainerSession
from workers.transport.mirror import on_device
from workers.transport.network import NetworkSession
from workers.transport.shared_memory import SlotSize

START_SECONDS = 1.0


class Vectors(NamedTuple):
    """Weights, gradient, and batch-norm statistics both ways."""

    weights: Tensor
    gradient: Tensor
    buffers: Tensor
    served: Tensor


class Ready(NamedTuple):
    """A step that has begun: its first batch, and the seconds that took."""

    batch: Any
    seconds: float


def run(child: Child) -> Exit:
    """Train until the run ends, or this trainer is asked to leave."""
    trainer = _kind(child.spec)(child)
    try:
        trainer.train()
    except RunEnded as end:
        return Exit(Outcome.COMPLETED if end.completed else Outcome.STOPPED, version=trainer.version)
    finally:
        trainer.close()
    return Exit(Outcome.STOPPED, version=trainer.version)


def _kind(spec: RunSpec) -> type[Trainer]:
    if spec.shards > 1:
        from workers.trainer.group.trainer import GroupTrainer

        return GroupTrainer
    if not spec.displaces:
        return Trainer
    from workers.trainer import displacing

    return displacing.OuterTrainer if spec.waiting.kind == "blocking" else displacing.CandidateTrainer


def stream_of(
    child: Child, problem: Problem, dataset: Dataset[Any], step: int, rows: slice = slice(None)
) -> Iterator[Any]:
    """A trainer's batches from `step` on, or those `rows` of each."""
    spec = child.spec
    batches = Batches(
        seed=spec.seed,
        worker=child.assignment.worker,
        workers=spec.workers.max,
        examples=len(dataset),  # type: ignore[arg-type]
        batch_size=spec.batch_size,
        rows=rows,
    )
    first = step * spec.accumulation
    return stream(dataset, batches, first, problem.collate, spec.data_loader_workers, spec.seed)


class Trainer:
    def __init__(self, child: Child) -> None:
        self._child = child
        self._spec = child.spec
        spec, worker = child.spec, child.assignment.worker
        self._device = devices.of(child.assignment)
        self._problem = registry.load(spec.problem, child.data)
        with user_code("placed()"):
            self._problem.placed(worker, spec.workers.max)
        with user_code("dataset('train')", Cause.DATA):
            self._dataset = self._problem.dataset("train")
        self._model = build_model(self._problem, spec.seed)
        self._layout = Layout.of(self._model, spec.optimizer)
        self._batch_norm: BatchNorm = build_rule(catalog.BATCH_NORMS, spec.batch_norm)
        self._session = self._join()
        self._layout.take_constants(self._model, self._session.constants)
        self._vectors = self._make_vectors()
        self._window = build_window(spec)
        self._delays = Delays(spec.delays, seed=spec.seed, worker=worker)
        self._prepare()
        self._reset_statistics()
        self.version = 0

    def _prepare(self) -> None:
        """Make model and vectors one, and get ready for the first step."""
        spec, worker = self._spec, self._child.assignment.worker
        self._bind()
        self._early = self._send_early()
        flat = self._vectors.gradient
        self._gradients = Gradients(self._model, self._layout, flat, spec.clip_norm, self._early)
        self._steps = Steps(self._problem, self._model, spec, worker, self._device)

    def close(self) -> None:
        """Let go of what outlives the training."""

    def _join(self) -> TrainerSession:
        size = SlotSize.trainer(self._layout, self._batch_norm)
        return on_device(choose.connect(self._child, self._manifest(), size), self._device)

    def _manifest(self) -> bytes:
        return self._layout.manifest([m.name for m in self._problem.metrics])

    def _send_early(self) -> Early | None:
        """Send gradients while they are computed, where the line takes time and a part can be sent before the rest is
        known: between hosts, of one batch, not clipped. A trainer that is slow on purpose listens meanwhile instead."""
        spec, session = self._spec, self._session
        if not isinstance(session, NetworkSession) or not session.piecewise or spec.displaces or self._delays:
            return None
        if spec.clip_norm is not None or spec.accumulation > 1:
            return None
        return Early(self._model, self._layout, session.gradient, session)

    def _make_vectors(self) -> Vectors:
        """What the model computes with and leaves its results in: the slot itself, so that nothing is copied."""
        session = self._session
        return Vectors(session.weights, session.gradient, session.buffers, session.served)

    def _reset_statistics(self) -> None:
        """As torch starts them. Needed at the start, and where a batch that was not finite has left NaN:
        0 * NaN would keep it there."""
        for statistic in self._layout.statistics:
            statistic.of(self._vectors.buffers).fill_(0.0 if statistic.kind == "running_mean" else 1.0)

    def _bind(self) -> None:
        vectors, rule = self._vectors, self._batch_norm
        self._model.to(self._device.where)
        self._layout.bind(self._model, vectors.weights, vectors.served if rule.serves else vectors.buffers)
        try:
            rule.prepare(self._model, self._layout.places, vectors.served, vectors.buffers)
        except ValueError as error:
            raise Failure(Cause.SPEC, str(error)) from None

    def train(self) -> None:
        """Returns when asked to leave. Raises RunEnded, ServerLost or Failure."""
        answer = self._started()
        if answer is None:
            return
        wait_seconds = math.nan
        batches = self._stream(answer.step)
        self._model.train()
        ready = self._begin_step(batches, answer.step)
        while not self._child.stop.requested:
            self.version = answer.version
            report = self._compute(batches, answer.step, ready, wait_seconds)
            pushed_at = time.perf_counter()
            self._session.push(report, step=answer.step, scale=self._window.scale if self._window else None)
            ready = self._begin_step(batches, answer.step + 1)  # while the server works
            answer = self._next(answer.step + 1)
            wait_seconds = time.perf_counter() - pushed_at - ready.seconds
            if answer.rejoined:
                batches, wait_seconds = self._stream(answer.step), math.nan
                ready = self._begin_step(batches, answer.step)
        self._session.leave()

    def _started(self) -> Answer | None:
        """Wait until the run starts. None: asked to leave before."""
        while not self._child.stop.requested:
            if self._session.waits(START_SECONDS):
                return self._session.answer()
        self._session.leave()
        return None

    def _next(self, due: int) -> Answer:
        """Wait for the answer to a push, behind which step number `due` comes."""
        answer = self._session.answer()
        if answer.rejoined:
            self._begin_anew()
            return answer
        if answer.step != due:
            raise Failure(Cause.ENGINE, f"the server goes on with step {answer.step} where {due} was due")
        if not answer.applied:
            self._reset_statistics()
        elif self._window is not None:
            self._window.add(answer.staleness)
        return answer

    def _begin_anew(self) -> None:
        """Forget what a newcomer would not know: to the server, and to who replays the run, this trainer is one."""
        self._reset_statistics()
        self._window = build_window(self._spec)

    def _stream(self, step: int) -> Feed:
        return self._device.feed(stream_of(self._child, self._problem, self._dataset, step))

    def _compute(self, batches: Feed, step: int, ready: Ready, wait_seconds: float) -> Report:
        """Make one gradient and leave it in the slot."""
        began = time.perf_counter()
        self._batch_norm.begin(self._vectors.buffers)
        if self._early is not None:
            self._early.begin()
        self._forward_and_backward(batches, step, ready)
        computed = time.perf_counter()
        norm = self._gradients.hand_over()
        ended = time.perf_counter()
        loss, metrics = self._steps.means()
        return Report(loss, norm, ready.seconds + computed - began, wait_seconds, ended - computed, metrics)

    def _begin_step(self, batches: Feed, step: int) -> Ready:
        """Set the step's random numbers, then fetch its first batch: in this order wherever a step is made."""
        began = time.perf_counter()
        self._steps.begin(step)
        return Ready(next(batches), time.perf_counter() - began)

    def _forward_and_backward(self, batches: Feed, step: int, ready: Ready) -> None:
        for index in range(self._spec.accumulation):
            began = time.perf_counter()
            self._steps.add(next(batches) if index else ready.batch, batches.prepare)
            if self._delays:
                batch = step * self._spec.accumulation + index
                seconds = time.perf_counter() - began + (0.0 if index else ready.seconds)
                self._pause(self._delays.seconds(batch, seconds))

    def _pause(self, seconds: float) -> None:
        """Be slow on purpose; a word of the server ends that, since now it can only be a stop."""
        self._session.waits(seconds)
