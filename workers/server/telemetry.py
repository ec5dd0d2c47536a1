"""What the server reports of every gradient it applies. Called after the trainer has its answer."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from workers import events
from workers.assignment import SERVER_WORKER
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.reporting import Reporter, Table
from workers.server.passes import HandOver
from workers.server.pushes import Applied, Skip
from workers.transport.base import OwnSteps

BATCH_NORM_SECONDS = 0.2
"""A worker's batch-norm statistics are looked at five times a second at most: a look costs microseconds a layer."""

_WAIT, _CONTEXT, _SKIP = (events.WAIT_SECONDS,), (events.CONTEXT,), (events.SKIP,)
_OWN = (events.CANDIDATES, events.UNACKNOWLEDGED, events.DRIFT, events.DRIFT_LEFT)


class Clock(NamedTuple):
    """Where times come from: `now` counts seconds since 1970, for points; `steady` only rises, for pauses and rates."""

    now: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


REAL = Clock()


class Look(NamedTuple):
    """A worker's batch statistics, means over the channels of each layer, and how far they are from the server's."""

    means: list[float]
    deviations: list[float] | None = None


class Measurements:
    """Reads the body of a push: loss, gradient norm, three times, the problem's metrics; then, where trainers step by
    themselves, what they tell of that."""

    def __init__(self, metrics: int, *, own: bool = False) -> None:
        self._struct = struct.Struct(f"<{5 + metrics + (len(OwnSteps._fields) if own else 0)}d")

    def read(self, body: bytes) -> tuple[float, ...]:
        """Raises ValueError when the body is not as long as agreed."""
        if len(body) != self._struct.size:
            raise ValueError(f"a push of {len(body)} bytes where {self._struct.size} were agreed")
        return self._struct.unpack(body)


