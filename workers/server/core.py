"""The parameter server as a pure object: weights, clocks and rules; no socket, no thread, no time.

The loop feeds it from sessions; a simulation can feed it from a heap of virtual finish times. It has one owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.methods.averaging.recent import RecentMean
from workers.methods.batch_norm.base import BatchNorm
from workers.methods.compensation.base import Compensation
from workers.methods.gates.base import Gate
from workers.methods.rates.base import Rate
from workers.server.optimizers import Optimizer, Tiling
from workers.server.passes import EagerPass, HandOver, Pass, Step
from workers.server.pushes import Applied, Clocks, Push, Reaction, Skip, Stale, Waiting


@dataclass(frozen=True)
class Rules:
    """Everything that may differ between two runs of the same problem."""

    optimizer: Optimizer
    rate: Rate
    gate: Gate
    batch_norm: BatchNorm
    schedule: Callable[[int], float]
    """Learning rate eta by gradients applied so far."""
    compensation: Compensation | None = None
    averaging: RecentMean | None = None
    """None: the last weights are evaluated and exported."""
    most_gradients: int = 1
    """Gradients that one push may bring: more than 1 where trainers push displacements of several steps."""

    @property
    def answers_privately(self) -> bool:
        """Whether a trainer is answered with weights of its own instead of the server's."""
        return bool(getattr(self.optimizer, "answers_privately", False))


