"""Reads that pages, the API, the live stream and the terminal share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from django.db.models import Count
from django.utils import timezone

from trainhub import words
from trainhub.models import Attempt, Event, Run, SeriesChunk
from workers import events
from workers.assignment import SERVER_WORKER

RECENT_POINTS = 50
"""How many of a series' last points make "now"."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands. None: not known (yet)."""

    state: str
    version: int
    fraction: float | None
    seconds_left: float | None
    loss: float | None
    mean_staleness: float | None
    updates_per_second: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    staleness: dict[int, float] = field(default_factory=dict)
    """Trainer → its mean staleness, in versions."""
    scale: dict[int, float] = field(default_factory=dict)
    """Trainer → the mean share of the learning rate its gradients got."""


def progress(run_id: int) -> Progress:
    """Where the run stands. Raises Run.DoesNotExist."""
    run = Run.objects.get(pk=run_id)
    recent = _recent(run, [events.LOSS, events.STALENESS, events.SCALE, events.UPDATES_PER_SECOND])
    of_trainers = {(w, key): m for (w, key), m in recent.items() if w != SERVER_WORKER}
    staleness = {w: m for (w, key), m in of_trainers.items() if key == events.STALENESS}
    losses = [m for (_, key), m in of_trainers.items() if key == events.LOSS]
    return Progress(
        state=run.state,
        version=run.version,
        fraction=run.fraction,
        seconds_left=seconds_left(run),
        loss=_mean(losses),
        metrics={name: value for name, value in run.metrics.items() if name != "version"},
        mean_staleness=_mean(list(staleness.values())),
        updates_per_second=recent.get((SERVER_WORKER, events.UPDATES_PER_SECOND)),
        staleness=staleness,
        scale={w: m for (w, key), m in of_trainers.items() if key == events.SCALE},
    )


def seconds_left(run: Run, now: dt.datetime | None = None) -> float | None:
    """How long the present attempt goes on if it keeps its pace. None: no end in sight, or too early to say."""
    if run.state != "running" or run.training_at is None or not run.fraction:
        return None
    restored = Attempt.objects.filter(run=run, number=run.attempt).values_list("restored_version", flat=True)
    begun_at = (restored.first() or 0) / max(run.version, 1) * run.fraction
    done = run.fraction - begun_at
    elapsed = ((now or timezone.now()) - run.training_at).total_seconds()
    return elapsed * (1 - run.fraction) / done if done > 0 and elapsed > 1 else None


def virtual_seconds(run: Run) -> float | None:
    """How far the virtual clock of the present attempt has come, by its newest point. None: it has none (yet)."""
    if not run.is_simulated:
        return None
    begun = Event.objects.filter(run=run, attempt=run.attempt, kind="training").first()
    of_the_run = SeriesChunk.objects.filter(run=run, attempt=run.attempt, worker=SERVER_WORKER)
    newest = of_the_run.order_by("-last_x").values_list("t", flat=True).first()
    if begun is None or newest is None:
        return None
    started_at = float(begun.data["started_at"])
    return max(0.0, float(np.frombuffer(newest, "<f8")[-1]) - started_at)


def _recent(run: Run, keys: list[str]) -> dict[tuple[int, str], float]:
    """Mean of the last finite points of each series of the present attempt, by worker and key."""
    newest = (
        SeriesChunk.objects.filter(run=run, attempt=run.attempt, key__in=keys)
        .order_by("worker", "key", "-index")
        .distinct("worker", "key")
        .values_list("worker", "key", "y")
    )
    means: dict[tuple[int, str], float] = {}
    for worker, key, y in newest:
        last = np.frombuffer(y, "<f8")[-RECENT_POINTS:]
        last = last[np.isfinite(last)]
        if last.size:
            means[worker, key] = float(last[-1] if key == events.UPDATES_PER_SECOND else last.mean())
    return means


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Listed:
    """A run as a line of the list."""

    run: Run
    method: str
    problem: str
    percent: int | None
    metrics: list[tuple[str, float]]
    seconds: float | None
    """How long it has trained, or did. None: not yet."""
    trainers: str
    siblings: int
    """Runs of its experiment, itself included."""
    labels: str


FOLDED_RUNS = 5
"""Of an experiment of many runs the list shows so many; the others are on the experiment's page."""


def lines_of(runs: Sequence[Run]) -> list[Listed]:
    """The lines of one page of the list."""
    experiments = {run.experiment_id for run in runs}
    counted = Run.objects.filter(experiment__in=experiments).order_by().values_list("experiment").annotate(Count("pk"))
    siblings: dict[int, int] = dict(counted)
    return [listed(run, siblings[run.experiment_id]) for run in runs]


def listed(run: Run, siblings: int = 1) -> Listed:
    metrics = [(name, value) for name, value in sorted(run.metrics.items()) if name not in {"loss", "version"}]
    return Listed(
        run=run,
        method=words.method(run.spec),
        problem=words.problem(run.spec),
        percent=None if run.fraction is None else int(run.fraction * 100),
        metrics=metrics or [(name, value) for name, value in run.metrics.items() if name == "loss"],
        seconds=trained_seconds(run),
        trainers=words.trainers(run.spec),
        siblings=siblings,
        labels=words.labels(run.labels, run.experiment.axes),
    )


def trained_seconds(run: Run, now: dt.datetime | None = None) -> float | None:
    """How long the present attempt has had its slots, or had them until the run ended."""
    if run.started_at is None:
        return None
    return max(0.0, ((run.ended_at or now or timezone.now()) - run.started_at).total_seconds())
