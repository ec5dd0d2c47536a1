"""What a queued simulation reports: the series of a live run on the virtual clock, and never more than pages can use.

A live run is held back by real time; a simulated one may have 1,000 trainers and a million gradients in minutes. So
at most 64 trainers, evenly chosen, have series of their own (beyond them the run has means over all), and of a long
run only a share of the gradients is told. Running means and evaluations count all of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from workers import events
from workers.assignment import SERVER_WORKER
from workers.reporting import Reporter, Table
from workers.server.pushes import Applied, Push, Reaction, Skip
from workers.server.telemetry import Clock, Telemetry
from workers.simulator.trainers import Measured

if TYPE_CHECKING:
    from workers.simulator.simulation import Evaluation, Simulation

SHOWN_TRAINERS = 64
LOOKED_AT_TRAINERS = 16
"""Trainers whose batch-norm statistics are reported: a deep model has a hundred series of them a trainer."""
FULL_GRADIENTS = 20_000
"""So many are all told; of the next as many every second one of a trainer, then every third, and so on."""
MEAN_GRADIENTS = 20
"""Gradients in one point of the run's means, at least."""
RATE_VERSIONS = 25
"""Versions between two points of speed and mean delay, at least."""
SPARSE = 1000
"""Points come further apart as a series grows: the next one after at least a thousandth of what there was."""
MOST_INCIDENTS = 50
"""Crashes, returns and refused gradients that get a line of the timeline; the others are only counted."""


def spread(count: int, most: int) -> frozenset[int]:
    """Up to `most` of the numbers below `count`, evenly apart, the first and the last among them."""
    if count <= most:
        return frozenset(range(count))
    return frozenset(round(i * (count - 1) / (most - 1)) for i in range(most))


