"""What the server reports of every gradient it applies. Called after the trainer has its answer."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from workers import events
from workers.assignment import SERVER_WORKER
from workers.layout import Layout
from workers.methods.batch_norm.base import BatchNorm
from workers.reporting import Reporter, Table
from workers.server.core import Applied, HandOver, Skip

BATCH_NORM_SECONDS = 0.2
"""A worker's batch-norm statistics are looked at five times a second at most: a look costs microseconds a layer."""


class Look(NamedTuple):
    """A worker's batch statistics, means over the channels of each layer, and how far they are from the server's."""

    means: list[float]
    deviations: list[float] | None = None


class Measurements:
    """Reads the body of a push: loss, gradient norm, three times, and the problem's metrics."""

    def __init__(self, metrics: int) -> None:
        self._struct = struct.Struct(f"<{5 + metrics}d")

    def read(self, body: bytes) -> tuple[float, ...]:
        """Raises ValueError when the body is not as long as agreed."""
        if len(body) != self._struct.size:
            raise ValueError(f"a push of {len(body)} bytes where {self._struct.size} were agreed")
        return self._struct.unpack(body)


class Telemetry:
    """Series of all workers, as `workers.events` names them."""

    def __init__(self, reporter: Reporter, layout: Layout, metrics: Sequence[str], batch_norm: BatchNorm) -> None:
        self._reporter = reporter
        self._layout = layout
        self._batch_norm = batch_norm
        self._keys = (
            events.LOSS,
            events.STALENESS,
            events.SCALE,
            events.LEARNING_RATE,
            events.GRADIENT_NORM,
            events.COMPUTE_SECONDS,
            events.TRANSFER_SECONDS,
            *(events.TRAIN_METRIC.format(m) for m in metrics),
        )
        self._gradients: dict[int, Table] = {}
        self._waits: dict[int, Table] = {}
        self._skips: dict[int, Table] = {}
        kinds = {"running_mean": events.BATCH_NORM_MEAN, "running_var": events.BATCH_NORM_VARIANCE}
        self._statistic_keys = tuple(kinds[s.kind].format(s.layer) for s in layout.statistics)
        apart = (events.BATCH_NORM_SHIFT, events.BATCH_NORM_LOG_RATIO)
        self._deviation_keys = tuple(key.format(p.layer) for key in apart for p in layout.places)
        self._tables: dict[tuple[int, tuple[str, ...]], Table] = {}
        self._looks: dict[int, Look] = {}
        self._next_look: dict[int, float] = {}
        self._aggregate_version = 0
        self._rate_version = 0
        self._dropped_version = -1
        self._delays = self._counted = 0
        self._group = -1
        self._scales: list[float] = []
        self._rate_at = time.monotonic()

    def gradient(self, applied: Applied, measured: tuple[float, ...], *, asked: float = 0.0) -> None:
        """Report one applied gradient.

        `asked` is the scale 1/(1 + context) that its learner asked for; 0 where the scale is the server's business.
        """
        worker, before = applied.worker, applied.version_before
        table = self._gradients.get(worker)
        if table is None:
            table = self._gradients[worker] = self._reporter.table(worker, self._keys)
            self._waits[worker] = self._reporter.table(worker, (events.WAIT_SECONDS,))
        loss, norm, compute, wait, transfer, *metrics = measured
        now = time.time()
        table.add(
            before + 1,
            now,
            loss,
            applied.staleness,
            applied.scale,
            applied.learning_rate,
            norm,
            compute,
            transfer,
            *metrics,
        )
        self._delays += applied.staleness + 1
        self._counted += 1
        self._sum_scales(applied)
        if not math.isnan(wait):  # a trainer's first push has waited for nothing
            self._waits[worker].add(before + 1, now, wait)
        if asked:
            self._table(worker, (events.CONTEXT,)).add(before + 1, now, 1.0 / asked - 1.0)
        if self._looks:
            look = self._looks.pop(worker, None)
            if look is not None:
                self._seen(look, worker, before + 1, now)

    def _sum_scales(self, applied: Applied) -> None:
        """Report S of an update of several gradients, once the next update begins."""
        if applied.group == self._group:
            self._scales.append(applied.scale)
            return
        if len(self._scales) > 1:
            self._reporter.point(SERVER_WORKER, events.SCALE_SUM, applied.version_before, sum(self._scales))
        self._group = applied.group
        self._scales = [applied.scale]

    def skip(self, skip: Skip) -> None:
        """Report how far beyond the version its gradient made a worker reads next."""
        self._delays += skip.skip
        table = self._skips.get(skip.worker)
        if table is None:
            table = self._skips[skip.worker] = self._reporter.table(skip.worker, (events.SKIP,))
        table.add(skip.version, time.time(), skip.skip)

    def dropped(self, version: int, count: int) -> None:
        """Report how many gradients have been dropped so far. One point a version: x must rise."""
        if version > self._dropped_version:
            self._dropped_version = version
            self._reporter.point(SERVER_WORKER, events.DROPPED, version, count)

    def look(self, worker: int, place: HandOver, aggregate: Tensor, version: int) -> None:
        """Look at a worker's statistics beside the server's, if the last look is long enough ago.

        Called before its gradient is applied: afterwards the worker may be at its next batch. What is seen is
        reported with the gradient. `aggregate` is the server's, of `version`.
        """
        now = time.monotonic()
        if now >= self._next_look.get(worker, 0.0):
            self._next_look[worker] = now + BATCH_NORM_SECONDS
            self._looks[worker] = self._look(place, aggregate, version)
        if now >= self._next_look.get(SERVER_WORKER, 0.0) and version > self._aggregate_version:
            self._next_look[SERVER_WORKER] = now + BATCH_NORM_SECONDS
            self._aggregate_version = version
            self._table(SERVER_WORKER, self._statistic_keys).add(version, time.time(), *self._means(aggregate))

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

    def start(self, version: int) -> None:
        """Count updates a second from here."""
        self._rate_version, self._rate_at = version, time.monotonic()

    def rate(self, version: int) -> None:
        """Report updates a second since the last call. Silent while no update comes: x must rise."""
        now = time.monotonic()
        if version > self._rate_version:
            updates = (version - self._rate_version) / (now - self._rate_at)
            self._reporter.point(SERVER_WORKER, events.UPDATES_PER_SECOND, version, updates)
            if self._counted:
                self._reporter.point(SERVER_WORKER, events.MEAN_DELAY, version, self._delays / self._counted)
            self._rate_version = version
            self._rate_at = now

    def evaluation(self, version: int, loss: float, metrics: dict[str, float]) -> None:
        self._reporter.point(SERVER_WORKER, events.EVALUATION_LOSS, version, loss)
        for name, value in metrics.items():
            self._reporter.point(SERVER_WORKER, events.EVALUATION_METRIC.format(name), version, value)
