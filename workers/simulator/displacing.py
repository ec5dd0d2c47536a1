"""Simulated trainers that step by themselves: what `workers.trainer.displacing` does live, without session and time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.methods.waiting.candidate import Candidate
from workers.server.setup import Run, build_outer, build_schedule
from workers.simulator.groups import GroupTrainers
from workers.simulator.snapshots import Snapshot
from workers.simulator.trainers import Measured, Place, Student, Trainers
from workers.spec import Candidate as CandidatePart
from workers.spec import RunSpec
from workers.trainer import own_steps
from workers.trainer.own_steps import OwnOptimizer
from workers.transport.base import OwnSteps


class Means:
    """What the steps of one push measured."""

    def __init__(self) -> None:
        self._steps: list[Measured] = []

    def add(self, measured: Measured) -> None:
        self._steps.append(measured)

    def of(self, own: OwnSteps, *, finite: bool) -> Measured:
        """Their means. A displacement that is not finite has no norm."""
        count = len(self._steps)
        loss, norm = (sum(values) / count for values in zip(*(m[:2] for m in self._steps), strict=True))
        metrics = tuple(sum(values) / count for values in zip(*(m.metrics for m in self._steps), strict=True))
        return Measured(loss, norm if finite else math.nan, metrics, own)


class DisplacingTrainers(Trainers):
    def __init__(self, spec: RunSpec, run: Run) -> None:
        super().__init__(spec, run)
        self._schedule = build_schedule(spec, run.examples)
        self._optimizers: dict[int, OwnOptimizer] = {}

    def _optimizer(self, worker: int) -> OwnOptimizer:
        own = self._optimizers.get(worker)
        if own is None:
            layout = self._run.layout
            own = own_steps.build(self._spec.optimizer, layout.groups, self._work.weights)
            self._optimizers[worker] = own
        return own

    def forget(self, worker: int) -> None:
        """Its successor starts with nothing of its own."""
        self._optimizers.pop(worker, None)

    def _own_step(self, worker: int, student: Student, step: int, clock: int) -> tuple[Tensor, float, Measured]:
        """The displacement of one step at the weights the model is at, its rate, and what was measured."""
        measured = self._gradient(student, step)
        rate = self._schedule(clock)
        displacement = self._optimizer(worker).displacement(self._work.gradient, self._work.weights, rate)
        return displacement, rate, measured


class OuterTrainers(DisplacingTrainers):
    def __init__(self, spec: RunSpec, run: Run) -> None:
        super().__init__(spec, run)
        outer = build_outer(spec)
        assert outer is not None
        self._pushes_weights = outer.pushes_weights
        self._total = torch.zeros_like(self._work.weights)

    def compute(self, worker: int, step: int, read: Snapshot, place: Place) -> Measured:
        """Make all steps of a push, from what was read."""
        student, total, weights, means = self._student(worker), self._total, self._work.weights, Means()
        self._read(read)
        self._run.core.rules.batch_norm.begin(self._work.buffers)
        total.zero_()
        rate = 0.0
        for index in range(self._spec.outer_steps):
            clock = read.gradients + index * self._spec.workers.max
            displacement, rate, measured = self._own_step(worker, student, step + index, clock)
            means.add(measured)
            total.add_(displacement)
            weights.sub_(displacement)
        drift = float(torch.linalg.vector_norm(total))
        self._leave_in(place, read)
        place.gradient.copy_(weights if self._pushes_weights else total)
        own = OwnSteps(rate, math.nan, math.nan, drift, math.nan)
        measured = means.of(own, finite=math.isfinite(drift))
        if not measured.finite:
            self._optimizer(worker).reset()
        return measured


@dataclass
class Untiring:
    """One trainer that never waits."""

    candidate: Candidate
    buffers: Tensor
    served: Tensor
    version: int
    """The version merged last."""
    known: int
    """Gradients the server had applied then."""
    step: int
    """The next one."""
    first: int
    """The first step of the displacement in flight, and then of the one that grows."""
    sent: Tensor
    """Batch-norm statistics of the displacement in flight."""
    means: Means = field(default_factory=Means)


class CandidateTrainers(DisplacingTrainers):
    def __init__(self, spec: RunSpec, run: Run) -> None:
        super().__init__(spec, run)
        assert isinstance(spec.waiting, CandidatePart)
        self._mode = spec.waiting.mode
        self._untiring: dict[int, Untiring] = {}

    def started(self, worker: int) -> bool:
        return worker in self._untiring

    def of(self, worker: int) -> Untiring:
        return self._untiring[worker]

    def forget(self, worker: int) -> None:
        super().forget(worker)
        self._untiring.pop(worker, None)

    def begin(self, worker: int, read: Snapshot, step: int) -> None:
        """Start from the server's weights with step number `step`, and nothing else."""
        work = self._work
        candidate = Candidate(torch.empty_like(work.weights), torch.empty_like(work.weights), mode=self._mode)
        candidate.start(read.weights)
        buffers = torch.zeros_like(work.buffers)
        self._untiring[worker] = Untiring(
            candidate, buffers, read.served, read.version, read.gradients, step, step, buffers.clone()
        )
        self._run.core.rules.batch_norm.begin(buffers)

    def restart(self, worker: int) -> None:
        """What it pushed was refused: it begins anew with the next weights, and keeps its place in its data."""
        self._untiring.pop(worker, None)
        self._optimizers[worker].reset()

    def go_on(self, worker: int, step: int, gradients: int, received: Snapshot) -> Measured | None:
        """All periods up to the push of so many `gradients`, in whose last one `received` was there; where the
        trainer begins, it is what it begins with. None: the trainer would have pushed at another time."""
        if not self.started(worker):
            self.begin(worker, received, step)
            return self.period(worker, None) if gradients == 1 else None
        early = [self.period(worker, None) for _ in range(gradients - 1)]
        return self.period(worker, received) if early.count(None) == len(early) else None

    def period(self, worker: int, received: Snapshot | None) -> Measured | None:
        """Compute for one period, at whose end `received` was there. Returns what to report of a push, if it pushes:
        its displacement is the candidate's `in_flight`."""
        mine, student = self._untiring[worker], self._student(worker)
        candidate = mine.candidate
        self._take_up(mine)
        clock = mine.known + candidate.unacknowledged * self._spec.workers.max
        displacement, rate, measured = self._own_step(worker, student, mine.step, clock)
        mine.buffers.copy_(self._work.buffers)
        mine.means.add(measured)
        mine.step += 1
        drift = unacknowledged = math.nan
        if received is not None:
            drift = float(torch.dist(candidate.weights - displacement, received.weights))
            unacknowledged = candidate.unacknowledged + 1
        pushes = candidate.end_period(displacement, None if received is None else received.weights)
        left = math.nan
        if received is not None:
            left = float(torch.dist(candidate.weights, received.weights))
            mine.version, mine.known, mine.served = received.version, received.gradients, received.served
        return self._pushed(mine, OwnSteps(rate, candidate.flying - 1, unacknowledged, drift, left)) if pushes else None

    def _pushed(self, mine: Untiring, own: OwnSteps) -> Measured:
        finite = bool(mine.candidate.in_flight.isfinite().all())
        mine.first = mine.step - mine.candidate.flying
        mine.sent.copy_(mine.buffers)
        measured, mine.means = mine.means.of(own, finite=finite), Means()
        self._run.core.rules.batch_norm.begin(mine.buffers)
        return measured

    def _take_up(self, mine: Untiring) -> None:
        work = self._work
        work.weights.copy_(mine.candidate.weights)
        work.buffers.copy_(mine.buffers)
        work.served.copy_(mine.served)

    def leave_in(self, worker: int, place: Place) -> None:
        """Put the displacement in flight where the server takes it in."""
        mine = self._untiring[worker]
        place.gradient.copy_(mine.candidate.in_flight)
        place.buffers.copy_(mine.sent)
        place.served.copy_(mine.served)


def trainers_of(spec: RunSpec, run: Run) -> Trainers:
    """The trainers of a run, of the kind that its spec asks for."""
    if spec.shards > 1:
        return GroupTrainers(spec, run)
    if not spec.displaces:
        return Trainers(spec, run)
    return OuterTrainers(spec, run) if spec.waiting.kind == "blocking" else CandidateTrainers(spec, run)