class ParameterServer:
    """Applies gradients. `weights` and `buffers` are its own vectors; everybody else gets copies.

    Workers `join` before they push and `leave` when they are lost; what they push is received, and the reaction says
    who goes on. A worker that is not among the answers is held: it is answered by a later reaction.
    """

    def __init__(self, weights: Tensor, buffers: Tensor, tiling: Tiling, rules: Rules, *, workers: int) -> None:
        self.weights = weights
        self.buffers = buffers
        self.tiling = tiling
        self.rules = rules
        self.clocks = Clocks(steps=[0] * workers, applied=[0] * workers)
        self._drops_from = min(rules.gate.drops_from, rules.rate.drops_from)
        self._one_by_one = rules.gate.one_by_one
        self._together = self._one_by_one and rules.averaging is None
        self._waiting: list[Waiting] = []
        self._held: dict[int, tuple[HandOver, int]] = {}
        """Workers whose gradient is taken but who may not go on yet: their places, and the versions they made."""
        self._spare: list[HandOver] = []
        if rules.compensation is not None:
            rules.compensation.prepare(tiling.space(weights, workers))
        if rules.averaging is not None:
            rules.averaging.prepare(tiling.space(weights, workers), weights)
        self.walk: Pass = EagerPass(weights, tiling, rules.optimizer, rules.compensation)
        """How gradients get into the weights; a compiled one may take its place before the first gradient."""

    @property
    def version(self) -> int:
        return self.clocks.version

    @property
    def exported(self) -> Tensor:
        """The weights that are evaluated, and that checkpoints hold as the model's."""
        return self.weights if self.rules.averaging is None else self.rules.averaging.average

    @property
    def live(self) -> int:
        return len(self.rules.gate.live)

    def vectors(self) -> dict[str, Tensor]:
        """What optimizer and compensation keep, by name, to save or to load in place."""
        compensation = self.rules.compensation
        own = {} if compensation is None else compensation.state()
        # What is exported then is the mean; the run goes on from the last weights.
        last = {} if self.rules.averaging is None else {"averaging/last_weights": self.weights}
        return (
            last
            | {f"optimizer/{n}": t for n, t in self.rules.optimizer.state().items()}
            | {f"compensation/{n}": t for n, t in own.items()}
        )

    # ------------------------------------------------------------ workers

    def join(self, worker: int) -> None:
        """A worker takes part from now on. It gets its weights by `send`."""
        self.rules.gate.join(worker)

    def leave(self, worker: int) -> Reaction:
        """A worker was lost. Its gradients that wait are forgotten, for its successor to compute again."""
        for waiting in self._waiting:
            if waiting.push.worker == worker:
                self._give_back(waiting)
        self._waiting = [w for w in self._waiting if w.push.worker != worker]
        self._held.pop(worker, None)
        self.rules.gate.leave(worker)
        return self._proceed(Reaction([], [], [], []))

    def next_step(self, worker: int) -> int:
        """The step that this worker computes next; those whose gradients wait are behind it."""
        if not self._waiting:
            return self.clocks.steps[worker]
        return self.clocks.steps[worker] + sum(w.push.gradients for w in self._waiting if w.push.worker == worker)

    def send(self, place: HandOver) -> None:
        """Copy the present weights to where a worker reads them."""
        self.walk.send(place, self._ahead(0))
        if place.is_served:
            place.served.copy_(self.buffers)

    # ------------------------------------------------------------ gradients

    def receive(self, push: Push) -> Reaction:
        """Take in a gradient. Raises Stale or ValueError where it does not fit; nothing has changed then."""
        worker, clocks = push.worker, self.clocks
        self._check(push)
        if clocks.version - push.base_version >= self._drops_from:
            return self._drop(push)
        if self._one_by_one:
            return Reaction([self._apply_one(push)], [worker], [], [Skip(worker, clocks.version, 0)])
        waiting, reaction = Waiting(push, push.place), Reaction([], [], [], [])
        self._waiting.append(waiting)
        self._proceed(reaction)
        if self.rules.gate.answers_at_once and waiting in self._waiting:
            waiting.place, waiting.read = self._keep(push.place), clocks.version
            self.send(push.place)
            reaction.answers.append(worker)
        return reaction

    @property
    def coalesces(self) -> bool:
        """Whether gradients that have come at the same time can be taken in by one walk."""
        return self._together and self.walk.coalesces

    def receive_together(self, pushes: Sequence[Push]) -> list[Reaction | ValueError]:
        """Take in gradients that wait at the same time, as if one after another, in one walk. Where `coalesces`.

        Each is a version of its own. Their workers are all answered with the last one's: what lies between counts as
        skipped. What does not fit comes back as the error that `receive` raises for it.
        """
        found: list[Reaction | ValueError] = []
        steps: list[Step] = []
        for push in pushes:
            try:
                self._check(push)
                if self.clocks.version - push.base_version >= self._drops_from:
                    self.clocks.dropped += 1
                    self.clocks.steps[push.worker] += push.gradients
                    found.append(Reaction([], [push.worker], [push.worker], []))
                    continue
                applied = self._take_in(push)
            except ValueError as error:
                found.append(error)
                continue
            if applied.scale > 0.0:
                steps.append(Step(push.place, push.worker, applied.learning_rate))
            found.append(Reaction([applied], [push.worker], [], []))
        if steps:
            self.walk.several(steps, self._ahead(0))
        self._answer_together(pushes, found)
        return found

    def _answer_together(self, pushes: Sequence[Push], found: Sequence[Reaction | ValueError]) -> None:
        """Leave the newest weights with those whom the walk has not left them, and count what was skipped."""
        version = self.clocks.version
        for push, reaction in zip(pushes, found, strict=True):
            if isinstance(reaction, ValueError):
                continue
            place = push.place
            if not any(a.scale > 0.0 for a in reaction.applied):
                self.send(place)
            elif place.is_served:
                place.served.copy_(self.buffers)
            for applied in reaction.applied:
                made = applied.version_before + 1
                reaction.skips.append(Skip(push.worker, made, version - made))

    def refuse(self, push: Push) -> None:
        """Pass over a gradient that is not finite: it is counted, and its worker gets the present weights."""
        self._check(push)
        self.clocks.refused += 1
        self._pass_over(push)

    def _drop(self, push: Push) -> Reaction:
        self.clocks.dropped += 1
        self._pass_over(push)
        return Reaction([], [push.worker], [push.worker], [])

    def _pass_over(self, push: Push) -> None:
        self.clocks.steps[push.worker] += push.gradients
        self.send(push.place)

    def _check(self, push: Push) -> None:
        worker = push.worker
        if push.base_version > self.clocks.version:
            raise Stale(f"trainer {worker} pushed for version {push.base_version}, which does not exist yet")
        due = self.next_step(worker)
        if push.step != due:
            raise Stale(f"trainer {worker} pushed step {push.step}, step {due} is its next")
        if not 1 <= push.gradients <= self.rules.most_gradients:
            most = self.rules.most_gradients
            raise Stale(f"trainer {worker} pushed {push.gradients} gradients at once; 1 to {most} are agreed")

    # ------------------------------------------------------------ updates

    def _proceed(self, reaction: Reaction) -> Reaction:
        """Make the updates that the gate lets through, then answer whoever may go on."""
        gate, clocks = self.rules.gate, self.clocks
        fresh: set[int] = set()
        while count := gate.group([w.push.worker for w in self._waiting]):
            group, self._waiting = self._waiting[:count], self._waiting[count:]
            reaction.applied.extend(self._apply(group))
            fresh = {group[-1].push.worker}
            for waiting in group:
                worker = waiting.push.worker
                gate.taken(worker)
                if waiting.read is None:
                    self._held[worker] = (waiting.place, clocks.version)
                else:
                    reaction.skips.append(Skip(worker, clocks.version, waiting.read - clocks.version))
                    self._give_back(waiting)
        for worker, (place, made) in list(self._held.items()):
            if gate.may_go_on(worker):
                del self._held[worker]
                if worker not in fresh:  # the step itself has written the weights of an update's last worker
                    self.send(place)
                reaction.answers.append(worker)
                reaction.skips.append(Skip(worker, made, clocks.version - made))
        return reaction

    def _apply_one(self, push: Push) -> Applied:
        """What `_apply` does, for one gradient that has not waited: on the way of every asynchronous gradient."""
        place, rules = push.place, self.rules
        applied = self._take_in(push)
        if applied.scale > 0.0:
            self.walk.one(Step(place, push.worker, applied.learning_rate), self._ahead(0))
        if rules.averaging is not None:
            rules.averaging.update(push.gradients, len(rules.gate.live))
        if applied.scale == 0.0:
            self.send(place)
        elif place.is_served:
            place.served.copy_(self.buffers)
        return applied

    def _take_in(self, push: Push) -> Applied:
        """Everything about a gradient that is an update of its own but the walk: its scale, its statistics, the clocks.

        Raises ValueError where the rate rule does not take what its learner asks for; nothing has changed then.
        """
        clocks, rules = self.clocks, self.rules
        worker, place, version, gradients = push.worker, push.place, clocks.version, push.gradients
        late = version - push.base_version
        if push.scale is None:
            scale = rules.rate.scales((late,), (worker,), version, len(rules.gate.live))[0]
        else:
            scale = rules.rate.accept(push.scale, late)
        rate = rules.schedule(clocks.gradients) * scale
        if place.has_buffers:
            rules.batch_norm.merge(self.buffers, place.buffers, clocks.statistics)
            clocks.statistics += 1
        clocks.version = version + 1
        clocks.gradients += gradients
        clocks.steps[worker] += gradients
        clocks.applied[worker] += gradients
        return Applied(worker, version, late, scale, rate, version, push.step, gradients)

    def _ahead(self, gradients: int) -> float:
        """The learning rate once so many more have been applied; only a look-ahead asks for it."""
        compensation = self.rules.compensation
        if compensation is None or not compensation.looks_ahead:
            return 0.0
        return self.rules.schedule(self.clocks.gradients + gradients)

    def _apply(self, group: list[Waiting]) -> list[Applied]:
        """Make one update out of these gradients; the new weights are left with the last of them."""
        clocks, rules = self.clocks, self.rules
        version = clocks.version
        staleness = [version - w.push.base_version for w in group]
        scales = self._scales(group, staleness)
        total = sum(scales)
        eta = rules.schedule(clocks.gradients)
        last = group[-1].place
        if total > 0.0:
            self._step(group, scales, total, eta)
        applied = []
        for waiting, late, scale in zip(group, staleness, scales, strict=True):
            push = waiting.push
            if waiting.place.has_buffers:
                rules.batch_norm.merge(self.buffers, waiting.place.buffers, clocks.statistics)
                clocks.statistics += 1
            clocks.gradients += push.gradients
            clocks.steps[push.worker] += push.gradients
            clocks.applied[push.worker] += push.gradients
            applied.append(Applied(push.worker, version, late, scale, eta * scale, version, push.step, push.gradients))
        clocks.version = version + 1
        if rules.averaging is not None:
            rules.averaging.update(sum(a.gradients for a in applied), self.live)
        if total == 0.0:
            self.send(last)
        elif last.is_served:
            last.served.copy_(self.buffers)
        return applied

    def _scales(self, group: list[Waiting], staleness: list[int]) -> list[float]:
        rate, push = self.rules.rate, group[0].push
        if push.scale is not None:
            return [rate.accept(push.scale, staleness[0])]
        return rate.scales(staleness, [w.push.worker for w in group], self.clocks.version, self.live)

    def _step(self, group: list[Waiting], scales: list[float], total: float, eta: float) -> None:
        """One step along sum(s_i g_i) / S, by eta S."""
        ahead = self._ahead(sum(w.push.gradients for w in group))
        if len(group) == 1:
            self.walk.one(Step(group[0].place, group[0].push.worker, eta * total), ahead)
            return
        steps = [
            (Step(w.place, w.push.worker, eta * s), s / total) for w, s in zip(group, scales, strict=True) if s > 0.0
        ]
        self.walk.mean(steps, group[-1].place, eta * total, ahead)

    # ------------------------------------------------------------ copies of gradients whose workers go on

    def _keep(self, place: HandOver) -> HandOver:
        if not self._spare:
            gradient, buffers = torch.empty_like(self.weights), torch.empty_like(place.buffers)
            self._spare.append(HandOver.of(self.tiling, gradient=gradient, weights=gradient, buffers=buffers))
        kept = self._spare.pop()
        torch._foreach_copy_(kept.gradient, place.gradient)
        kept.buffers.copy_(place.buffers)
        return kept

    def _give_back(self, waiting: Waiting) -> None:
        if waiting.read is not None:
            self._spare.append(waiting.place)
