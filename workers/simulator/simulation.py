"""A run under a virtual clock: a heap of arrivals feeds the same server that live trainers feed.

A trainer's round is one event, its gradient's arrival at the server:

    arrival = start + compute + push latency;      next start = answer + pull latency

Weights are those of the moment the answer was sent, wherever it still travels. The gradient is computed when it
arrives, from the snapshot its trainer holds: what lies between start and arrival can't change it. Equal times go by
worker id.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from workers.assignment import Cause, Outcome
from workers.evaluator import evaluate
from workers.failures import user_code
from workers.methods.rates.window import Window, WindowRate
from workers.server import setup
from workers.server.budget import per_pass
from workers.server.event_log import EventLog
from workers.server.pushes import Push, Reaction
from workers.simulator import faults
from workers.simulator.displacing import trainers_of
from workers.simulator.faults import Fault
from workers.simulator.observer import Observer
from workers.simulator.rounds import What, rounds_of
from workers.simulator.snapshots import Snapshot, Snapshots, private
from workers.simulator.times import SECOND, Times, nanoseconds
from workers.simulator.trainers import Place
from workers.spec import RunSpec, Simulate
from workers.spec_errors import SpecError

RECENT_LOSSES = 100
NOT_FINITE_IN_A_ROW = 10
FLUSH_RECORDS = 4096


class Event(NamedTuple):
    """`serial` is what two events of one kind of one worker at one time go by. An arrival of another `life` than its
    worker's present one was lost on its way; a crash has its `fault`."""

    at: int
    worker: int
    what: What
    serial: int
    life: int = 0
    fault: Fault | None = None
    following: Iterator[Fault] | None = None
    """Where this worker's next crash comes from, if there is one after this."""


@dataclass
class Worker:
    """A simulated trainer's state."""

    read: Snapshot | None = None
    """What it computes with. None: it is away, or its gradient waits at the server."""
    place: Place | None = None
    """Where its gradient lies, from its arrival until its answer."""
    version: int = 0
    """The version it read last."""
    step: int = 0
    life: int = 0
    alive: bool = False
    window: Window | None = None


@dataclass(frozen=True)
class Evaluation:
    version: int
    seconds: float
    loss: float
    metrics: dict[str, float]


@dataclass
class Totals:
    """What the applied gradients met: sums of d, and of skip where it is known."""

    applied: int = 0
    dropped: int = 0
    staleness: int = 0
    skips: int = 0
    crashes: int = 0

    @property
    def rounds(self) -> int:
        """Sum of d + 1 + skip: versions that passed in the rounds of the applied gradients."""
        return self.staleness + self.applied + self.skips

    @property
    def mean_staleness(self) -> float:
        return self.staleness / self.applied if self.applied else math.nan

    @property
    def mean_rounds(self) -> float:
        return self.rounds / self.applied if self.applied else math.nan