class Telemetry:
    """Series of all workers, as `workers.events` names them."""

    def __init__(
        self,
        reporter: Reporter,
        layout: Layout,
        metrics: Sequence[str],
        batch_norm: BatchNorm,
        *,
        clock: Clock = REAL,
        timed: bool = True,
        own: bool = False,
    ) -> None:
        """`timed`: what is measured of a gradient has its times of computing, waiting and transfer. `own`: it ends
        with what a trainer tells that steps by itself."""
        self._reporter = reporter
        self._layout = layout
        self._batch_norm = batch_norm
        self._clock = clock
        self._timed, self._own = timed, own
        self._keys = (
            events.LOSS,
            events.STALENESS,
            events.SCALE,
            events.LEARNING_RATE,
            events.GRADIENT_NORM,
            *((events.COMPUTE_SECONDS, events.TRANSFER_SECONDS) if timed else ()),
            *(events.TRAIN_METRIC.format(m) for m in metrics),
        )
        kinds = {"running_mean": events.BATCH_NORM_MEAN, "running_var": events.BATCH_NORM_VARIANCE}
        self._statistic_keys = tuple(kinds[s.kind].format(s.layer) for s in layout.statistics)
        apart = (events.BATCH_NORM_SHIFT, events.BATCH_NORM_LOG_RATIO)
        self._deviation_keys = tuple(key.format(p.layer) for key in apart for p in layout.places)
        self._tables: dict[tuple[int, tuple[str, ...]], Table] = {}
        self._looks: dict[int, Look] = {}
        self._next_look: dict[int, float] = {}
        self._aggregate_version = 0
        self._rate_version = self._delay_version = 0
        self._dropped_version = -1
        self._delays = self._counted = 0
        self._group = -1
        self._scales: list[float] = []
        self._rate_at = self._began = clock.steady()

    def gradient(self, applied: Applied, measured: tuple[float, ...], *, asked: float = 0.0) -> None:
        """Report one applied gradient.

        `measured` is its loss and norm, its three times if this is `timed`, the problem's metrics, and the trainer's
        own steps if it makes such. `asked` is the
        scale 1/(1 + context) that its learner asked for; 0 where the scale is the server's business.
        """
        self.count(applied)
        worker, version, now = applied.worker, applied.version_before + 1, self._clock.now()
        loss, norm, *others = measured
        if self._timed:
            compute, wait, transfer, *metrics = others
            others = [compute, transfer, *metrics]
            if not math.isnan(wait):  # a trainer's first push has waited for nothing
                self._table(worker, _WAIT).add(version, now, wait)
        rate = applied.learning_rate
        if self._own:
            own = OwnSteps(*others[-len(OwnSteps._fields) :])
            del others[-len(OwnSteps._fields) :]
            rate = own.learning_rate
            self._tell_own(worker, own, version, now)
        table = self._table(worker, self._keys)
        table.add(version, now, loss, applied.staleness, applied.scale, rate, norm, *others)
        if asked:
            self._table(worker, _CONTEXT).add(version, now, 1.0 / asked - 1.0)
        if self._looks:
            look = self._looks.pop(worker, None)
            if look is not None:
                self._seen(look, worker, version, now)

    def _tell_own(self, worker: int, own: OwnSteps, version: int, now: float) -> None:
        for key, value in zip(_OWN, own[1:], strict=True):
            if not math.isnan(value):
                self._table(worker, (key,)).add(version, now, value)

    def count(self, applied: Applied) -> None:
        """Have a gradient count in what the run as a whole reports, and report nothing of its worker."""
        self._delays += applied.staleness + 1
        self._counted += 1
        self._sum_scales(applied)

    def _sum_scales(self, applied: Applied) -> None:
        """Report S of an update of several gradients, once the next update begins."""
        if applied.group == self._group:
            self._scales.append(applied.scale)
            return
        if len(self._scales) > 1:
            self._point(events.SCALE_SUM, applied.version_before, sum(self._scales))
        self._group = applied.group
        self._scales = [applied.scale]

    def skip(self, skip: Skip) -> None:
        """Report how far beyond the version its gradient made a worker reads next."""
        self.count_skip(skip)
        self._table(skip.worker, _SKIP).add(skip.version, self._clock.now(), skip.skip)

    def count_skip(self, skip: Skip) -> None:
        """As `count`, for a gradient's skip."""
        self._delays += skip.skip

    def dropped(self, version: int, count: int) -> None:
        """Report how many gradients have been dropped so far. One point a version: x must rise."""
        if version > self._dropped_version:
            self._dropped_version = version
            self._point(events.DROPPED, version, count)

    def look(self, worker: int, place: HandOver, aggregate: Tensor, version: int) -> None:
        """Look at a worker's statistics beside the server's, if the last look is long enough ago.

        Called before its gradient is applied: afterwards the worker may be at its next batch. What is seen is
        reported with the gradient. `aggregate` is the server's, of `version`.
        """
        now = self._clock.steady()
        if now >= self._next_look.get(worker, 0.0):
            self._next_look[worker] = now + BATCH_NORM_SECONDS
            self._looks[worker] = self._look(place, aggregate, version)
        if now >= self._next_look.get(SERVER_WORKER, 0.0) and version > self._aggregate_version:
            self._next_look[SERVER_WORKER] = now + BATCH_NORM_SECONDS
            self._aggregate_version = version
            self._table(SERVER_WORKER, self._statistic_keys).add(version, self._clock.now(), *self._means(aggregate))

    def _look(self, place: HandOver, aggregate: Tensor, version: int) -> Look:
        served = place.served if place.is_served else aggregate
        deviations = self._batch_norm.deviations(served, place.buffers) if version else None
        if deviations is None:
            return Look(self._means(place.buffers))
        apart = torch.stack([p.of(part).mean() for part in deviations for p in self._layout.places])
        return Look(self._means(place.buffers), apart.tolist())

    def _means(self, flat: Tensor) -> list[float]:
        means: list[float] = torch.stack([s.of(flat).mean() for s in self._layout.statistics]).tolist()
        return means

    def _seen(self, look: Look, worker: int, version: int, now: float) -> None:
        self._table(worker, self._statistic_keys).add(version, now, *look.means)
        if look.deviations:
            self._table(worker, self._deviation_keys).add(version, now, *look.deviations)

    def _table(self, worker: int, keys: tuple[str, ...]) -> Table:
        table = self._tables.get((worker, keys))
        if table is None:
            table = self._tables[worker, keys] = self._reporter.table(worker, keys)
        return table

    def _point(self, key: str, version: int, value: float) -> None:
        """Report a value of the run as a whole."""
        self._table(SERVER_WORKER, (key,)).add(version, self._clock.now(), value)

    def start(self, version: int, *, seconds_before: float = 0.0) -> None:
        """Count updates a second, and seconds of training, from here; `seconds_before` there were before a restart."""
        self._began = self._clock.steady() - seconds_before
        self._mark(version)

    def _mark(self, version: int) -> None:
        self._rate_version, self._rate_at = version, self._clock.steady()

    def rate(self, version: int) -> None:
        """Report the mean delay, and updates a second since the last call. Silent while no update comes: x must rise,
        and of the speed also while no time passes, as on a virtual clock."""
        if self._counted and version > self._delay_version:
            self._delay_version = version
            self._point(events.MEAN_DELAY, version, self._delays / self._counted)
        passed = self._clock.steady() - self._rate_at
        if version > self._rate_version and passed > 0.0:
            self._point(events.UPDATES_PER_SECOND, version, (version - self._rate_version) / passed)
            self._point(events.ELAPSED_SECONDS, version, self._clock.steady() - self._began)
            self._mark(version)

    def evaluation(self, version: int, loss: float, metrics: dict[str, float]) -> None:
        self._point(events.EVALUATION_LOSS, version, loss)
        for name, value in metrics.items():
            self._point(events.EVALUATION_METRIC.format(name), version, value)
