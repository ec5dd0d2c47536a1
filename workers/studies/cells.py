"""The runs of a study, one by one: a spec each, and labels that say where in the study it stands."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from workers.spec import RunSpec
from workers.spec_errors import Finding, SpecError
from workers.spec_paths import at, changed
from workers.studies.plan import Method, Point, Rate, Study, Value

KEY_LENGTH = 16
MOST_FINDINGS = 20
Labels = dict[str, Value]
Row = Mapping[str, Any]
"""A result: labels and what was measured. None: there is no such number."""


@dataclass(frozen=True)
class Cell:
    """One run. `labels`: stage, method, a value for each axis, rate, seed, and the tuned field's value."""

    spec: RunSpec
    labels: Labels
    measures: tuple[str, ...] = ()

    @cached_property
    def run(self) -> str:
        """Names what is computed: cells whose specs differ in their names only are one run.

        Defaults are left out, so that results still count after a field has been added to specs.
        """
        told = self.spec.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        text = json.dumps([told, self.measures], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:KEY_LENGTH]

    @cached_property
    def key(self) -> str:
        """Names this cell: the run, and its place in the study."""
        place = "\n".join(f"{name}={value}" for name, value in sorted(self.labels.items()))
        return sha256(f"{self.run}\n{place}".encode()).hexdigest()[:KEY_LENGTH]


def cells(study: Study, results: Iterable[Row] = ()) -> list[Cell]:
    """All runs that are known: those whose rate is still to be tuned come in once `results` has what tunes them.

    Raises SpecError where a combination of method and axes is no spec that can be run.
    """
    findings: list[Finding] = []
    found: list[Cell] = []
    best = chosen(study, results)
    for method, points in places(study):
        try:
            found += _tuning(study, method, points)
            found += _final(study, method, points, best)
        except SpecError as error:
            where = ", ".join([method.label, *(f"{a} {p.value}" for a, p in points.items())])
            findings += [Finding(f.field, f"{f.message} (in {where})") for f in error.findings]
    if findings:
        raise SpecError(findings[:MOST_FINDINGS])
    return found


def places(study: Study) -> Iterator[tuple[Method, dict[str, Point]]]:
    """Every method at every point of the axes that it is for."""
    names = list(study.axes)
    for method in study.methods:
        for combination in itertools.product(*(study.points(a) for a in names)):
            points = dict(zip(names, combination, strict=True))
            if is_at(points, method.where):
                yield method, points


def is_at(points: Mapping[str, Point], where: Mapping[str, list[Value]]) -> bool:
    return all(points[axis].value in values for axis, values in where.items())


Place = tuple[str, tuple[tuple[str, str], ...]]


def place_of(method: str, axes: Mapping[str, Value]) -> Place:
    """Values as text: what a file of results gives back for a label may be of another type."""
    return method, tuple(sorted((axis, str(value)) for axis, value in axes.items()))


def chosen(study: Study, results: Iterable[Row]) -> dict[Place, float]:
    """The best value of the tuned field at each place whose whole grid has been tried."""
    if study.tune is None:
        return {}
    tune, scores = study.tune, defaultdict[Place, dict[float, list[float | None]]](lambda: defaultdict(list))
    for row in results:
        if row["stage"] == "tune":
            place = place_of(str(row["method"]), {a: row[a] for a in study.axes})
            scores[place][float(row[tune.field])].append(row.get(tune.choose.column))
    grids = {m.label: m.grid or tune.grid for m in study.methods}
    return {
        place: max(grids[place[0]], key=lambda value, tried=tried: tune.choose.score(tried[value]))  # type: ignore[misc]
        for place, tried in scores.items()
        if place[0] in grids and all(len(tried.get(v, ())) >= tune.seeds.count for v in grids[place[0]])
    }


def _tuning(study: Study, method: Method, points: dict[str, Point]) -> Iterator[Cell]:
    tune = study.tune
    if tune is None or not any(_needs(study, rate, method, points) for rate in study.rates):
        return
    for value in method.grid or tune.grid:
        for seed in tune.seeds.all:
            labels = _labels("tune", method, points, seed) | {"rate": "grid"}
            yield _cell(study, method, points, [tune.set, {tune.field: value}, tune.seeds.change(seed)], labels)


def _needs(study: Study, rate: Rate, method: Method, points: dict[str, Point]) -> bool:
    """Whether final runs somewhere take their value from this place."""
    if not rate.tuned or (rate.of is not None and rate.of != method.label):
        return False
    return is_at(points, {axis: [value] for axis, value in rate.at.items()})


def _final(study: Study, method: Method, points: dict[str, Point], best: dict[Place, float]) -> Iterator[Cell]:
    for rate in study.rates:
        changes: list[dict[str, Any]] = [study.final.set]
        if rate.tuned:
            assert study.tune is not None
            axes = {a: p.value for a, p in points.items()} | rate.at
            value = best.get(place_of(rate.of or method.label, axes))
            if value is None:
                continue
            changes.append({study.tune.field: value})
        for seed in study.final.seeds.all:
            labels = _labels("final", method, points, seed) | {"rate": rate.label}
            yield _cell(study, method, points, [*changes, study.final.seeds.change(seed)], labels)


def _labels(stage: str, method: Method, points: dict[str, Point], seed: int) -> Labels:
    axes: Labels = {axis: point.value for axis, point in points.items()}
    return {"stage": stage, "method": method.label, **axes, "seed": seed}


def _cell(study: Study, method: Method, points: dict[str, Point], last: list[dict[str, Any]], labels: Labels) -> Cell:
    cases = [case.set for case in method.cases if is_at(points, case.where)]
    changes = [*(p.set for p in points.values()), method.set, *cases, *last]
    spec = RunSpec.parse(changed({"name": _name(study, labels)} | study.base, changes))
    if spec.execution.kind != "simulate":
        raise SpecError.one("base.execution.kind", "must be simulate: a study is made of simulated runs")
    return Cell(spec, labels | {study.tuned_field: at(spec, study.tuned_field)}, tuple(study.measures))


def _name(study: Study, labels: Labels) -> str:
    return f"{study.name}: {labels['method']}"[:120]