@dataclass(frozen=True)
class Result:
    """How a simulation ended. `loss`: mean of the last training losses. Times are virtual seconds."""

    outcome: Outcome
    message: str
    version: int
    gradients: int
    refused: int
    seconds: float
    loss: float
    totals: Totals
    evaluations: list[Evaluation]
    log_hash: str
    weights_hash: str

    def as_data(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        means = {"mean_staleness": self.totals.mean_staleness, "mean_rounds": self.totals.mean_rounds}
        data: dict[str, Any] = finite(asdict(self) | means)
        return data


def finite(value: Any) -> Any:
    """The same data with None for numbers that JSON has no word for."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(v) for key, v in value.items()}
        case list():
            return [finite(v) for v in value]
        case _:
            return value


class Ending(NamedTuple):
    """Why a simulation is over. `kind` is the event that says so to people; `cause` is given where it failed."""

    outcome: Outcome
    message: str
    kind: str = ""
    cause: Cause | None = None


class Simulation:
    """One run. `run` brings it to its end; `turn` deals with one event, for whoever wants to look in between."""

    def __init__(self, spec: RunSpec, *, log: EventLog | None = None, data: Path | None = None) -> None:
        """Raises SpecError or Failure as a live run's server does. An `observer`, set before the first turn, is told
        of everything but the trainers that are there from the start. `data` is the folder of the problem's data set."""
        if not isinstance(spec.execution, Simulate):
            raise SpecError.one("execution.kind", "must be simulate to be simulated, got live")
        if spec.start.kind != "fresh":
            raise SpecError.one("start.kind", "must be fresh: a simulation starts with fresh weights")
        self.spec, self._execution = spec, spec.execution
        self.run_parts = setup.build(spec, data)
        self.core = self.run_parts.core
        self.log = log or EventLog(None, attempt=1, epoch=1)
        self.observer: Observer | None = None
        self._private = self.core.rules.answers_privately
        count = spec.workers.max
        self.times = Times(spec.execution, seed=spec.seed, workers=count)
        self.push, self.pull = nanoseconds(spec.execution.push_seconds), nanoseconds(spec.execution.pull_seconds)
        self.workers = [Worker() for _ in range(count)]
        self.snapshots = Snapshots()
        self.totals = Totals()
        self.evaluations: list[Evaluation] = []
        self.now = 0
        self.ending: Ending | None = None
        self._places: list[Place] = []
        self.places_made = 0
        """Hand-over places that were needed at once: one where nothing waits, whatever the number of trainers."""
        self._heap: list[Event] = []
        self._serial = self._underway = 0
        self._losses: deque[float] = deque(maxlen=RECENT_LOSSES)
        self._not_finite_in_a_row = 0
        self._evaluate_every = spec.evaluation.every_passes * per_pass(spec, self.run_parts.examples)
        self._next_evaluation = self._evaluate_every
        self._evaluator = self._make_evaluator()
        self._rounds = rounds_of(self, trainers_of(spec, self.run_parts))
        self._start()

    # ------------------------------------------------------------ the clock

    def run(self, watch: Callable[[Simulation], None] | None = None) -> Result:
        """Run to the end; `watch` is called after every event."""
        while self.turn():
            if watch is not None:
                watch(self)
        return self.result()

    def turn(self) -> bool:
        """Deal with the next event. False: the run is over."""
        if self.ending is not None:
            return False
        if self._underway == 0:
            left = any(w.alive for w in self.workers)
            message = "every trainer waits at the gate" if left else "no trainer is left"
            self._end(Ending(Outcome.FAILED, message, cause=Cause.SPEC))  # the same again, however often one tries
            return False
        event = heapq.heappop(self._heap)
        if self.run_parts.budget.spent_seconds(event.at / SECOND):
            self._end(Ending(Outcome.COMPLETED, "the time is spent", "budget-spent"))
            return False
        self.now = event.at
        match event.what:
            case What.ARRIVAL:
                self._underway -= 1
                if event.life == self.workers[event.worker].life:
                    self._arrived(event.worker)
            case What.CRASH:
                self._crashed(event)
            case What.RETURN:
                self._underway -= 1
                self._join(event.worker)
            case What.REPLY | What.PERIOD:
                self._underway -= 1
                if event.life == self.workers[event.worker].life:
                    self._rounds.happened(event.what, event.worker)
        return self.ending is None

    def result(self) -> Result:
        """How it ended: evaluates the last version."""
        if not self.evaluations or self.evaluations[-1].version != self.core.version:
            self._evaluate()
        self.log.flush()
        clocks = self.core.clocks
        ending = self.ending or Ending(Outcome.STOPPED, "not over yet")
        return Result(
            ending.outcome,
            ending.message,
            clocks.version,
            clocks.gradients,
            clocks.refused,
            self.now / SECOND,
            sum(self._losses) / len(self._losses) if self._losses else math.nan,
            self.totals,
            self.evaluations,
            self.log.hash,
            sha256(self.core.weights.numpy().tobytes()).hexdigest(),
        )

    @property
    def versions_read(self) -> list[int]:
        """The version that each trainer read last."""
        return [w.version for w in self.workers]

    @property
    def seconds(self) -> float:
        """Virtual seconds since the start."""
        return self.now / SECOND

    @property
    def fraction(self) -> float | None:
        """Share of the budget that is spent."""
        clocks = self.core.clocks
        return self.run_parts.budget.fraction(
            gradients=clocks.gradients, updates=clocks.version, seconds=self.now / SECOND
        )

    def _end(self, ending: Ending) -> None:
        self.ending = self.ending or ending

    # ------------------------------------------------------------ trainers

    def _start(self) -> None:
        for number in range(len(self.workers)):
            self._join(number)
        for fault in faults.scheduled(self._execution):
            self.schedule(fault.at, fault.worker, What.CRASH, fault=fault)
        for number in range(len(self.workers)):
            for stream in faults.random_faults(self._execution, seed=self.spec.seed, worker=number):
                self._next_crash(stream)

    def schedule(
        self,
        at: int,
        worker: int,
        what: What,
        *,
        fault: Fault | None = None,
        following: Iterator[Fault] | None = None,
    ) -> None:
        """Have something happen to a trainer; it is forgotten if that trainer is lost before."""
        self._serial += 1
        self._underway += what != What.CRASH
        life = self.workers[worker].life
        heapq.heappush(self._heap, Event(at, worker, what, self._serial, life, fault, following))

    def _next_crash(self, stream: Iterator[Fault]) -> None:
        fault = next(stream)
        self.schedule(fault.at, fault.worker, What.CRASH, fault=fault, following=stream)

    def _join(self, number: int) -> None:
        """A trainer comes, or comes back: it gets the present weights, and goes on with its next step."""
        worker = self.workers[number]
        worker.alive = True
        rate = self.core.rules.rate
        worker.window = rate.window(len(self.workers)) if isinstance(rate, WindowRate) else None
        self.log.joined(number, compressed=self.spec.transport.compression.kind != "none")
        if self.observer is not None:
            self.observer.joined(number)
        self.core.join(number)
        self._rounds.joined(number)
        place = self._take_place()
        self.core.send(place.hand_over)
        self._set_out(number, place, shared=True)
        self._places.append(place)

    def _crashed(self, event: Event) -> None:
        """Lost, with all that it computes, sends, or has waiting at the server."""
        if event.following is not None:
            self._next_crash(event.following)
        worker, fault = self.workers[event.worker], event.fault
        if not worker.alive or fault is None:
            return
        worker.alive, worker.read = False, None
        worker.life += 1
        self.totals.crashes += 1
        if fault.back is not None:
            self.schedule(fault.back, event.worker, What.RETURN)
        self.log.lost(event.worker)
        if self.observer is not None:
            self.observer.lost(event.worker)
        self._settle(self.core.leave(event.worker))
        if worker.place is not None:
            self._places.append(worker.place)
            worker.place = None

    def _set_out(self, number: int, place: Place, *, shared: bool, refused: bool = False) -> None:
        """A trainer reads what lies in `place`, and goes on when that has reached it. `shared`: these are the
        server's weights, not the trainer's own."""
        clocks = self.core.clocks
        snapshot = self.snapshots.of if shared else private
        read = snapshot(clocks.version, clocks.gradients, place.weights, place.served)
        self.workers[number].version = clocks.version
        self._rounds.read(number, read, refused=refused)

    # ------------------------------------------------------------ the server

    def _arrived(self, number: int) -> None:
        place = self.workers[number].place = self._take_place()
        push, measured = self._rounds.arrived(number, place)
        self.log.pushed(push, sequence=push.step)
        if measured.finite:
            self._not_finite_in_a_row = 0
            self._losses.append(measured.loss)
            if self.observer is not None:
                self.observer.arrived(push, measured)
            self._settle(self.core.receive(push))
        else:
            self._refuse(push)
        if self.log.waiting >= FLUSH_RECORDS:
            self.log.flush()

    def _refuse(self, push: Push) -> None:
        """As a live server does: a gradient that is not finite never touches the weights."""
        self.core.refuse(push)
        self.log.refused(push.worker)
        if self.observer is not None:
            self.observer.refused(push)
        self._not_finite_in_a_row += 1
        if self._not_finite_in_a_row >= NOT_FINITE_IN_A_ROW:
            message = f"{NOT_FINITE_IN_A_ROW} gradients in a row were not finite"
            self._end(Ending(Outcome.FAILED, message, cause=Cause.NON_FINITE))
        else:
            self._answer(push.worker, refused=True)

    def _settle(self, reaction: Reaction) -> None:
        """Take down what the server did, and send those off whom it answers."""
        self.log.settled(reaction)
        if self.observer is not None:
            self.observer.settled(reaction)
        for applied in reaction.applied:
            worker = self.workers[applied.worker]
            self.totals.applied += 1
            self.totals.staleness += applied.staleness
            if worker.window is not None:
                worker.window.add(applied.staleness)
        self.totals.skips += sum(s.skip for s in reaction.skips)
        self.totals.dropped += len(reaction.dropped)
        clocks = self.core.clocks
        if self.run_parts.budget.spent_updates(gradients=clocks.gradients, updates=clocks.version):
            self._end(Ending(Outcome.COMPLETED, "the budget is spent", "budget-spent"))
        for number in reaction.answers:
            self._answer(number, refused=number in reaction.dropped)
        if self.ending is None and clocks.gradients >= self._next_evaluation:
            self._evaluate()

    def _answer(self, number: int, *, refused: bool) -> None:
        """Weights lie in its place: it reads them. `refused`: what it pushed is not in them."""
        worker = self.workers[number]
        place, worker.place = worker.place, None
        assert place is not None
        self._set_out(number, place, shared=refused or not self._private, refused=refused)
        self._places.append(place)

    def _take_place(self) -> Place:
        if self._places:
            return self._places.pop()
        self.places_made += 1
        return Place(self.run_parts)

    # ------------------------------------------------------------ what it is worth

    def _make_evaluator(self) -> Callable[[], list[float]]:
        """Evaluates the server's own vectors: the model's parameters are views of them."""
        problem, spec = self.run_parts.problem, self.spec
        model = setup.build_model(problem, spec.seed)
        self.run_parts.layout.bind(model, self.core.exported, self.core.buffers)
        with user_code("dataset('test')", Cause.DATA):
            dataset = problem.dataset("test")
        return lambda: evaluate(problem, model, dataset, spec.evaluation.batch_size)

    def _evaluate(self) -> None:
        self._next_evaluation = self.core.clocks.gradients + self._evaluate_every
        loss, *values = self._evaluator()
        metrics = dict(zip(self.run_parts.metrics, values, strict=True))
        self.evaluations.append(Evaluation(self.core.version, self.now / SECOND, loss, metrics))
        if self.observer is not None:
            self.observer.evaluated(self.evaluations[-1])
        target = self.spec.budget.target
        if target is not None:
            value = metrics[target.metric]
            if target.reached_by(value):
                message = f"{target.metric} {value:.4g} reaches the target"
                self._end(Ending(Outcome.COMPLETED, message, "target-reached"))
