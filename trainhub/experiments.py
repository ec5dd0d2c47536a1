"""An experiment as its page shows it: runs by their labels, and what seeds alone make of the same cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from trainhub import words
from trainhub.models import Experiment, Run, RunState
from workers import catalog

SEED = "seed"
"""The axis whose runs repeat each other."""


@dataclass(frozen=True)
class Line:
    """A run in the table. `labels` stand in the order of the axes; `metric` is None before the first evaluation."""

    run: Run
    labels: list[str]
    percent: int | None
    metric: float | None


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, and what the completed ones of them came to."""

    lines: list[Line]
    completed: int
    mean: float | None
    deviation: float | None
    """Standard deviation of the sample. None for fewer than two."""


@dataclass(frozen=True)
class Overview:
    """All of an experiment. What a page shows of its cells is made of a few of them at a time, by `group`."""

    axes: list[str]
    metric: str
    states: list[tuple[str, int]]
    """How many runs are in each state that there is."""
    cells: list[list[Run]]
    """Runs that differ in nothing but their seed, sorted by their labels."""

    @property
    def runs(self) -> int:
        return sum(count for _, count in self.states)

    @property
    def ended(self) -> int:
        return sum(count for state, count in self.states if state in RunState.ended())

    @property
    def repeats(self) -> int:
        """Runs of the cell that has the most."""
        return max((len(cell) for cell in self.cells), default=0)

    def group(self, cell: Sequence[Run]) -> Group:
        lines = [_line(run, self.axes, self.metric) for run in cell]
        ended = [line.metric for line in lines if line.run.state == RunState.COMPLETED and line.metric is not None]
        values = [value for value in ended if math.isfinite(value)]
        mean = fmean(values) if values else None
        return Group(lines, len(values), mean, stdev(values) if len(values) > 1 else None)


def overview(experiment: Experiment) -> Overview:
    """All of an experiment, its runs sorted by their labels with the seed last."""
    first = experiment.runs.order_by("number").first()
    metric = main_metric(first) if first else "loss"
    axes = sorted(experiment.axes, key=lambda axis: axis == SEED)
    # Thousands of specs would be most of what the page reads, and nothing of what it shows.
    runs = sorted(experiment.runs.defer("spec", "key", "detail"), key=lambda run: (_order(run, axes), run.number))
    counted = Counter(run.state for run in runs)
    states = [(state.value, counted[state]) for state in RunState if counted[state]]
    apart = [axis for axis in axes if axis != SEED]
    cells = [list(same) for _, same in groupby(runs, key=lambda run: _cell(run, apart))]
    return Overview(axes, metric, states, cells)


def main_metric(run: Run) -> str:
    """What the run is judged by: its target's metric, else the first one of its problem, else the loss."""
    target = run.spec.get("budget", {}).get("target")
    if target:
        return str(target["metric"])
    known = catalog.metrics_of(run.spec.get("problem", {}).get("kind", ""))
    measured = (name for name in sorted(run.metrics) if name not in {"loss", "version"})
    return next(iter(known), None) or next(measured, "loss")


def _cell(run: Run, axes: Sequence[str]) -> tuple[Any, ...]:
    """What runs have in common that differ in their seed alone. Without any label, each run is a cell of its own."""
    return tuple(_order(run, axes)) if run.labels else (run.pk,)


def _order(run: Run, axes: Iterable[str]) -> list[tuple[int, float, str]]:
    """Numbers by size and before words; a label that is missing comes first."""
    return [_rank(run.labels.get(axis)) for axis in axes]


def _rank(value: Any) -> tuple[int, float, str]:
    match value:
        case None:
            return 0, 0.0, ""
        case bool() | int() | float():
            return 1, float(value), ""
        case _:
            return 2, 0.0, str(value)


def _line(run: Run, axes: Sequence[str], metric: str) -> Line:
    labels = [words.label(run.labels[axis]) if axis in run.labels else "–" for axis in axes]
    value = run.metrics.get(metric)
    percent = None if run.fraction is None else int(run.fraction * 100)
    return Line(run, labels, percent, value if isinstance(value, int | float) else None)
