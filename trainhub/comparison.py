"""Runs side by side: what they differ in, what each came to, and what seeds alone make of it. Reads only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from django.db.models import Max

from trainhub import charts, experiments, queries, words
from trainhub.models import Experiment, Run, RunState
from workers import events
from workers.assignment import SERVER_WORKER
from workers.spec import RunSpec

LEAST_RUNS = 2
MOST_RUNS = 12
"""More lines than these are not told apart in a chart."""

NAMES = frozenset({"version", "name", "notes", "tags"})
"""Parts of a spec that say nothing of the training."""
NOT_APART = frozenset({*NAMES, "seed", "priority", "restarts"})
"""Runs that differ in these alone repeat each other."""

COURSES = (events.LOSS, events.STALENESS)
STRETCHES = 80
"""Of a run whose means make a line."""
PARTS = tuple(RunSpec.model_fields)
MISSING = "–"
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Parameter:
    """One field of the specs, dotted. `values` stand in the order of the runs, in words; `–`: it has no such field."""

    field: str
    values: list[str]
    differs: bool


@dataclass(frozen=True)
class Result:
    """What a run came to, or has come to so far. None: not known."""

    run: int
    state: str
    metrics: dict[str, float | None]
    version: int
    updates_per_second: float | None
    """Mean over the run; of a simulation, in virtual seconds."""
    seconds: float | None
    """On the wall, of the present attempt."""
    virtual_seconds: float | None
    mean_staleness: float | None
    """Over all gradients, in versions."""

    @property
    def completed(self) -> bool:
        return self.state == RunState.COMPLETED


@dataclass(frozen=True)
class Mean:
    """Over the completed runs of a group that have a value. None: there are none."""

    count: int
    mean: float | None
    deviation: float | None
    """Standard deviation of the sample. None for fewer than two."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone. `results` holds those that have not completed too; `means` does not."""

    runs: list[int]
    seeds: list[int]
    completed: int
    means: dict[str, Mean]


@dataclass(frozen=True)
class Course:
    """Means over stretches of a run: at version `x` on average, `y` was measured on average."""

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Comparison:
    """Everything is in the order of `runs`, which stand by their groups."""

    runs: list[Run]
    metrics: list[str]
    parameters: list[Parameter]
    results: list[Result]
    groups: list[Group]

    @property
    def differing(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters if parameter.differs]

    @property
    def equal(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters if not parameter.differs]

    def as_data(self) -> dict[str, Any]:
        """For whoever reads it as JSON."""
        return {
            "runs": [_named(run) for run in self.runs],
            "parameters": [asdict(parameter) for parameter in self.parameters],
            "results": [asdict(result) for result in self.results],
            "groups": [asdict(group) for group in self.groups],
        }


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare runs that the caller has made sure may be seen. They come back sorted by their groups."""
    together = _together(runs)
    ordered = [run for group in together for run in group]
    results = {run.pk: _result(run) for run in ordered}
    metrics = _metrics(ordered)
    groups = [_group(group, [results[run.pk] for run in group], metrics) for group in together]
    return Comparison(ordered, metrics, list(_parameters(ordered)), list(results.values()), groups)


def of_experiment(experiment: Experiment) -> list[Run]:
    """Runs of an experiment to compare: all of a small one, else one of each of its first cells."""
    cells = experiments.overview(experiment).cells
    found = [run for cell in cells for run in cell]
    if len(found) > MOST_RUNS:
        found = [_foremost(cell) for cell in cells[:MOST_RUNS]]
    whole = Run.objects.select_related("experiment__project", "experiment__owner").in_bulk([run.pk for run in found])
    return [whole[run.pk] for run in found]


def courses(run: Run) -> dict[str, Course]:
    """How loss and staleness went, over all trainers. Thinned series keep extremes, so a mean of them would lie."""
    newest = run.series_chunks.filter(key__in=COURSES, worker__gte=0).aggregate(last=Max("last_x"))["last"]
    return {key: _course(run, key, newest) for key in COURSES} if newest is not None else {}


def _course(run: Run, key: str, newest: int) -> Course:
    """Means of stretches of equally many versions, read chunk by chunk, so that a long run takes no more memory."""
    limits = charts.visible_until(run.pk)
    sums, counts, versions = np.zeros(STRETCHES), np.zeros(STRETCHES), np.zeros(STRETCHES)
    chunks = run.series_chunks.filter(key=key, worker__gte=0).only("attempt", "x", "y")
    for chunk in chunks.iterator(chunk_size=500):
        x, y = np.frombuffer(chunk.x, "<i8"), np.frombuffer(chunk.y, "<f8")
        seen = np.isfinite(y) & (x <= limits.get(chunk.attempt, newest))
        x, y = x[seen], y[seen]
        place = np.minimum(x * STRETCHES // (newest + 1), STRETCHES - 1)
        sums += np.bincount(place, y, STRETCHES)
        versions += np.bincount(place, x, STRETCHES)
        counts += np.bincount(place, minlength=STRETCHES)
    some = counts > 0
    return Course((versions[some] / counts[some]).tolist(), (sums[some] / counts[some]).tolist())


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Value]]:
    """Dotted fields of a spec: `rate.kind`, `delays.0.factor`. Lists of plain values stay one field."""
    match value:
        case Mapping():
            for name, part in value.items():
                yield from flattened(part, f"{path}.{name}" if path else str(name))
        case list() if any(isinstance(item, Mapping | list) for item in value):
            for index, item in enumerate(value):
                yield from flattened(item, f"{path}.{index}")
        case list():
            yield path, ", ".join(words.label(item) for item in value) or "none"
        case _:
            yield path, value


def _foremost(cell: Sequence[Run]) -> Run:
    """The run that stands for its cell: the first that completed, if any did."""
    return next((run for run in cell if run.state == RunState.COMPLETED), cell[0])


def _together(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups in the order of their first runs; within a group by seed."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        apart = {name: part for name, part in run.spec.items() if name not in NOT_APART}
        groups.setdefault(json.dumps(apart, sort_keys=True), []).append(run)
    return [sorted(group, key=lambda run: (run.spec.get("seed", 0), run.pk)) for group in groups.values()]


def _parameters(runs: Sequence[Run]) -> Iterator[Parameter]:
    """Fields that differ first; both in the order of the spec."""
    specs = [dict(flattened({k: v for k, v in run.spec.items() if k not in NAMES})) for run in runs]
    names = sorted({field for spec in specs for field in spec}, key=_place)
    rows = [_parameter(field, specs) for field in names]
    yield from sorted(rows, key=lambda parameter: not parameter.differs)


def _place(field: str) -> tuple[int, list[str]]:
    """Where a field stands. The database keeps no order within a spec, but its schema has one; a kind comes first."""
    first, *rest = field.split(".")
    order = PARTS.index(first) if first in PARTS else len(PARTS)
    return order, ["" if part == "kind" else part for part in rest]


def _parameter(field: str, specs: Sequence[Mapping[str, Value]]) -> Parameter:
    values = [words.label(spec[field]) if field in spec else MISSING for spec in specs]
    return Parameter(field, values, differs=len(set(values)) > 1)


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Names of what was evaluated: first what the runs are judged by, the loss last."""
    judged = [experiments.main_metric(run) for run in runs]
    others = sorted({name for run in runs for name in run.metrics} - {"loss", "version"})
    return [name for name in dict.fromkeys([*judged, *others]) if name != "loss"] + ["loss"]


