"""Trainers that step by themselves and push displacements: several steps in a push, or a push without waiting."""

from __future__ import annotations

import math
import time

import torch

from workers.devices import Feed
from workers.methods.waiting.candidate import Candidate
from workers.process import Child
from workers.server.setup import build_outer, build_schedule
from workers.spec import Candidate as CandidatePart
from workers.trainer import own_steps
from workers.trainer.loop import Trainer, Vectors
from workers.transport.base import Answer, OwnSteps, Report


class Tally:
    """What several steps measured, as means and sums."""

    def __init__(self, metrics: int) -> None:
        self._losses = self._norms = 0.0
        self._metrics = [0.0] * metrics
        self.steps = 0
        self.compute_seconds = self.wait_seconds = self.transfer_seconds = 0.0

    def add(self, loss: float, norm: float, metrics: tuple[float, ...]) -> None:
        self.steps += 1
        self._losses += loss
        self._norms += norm
        self._metrics = [a + b for a, b in zip(self._metrics, metrics, strict=True)]

    def report(self, wait_seconds: float, own: OwnSteps, *, finite: bool) -> Report:
        """`finite`: whether the displacement is. One that is not has no norm either, by which the server knows it."""
        n = self.steps
        norm = self._norms / n if finite else math.nan
        times = self.compute_seconds, wait_seconds, self.transfer_seconds
        return Report(self._losses / n, norm, *times, tuple(m / n for m in self._metrics), own)


class DisplacingTrainer(Trainer):
    def __init__(self, child: Child) -> None:
        super().__init__(child)
        self._schedule = build_schedule(self._spec, self._session.examples)
        self._optimizer = own_steps.build(self._spec.optimizer, self._layout.groups, self._vectors.weights)
        self._tally = Tally(len(self._problem.metrics))

    def _own_step(self, batches: Feed, step: int, clock: int) -> tuple[torch.Tensor, float]:
        """Compute the displacement of step number `step`, when the schedule is at `clock`; returns its rate too."""
        began = time.perf_counter()
        self._forward_and_backward(batches, step, self._begin_step(batches, step))
        norm = self._gradients.hand_over()
        loss, metrics = self._steps.means()
        self._tally.add(loss, norm, metrics)
        rate = self._schedule(clock)
        displacement = self._optimizer.displacement(self._vectors.gradient, self._vectors.weights, rate)
        self._tally.compute_seconds += time.perf_counter() - began
        return displacement, rate


class OuterTrainer(DisplacingTrainer):
    """Makes H steps from what it was sent, pushes where they led, and waits."""

    def __init__(self, child: Child) -> None:
        super().__init__(child)
        outer = build_outer(self._spec)
        assert outer is not None
        self._pushes_weights = outer.pushes_weights

    def _make_vectors(self) -> Vectors:
        # The slot's weights are the trainer's until it pushes: it steps them where they lie.
        session = self._session
        return Vectors(session.weights, torch.zeros_like(session.gradient), session.buffers, session.served)

    def train(self) -> None:
        answer = self._started()
        if answer is None:
            return
        wait_seconds, steps = math.nan, self._spec.outer_steps
        batches = self._stream(answer.step)
        self._model.train()
        while not self._child.stop.requested:
            self.version = answer.version
            report = self._round(batches, answer, wait_seconds)
            pushed_at = time.perf_counter()
            self._session.push(report, step=answer.step, gradients=steps)
            answer = self._next(answer.step + steps)
            wait_seconds = time.perf_counter() - pushed_at
            if answer.rejoined:
                batches, wait_seconds = self._stream(answer.step), math.nan
            if answer.rejoined or not answer.applied:
                self._optimizer.reset()
        self._session.leave()

    def _round(self, batches: Feed, answer: Answer, wait_seconds: float) -> Report:
        """Make all steps of a push, and leave in the slot where they led."""
        weights, total = self._vectors.weights, self._session.gradient
        total.zero_()
        self._tally = Tally(len(self._problem.metrics))
        self._batch_norm.begin(self._vectors.buffers)
        rate = 0.0
        for index in range(self._spec.outer_steps):
            # All trainers step at once, as far as anybody knows: the schedule's clock counts the gradients of all.
            clock = answer.gradients + index * self._spec.workers.max
            displacement, rate = self._own_step(batches, answer.step + index, clock)
            total.add_(displacement)
            weights.sub_(displacement)
        drift = float(torch.linalg.vector_norm(total))
        if self._pushes_weights:
            total.copy_(weights)
        own = OwnSteps(rate, math.nan, math.nan, drift, math.nan)
        return self._tally.report(wait_seconds, own, finite=math.isfinite(drift))


