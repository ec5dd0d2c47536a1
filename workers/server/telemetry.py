"""What the server reports of every gradient it applies. Called after the trainer has its answer."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from workers import events
from workers.assignment import SERVER_WORKER
from workers.layout import Layout
from workers.reporting import Reporter, Table
from workers.server.core import Applied

BATCH_NORM_SECONDS = 0.2
"""A worker's batch-norm statistics are looked at five times a second at most: a look costs microseconds a layer."""


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

    def __init__(self, reporter: Reporter, layout: Layout, metrics: Sequence[str]) -> None:
        self._reporter = reporter
        self._layout = layout
        self._keys = (
            events.LOSS,
            events.STALENESS,
            events.SKIP,
            events.SCALE,
            events.LEARNING_RATE,
            events.GRADIENT_NORM,
            events.COMPUTE_SECONDS,
            events.TRANSFER_SECONDS,
            *(events.TRAIN_METRIC.format(m) for m in metrics),
        )
        self._gradients: dict[int, Table] = {}
        self._waits: dict[int, Table] = {}
        self._batch_norms: dict[int, Table] = {}
        self._next_look: dict[int, float] = {}
        self._rate_version = 0
        self._rate_at = time.monotonic()

    def gradient(self, applied: Applied, answered: int, measured: tuple[float, ...]) -> None:
        """Report one applied gradient; its worker reads version `answered` next."""
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
            answered - (before + 1),
            applied.scale,
            applied.learning_rate,
            norm,
            compute,
            transfer,
            *metrics,
        )
        if not math.isnan(wait):  # a trainer's first push has waited for nothing
            self._waits[worker].add(before + 1, now, wait)

    def batch_norm(self, worker: int, version: int, now: float, reported: Tensor, aggregate: Tensor) -> None:
        """Look at a worker's statistics beside the server's, if the last look is long enough ago."""
        for who, values in ((worker, reported), (SERVER_WORKER, aggregate)):
            if now >= self._next_look.get(who, 0.0):
                self._next_look[who] = now + BATCH_NORM_SECONDS
                self._batch_norm_table(who).add(version, time.time(), *self._means(values))

    def _means(self, flat: Tensor) -> list[float]:
        means: list[float] = torch.stack([s.of(flat).mean() for s in self._layout.statistics]).tolist()
        return means

    def _batch_norm_table(self, worker: int) -> Table:
        table = self._batch_norms.get(worker)
        if table is None:
            names = {"running_mean": events.BATCH_NORM_MEAN, "running_var": events.BATCH_NORM_VARIANCE}
            keys = tuple(names[s.kind].format(s.layer) for s in self._layout.statistics)
            table = self._batch_norms[worker] = self._reporter.table(worker, keys)
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
            self._rate_version = version
            self._rate_at = now

    def evaluation(self, version: int, loss: float, metrics: dict[str, float]) -> None:
        self._reporter.point(SERVER_WORKER, events.EVALUATION_LOSS, version, loss)
        for name, value in metrics.items():
            self._reporter.point(SERVER_WORKER, events.EVALUATION_METRIC.format(name), version, value)