def _result(run: Run) -> Result:
    sums = _sums(run)
    staleness = [pair for (worker, key), pair in sums.items() if key == events.STALENESS and worker != SERVER_WORKER]
    speed = sums.get((SERVER_WORKER, events.UPDATES_PER_SECOND))
    return Result(
        run=run.pk,
        state=run.state,
        metrics={name: _finite(value) for name, value in run.metrics.items() if name != "version"},
        version=run.version,
        updates_per_second=_share([speed] if speed else []),
        seconds=queries.trained_seconds(run),
        virtual_seconds=queries.virtual_seconds(run),
        mean_staleness=_share(staleness),
    )


def _sums(run: Run) -> dict[tuple[int, str], tuple[float, int]]:
    """Worker and key → sum and count over all attempts, without what a later one has made void."""
    sums: dict[tuple[int, str], tuple[float, int]] = {}
    for total in charts.totals(run.pk, [events.STALENESS, events.UPDATES_PER_SECOND]):
        before, counted = sums.get((total.worker, total.key), (0.0, 0))
        sums[total.worker, total.key] = before + total.total, counted + total.count
    return sums


def _share(sums: Sequence[tuple[float, int]]) -> float | None:
    count = sum(counted for _, counted in sums)
    return sum(total for total, _ in sums) / count if count else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _group(runs: Sequence[Run], results: Sequence[Result], metrics: Sequence[str]) -> Group:
    completed = [result for result in results if result.completed]
    columns = {name: [result.metrics.get(name) for result in completed] for name in metrics}
    columns |= {
        "version": [result.version for result in completed],
        "updates_per_second": [result.updates_per_second for result in completed],
        "seconds": [result.seconds for result in completed],
        "virtual_seconds": [result.virtual_seconds for result in completed],
        "mean_staleness": [result.mean_staleness for result in completed],
    }
    return Group(
        runs=[run.pk for run in runs],
        seeds=[run.spec.get("seed", 0) for run in runs],
        completed=len(completed),
        means={name: _mean(values) for name, values in columns.items()},
    )


def _mean(values: Sequence[float | None]) -> Mean:
    known = [value for value in values if value is not None]
    return Mean(len(known), fmean(known) if known else None, stdev(known) if len(known) > 1 else None)


def _named(run: Run) -> dict[str, Any]:
    return {
        "id": run.pk,
        "name": run.name,
        "state": run.state,
        "project": run.experiment.project.name,
        "experiment": {"id": run.experiment_id, "name": run.experiment.name},
        "labels": run.labels,
        "owner": run.experiment.owner.get_username(),
        "method": words.method(run.spec),
        "simulated": run.is_simulated,
    }
