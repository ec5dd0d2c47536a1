"""Trainers without processes: gradients by (worker, step, weights read), computed one after another by one model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from workers.assignment import Cause
from workers.failures import Failure, from_user, user_code
from workers.problems import registry
from workers.problems.base import Problem
from workers.server.passes import HandOver
from workers.server.setup import Run, build_model
from workers.simulator.snapshots import Snapshot
from workers.spec import RunSpec
from workers.trainer.batches import Batches, fetch
from workers.trainer.steps import Gradients, Steps
from workers.transport.base import OwnSteps


class Measured(NamedTuple):
    """What one gradient's computation showed."""

    loss: float
    gradient_norm: float
    metrics: tuple[float, ...]
    own: OwnSteps | None = None
    """Where the trainer steps by itself."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class Place:
    """The vectors of a hand-over slot, in ordinary memory."""

    def __init__(self, run: Run) -> None:
        core, layout = run.core, run.layout
        rule = core.rules.batch_norm
        statistics = rule.parts * layout.channels
        self.gradient = torch.zeros(layout.size)
        self.weights = torch.zeros(layout.size)
        self.buffers = torch.zeros(statistics)
        self.served = torch.zeros(statistics if rule.serves else 0)
        self.hand_over = HandOver.of(
            core.tiling, gradient=self.gradient, weights=self.weights, buffers=self.buffers, served=self.served
        )


@dataclass(frozen=True)
class Student:
    """One trainer's own: its data and how it goes through them."""

    problem: Problem
    dataset: Dataset[Any]
    batches: Batches
    steps: Steps


class Trainers:
    """All trainers of a run. The model computes in vectors of its own, so that nothing it does reaches a snapshot."""

    def __init__(self, spec: RunSpec, run: Run) -> None:
        self._spec, self._run = spec, run
        self._shared = self._load()
        self._model = build_model(self._shared[0], spec.seed)
        self._work = Place(run)
        self._bind()
        self._gradients = Gradients(self._model, run.layout, self._work.gradient, spec.clip_norm)
        self._students: dict[int, Student] = {}
        self._model.train()

    def _load(self) -> tuple[Problem, Dataset[Any]]:
        problem = registry.load(self._spec.problem, self._run.data)
        with user_code("dataset('train')", Cause.DATA):
            return problem, problem.dataset("train")

    def _bind(self) -> None:
        layout, rule, work = self._run.layout, self._run.core.rules.batch_norm, self._work
        constants = torch.zeros(layout.constants_bytes, dtype=torch.uint8)
        layout.give_constants(self._run.model, constants)
        layout.take_constants(self._model, constants)
        layout.bind(self._model, work.weights, work.served if rule.serves else work.buffers)
        try:
            rule.prepare(self._model, layout.places, work.served, work.buffers)
        except ValueError as error:
            raise Failure(Cause.SPEC, str(error)) from None
        work.buffers.zero_()

    def compute(self, worker: int, step: int, read: Snapshot, place: Place) -> Measured:
        """Compute a trainer's gradient number `step` at what it has read, and leave it in `place` as it would in
        its slot: gradient and statistics of the batch, beside the weights they were computed with."""
        student = self._student(worker)
        self._read(read)
        self._run.core.rules.batch_norm.begin(self._work.buffers)
        measured = self._gradient(student, step)
        self._leave_in(place, read)
        return measured

    def forget(self, worker: int) -> None:
        """A trainer is new, or as if it were: what it kept is gone. This kind keeps nothing."""

    def _gradient(self, student: Student, step: int) -> Measured:
        """Compute gradient number `step` where the model is."""
        student.steps.begin(step)
        for index in range(self._spec.accumulation):
            student.steps.add(self._batch(student, step * self._spec.accumulation + index))
        norm = self._gradients.hand_over()
        loss, metrics = student.steps.means()
        return Measured(loss, norm, metrics)

    def _read(self, read: Snapshot) -> None:
        self._work.weights.copy_(read.weights)
        if self._work.hand_over.is_served:
            self._work.served.copy_(read.served)

    def _leave_in(self, place: Place, read: Snapshot) -> None:
        place.gradient.copy_(self._work.gradient)
        place.weights.copy_(read.weights)
        if place.hand_over.is_served:
            place.served.copy_(read.served)
        if place.hand_over.has_buffers:
            place.buffers.copy_(self._work.buffers)
            if not bool(self._work.buffers.isfinite().all()):
                self._work.buffers.zero_()  # 0 * NaN would stay in them

    def _batch(self, student: Student, number: int) -> Any:
        try:
            return fetch(student.dataset, student.batches[number], student.problem.collate)
        except MemoryError:
            raise
        except Exception as error:
            raise from_user("fetching training examples", error, Cause.DATA) from error

    def _student(self, worker: int) -> Student:
        student = self._students.get(worker)
        if student is None:
            student = self._students[worker] = self._enrol(worker)
        return student

    def _of(self, worker: int) -> tuple[Problem, Dataset[Any]]:
        """A trainer's problem and data."""
        # A problem that does not ask where it is placed is the same for all trainers: its data are loaded once.
        if type(self._shared[0]).placed is Problem.placed:
            return self._shared
        problem = registry.load(self._spec.problem, self._run.data)
        with user_code("placed()"):
            problem.placed(worker, self._spec.workers.max)
        with user_code("dataset('train')", Cause.DATA):
            return problem, problem.dataset("train")

    def _enrol(self, worker: int) -> Student:
        spec = self._spec
        problem, dataset = self._of(worker)
        batches = Batches(
            seed=spec.seed,
            worker=worker,
            workers=spec.workers.max,
            examples=len(dataset),  # type: ignore[arg-type]
            batch_size=spec.batch_size,
        )
        return Student(problem, dataset, batches, Steps(problem, self._model, spec, worker))