class Reports:
    """Observes one simulation. `started_at` is what virtual time counts from, in seconds since 1970."""

    def __init__(self, simulation: Simulation, reporter: Reporter, *, started_at: float) -> None:
        self._simulation, self._reporter, self._core = simulation, reporter, simulation.core
        parts, count = simulation.run_parts, len(simulation.workers)
        clock = Clock(now=lambda: started_at + simulation.seconds, steady=lambda: simulation.seconds)
        self._telemetry = Telemetry(
            reporter,
            parts.layout,
            parts.metrics,
            self._core.rules.batch_norm,
            clock=clock,
            timed=False,
            own=simulation.spec.displaces,
        )
        self.shown = spread(count, SHOWN_TRAINERS)
        self._looked_at = spread(count, LOOKED_AT_TRAINERS)
        self._means = Means(reporter, parts.metrics, clock) if len(self.shown) < count else None
        self._measured: dict[tuple[int, int], tuple[Measured, float]] = {}
        """What came with the gradients that are in no update yet, by worker and step."""
        self._told: Counter[tuple[str, int]] = Counter()
        self._thinning = False
        self._next_rate = 0
        self._incidents = self._not_finite_in_a_row = 0
        if self._means is not None:
            reporter.event(
                "series-capped",
                f"{len(self.shown)} of {count:,} trainers, evenly chosen, have series of their own; those of the run "
                "are means over all",
            )

    # ------------------------------------------------------------ trainers

    def joined(self, worker: int) -> None:
        self._incident("joined", f"trainer {worker} is back", worker, level="info")

    def lost(self, worker: int) -> None:
        self._measured = {k: m for k, m in self._measured.items() if k[0] != worker}
        self._incident("left", f"trainer {worker} crashed", worker)

    def refused(self, push: Push) -> None:
        self._not_finite_in_a_row += 1
        if self._not_finite_in_a_row == 1:
            message = f"trainer {push.worker} made a gradient that is not finite; it was not applied"
            self._incident("warning", message, push.worker)

    def _incident(self, kind: str, message: str, worker: int, *, level: str = "warning") -> None:
        self._incidents += 1
        if self._incidents > MOST_INCIDENTS:
            return
        now = f"{message}, at {self._simulation.seconds:.1f} virtual s"
        self._reporter.event(kind, now, level=level, worker=worker, version=self._core.version)
        if self._incidents == MOST_INCIDENTS:
            self._reporter.event("events-capped", f"{MOST_INCIDENTS} such events were told; more are only counted")

    # ------------------------------------------------------------ gradients

    def arrived(self, push: Push, measured: Measured) -> None:
        self._not_finite_in_a_row = 0
        self._measured[push.worker, push.step] = measured, push.scale or 0.0
        if push.place.has_buffers and push.worker in self._looked_at:
            self._telemetry.look(push.worker, push.place, self._core.buffers, self._core.version)

    def settled(self, reaction: Reaction) -> None:
        for applied in reaction.applied:
            self._applied(applied)
        for skip in reaction.skips:
            self._skipped(skip)
        clocks = self._core.clocks
        if reaction.dropped:
            self._measured = {k: m for k, m in self._measured.items() if k[0] not in reaction.dropped}
            self._telemetry.dropped(clocks.version, clocks.dropped)
        if clocks.version >= self._next_rate:
            self.rate()

    def _applied(self, applied: Applied) -> None:
        measured, asked = self._measured.pop((applied.worker, applied.step))
        values = (measured.loss, measured.gradient_norm, *measured.metrics)
        if self._is_told(events.LOSS, applied.worker):
            self._telemetry.gradient(applied, (*values, *(measured.own or ())), asked=asked)
        else:
            self._telemetry.count(applied)
        if self._means is not None:
            rate = applied.learning_rate if measured.own is None else measured.own.learning_rate
            self._means.add(applied, values, rate)

    def _skipped(self, skip: Skip) -> None:
        if self._is_told(events.SKIP, skip.worker):
            self._telemetry.skip(skip)
        else:
            self._telemetry.count_skip(skip)

    def _is_told(self, key: str, worker: int) -> bool:
        """Whether this worker's next point of a series is among those that are told."""
        if worker not in self.shown:
            return False
        every = 1 + self._core.clocks.gradients // FULL_GRADIENTS
        if every > 1 and not self._thinning:
            self._thinning = True
            message = f"after {FULL_GRADIENTS:,} gradients: from here on only some of each trainer's are in its series"
            self._reporter.event("series-thinned", message, version=self._core.version)
        self._told[key, worker] += 1
        return self._told[key, worker] % every == 0

    # ------------------------------------------------------------ the run

    def rate(self) -> None:
        """Report speed and mean delay as of now."""
        version = self._core.version
        self._next_rate = version + max(RATE_VERSIONS, version // SPARSE)
        self._telemetry.rate(version)

    def evaluated(self, evaluation: Evaluation) -> None:
        version, loss, metrics = evaluation.version, evaluation.loss, evaluation.metrics
        self._telemetry.evaluation(version, loss, metrics)
        values = ", ".join(f"{name} {value:.4g}" for name, value in {"loss": loss, **metrics}.items())
        message = f"version {version}: {values}, at {evaluation.seconds:.1f} virtual s"
        self._reporter.event(
            "evaluated", message, version=version, metrics=metrics, loss=loss, seconds=evaluation.seconds
        )


class Means:
    """Means over all trainers' gradients, as series of the run, and the greatest staleness among them."""

    def __init__(self, reporter: Reporter, metrics: tuple[str, ...], clock: Clock) -> None:
        keys = (events.LOSS, events.GRADIENT_NORM, *(events.TRAIN_METRIC.format(m) for m in metrics))
        keys += (events.STALENESS, events.SCALE, events.LEARNING_RATE, events.GREATEST_STALENESS)
        self._table: Table = reporter.table(SERVER_WORKER, keys)
        self._clock = clock
        self._rows: list[tuple[float, ...]] = []
        self._gradients = self._version = 0

    def add(self, applied: Applied, values: tuple[float, ...], rate: float) -> None:
        """Take in a gradient: its loss, norm and metrics, and the learning rate of its step."""
        self._gradients += 1
        self._rows.append((*values, applied.staleness, applied.scale, rate))
        version = applied.version_before + 1
        # One point a version: x must rise.
        if len(self._rows) >= max(MEAN_GRADIENTS, self._gradients // SPARSE) and version > self._version:
            self._version = version
            columns = list(zip(*self._rows, strict=True))
            means = [sum(column) / len(column) for column in columns]
            self._table.add(version, self._clock.now(), *means, max(columns[-3]))
            self._rows.clear()