class CandidateTrainer(DisplacingTrainer):
    """Never waits: looks at the end of each period whether the server has answered, and goes on either way."""

    def __init__(self, child: Child) -> None:
        super().__init__(child)
        assert isinstance(self._spec.waiting, CandidatePart)
        self._candidate = Candidate(self._vectors.weights, self._session.gradient, mode=self._spec.waiting.mode)
        self._known = 0
        """Gradients the server had applied when its weights were merged last."""
        self._last_push = 0
        """Step behind the gradients in flight."""

    def _make_vectors(self) -> Vectors:
        """Own copies of all: while a push is in flight, everything in the slot is the server's."""
        session = self._session
        copies = (torch.zeros_like(v) for v in (session.weights, session.gradient, session.buffers, session.served))
        return Vectors(*copies)

    def train(self) -> None:
        answer = self._started()
        if answer is None:
            return
        batches, step = self._begin(answer)
        self._model.train()
        while not self._child.stop.requested:
            clock = self._known + self._candidate.unacknowledged * self._spec.workers.max
            displacement, rate = self._own_step(batches, step, clock)
            step += 1
            answer = self._look()
            if answer is not None and (answer.rejoined or not answer.applied):
                self._optimizer.reset()
                batches, step = self._begin(answer)
            else:
                self._end_period(displacement, rate, answer)
        self._session.leave()

    def _begin(self, answer: Answer) -> tuple[Feed, int]:
        """Start from the server's weights, and nothing else."""
        self._take(answer)
        self._candidate.start(self._session.weights)
        self._last_push = answer.step
        self._start_push()
        return self._stream(answer.step), answer.step

    def _take(self, answer: Answer) -> None:
        self.version, self._known = answer.version, answer.gradients
        self._vectors.served.copy_(self._session.served)

    def _start_push(self) -> None:
        self._tally = Tally(len(self._problem.metrics))
        self._batch_norm.begin(self._vectors.buffers)

    def _pause(self, seconds: float) -> None:
        """Be slow on purpose, for as long as asked: an answer that comes meanwhile is for the end of the period."""
        self._child.stop.wait(seconds)

    def _look(self) -> Answer | None:
        """The server's answer, if it has come; looking takes no time worth the name, but it is measured as waiting."""
        began = time.perf_counter()
        arrived = self._candidate.flying > 0 and self._session.waits(0.0)
        answer = self._next(self._last_push) if arrived else None
        self._tally.wait_seconds += time.perf_counter() - began
        return answer

    def _end_period(self, displacement: torch.Tensor, rate: float, answer: Answer | None) -> None:
        began = time.perf_counter()
        candidate, received = self._candidate, None
        drift = unacknowledged = math.nan
        if answer is not None:
            received = self._session.weights
            drift = float(torch.dist(candidate.weights - displacement, received))
            unacknowledged = candidate.unacknowledged + 1
        pushes = candidate.end_period(displacement, received)
        if answer is not None:
            self._take(answer)
        if pushes:
            left = float(torch.dist(candidate.weights, received)) if received is not None else math.nan
            self._session.buffers.copy_(self._vectors.buffers)
            own = OwnSteps(rate, candidate.flying - 1, unacknowledged, drift, left)
            finite = math.isfinite(float(torch.linalg.vector_norm(candidate.in_flight)))
            self._tally.transfer_seconds += time.perf_counter() - began
            report = self._tally.report(self._tally.wait_seconds, own, finite=finite)
            first, self._last_push = self._last_push, self._last_push + candidate.flying
            self._session.push(report, step=first, gradients=candidate.flying)
            self._start_push()
