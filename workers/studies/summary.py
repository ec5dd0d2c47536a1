"""What the runs of a study come to: means with intervals over seeds, and differences paired by seed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scipy.special import stdtrit

from workers.studies.plan import Compare, Study

CONFIDENCE = 0.95
Row = dict[str, Any]
NOT_SUMMED = frozenset({"cell", "run", "seed", "outcome", "message", "weights_hash", "wall_seconds"})


@dataclass(frozen=True)
class Mean:
    """Of the runs that have such a number. `low`, `high`: the 95 % interval by Student's t; None below two runs."""

    runs: int
    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    median: float | None
    """Of all runs, those without a number counting as endless. None: endless. The quartiles likewise."""
    lower_quartile: float | None
    upper_quartile: float | None


def mean_of(values: Iterable[float | None]) -> Mean | None:
    """None: no run has such a number."""
    all_of_them = list(values)
    known = [v for v in all_of_them if v is not None]
    if not known:
        return None
    lower, median, upper = quartiles([math.inf if v is None else v for v in all_of_them])
    mean, count = statistics.fmean(known), len(known)
    deviation = statistics.stdev(known) if count > 1 else None
    half = None if deviation is None else half_width(deviation, count)
    return Mean(
        runs=len(all_of_them),
        count=count,
        mean=mean,
        deviation=deviation,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
    )


def quartiles(values: list[float]) -> tuple[float | None, float | None, float | None]:
    """The values that a quarter, half and three quarters lie below, between neighbours in proportion. None: endless."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    ordered = sorted(values)
    found = []
    for share in (0.25, 0.5, 0.75):
        place = share * (len(ordered) - 1)
        below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
        value = below + (place - math.floor(place)) * (above - below) if above < math.inf else above
        found.append(value if value < math.inf else None)
    return found[0], found[1], found[2]


def half_width(deviation: float, count: int) -> float:
    """Half of the interval in which the true mean lies with 95 %: t s / sqrt(n), n - 1 degrees of freedom."""
    return float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2.0)) * deviation / math.sqrt(count)


def groups(study: Study, rows: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Runs that differ in their seed only, by everything else."""
    found = defaultdict[tuple[Any, ...], list[Row]](list)
    for row in rows:
        found[tuple(row.get(name) for name in group_names(study))].append(row)
    return dict(found)


def group_names(study: Study) -> list[str]:
    return ["stage", "method", *study.axes, "rate", study.tuned_field]


def columns_of(study: Study, rows: list[Row]) -> list[str]:
    """The columns that hold numbers, in their order."""
    labels = {*group_names(study), *NOT_SUMMED}
    names = [name for row in rows[:1] for name in row if name not in labels]
    return [n for n in names if any(isinstance(r.get(n), int | float) for r in rows)]


def summarise(study: Study, rows: list[Row]) -> list[Row]:
    """A row for each group and column."""
    names, columns = group_names(study), columns_of(study, rows)
    found = groups(study, rows)
    summary = []
    for group, members in found.items():
        for column in columns:
            mean = mean_of(r.get(column) for r in members)
            if mean is None:
                continue
            row: Row = dict(zip(names, group, strict=True)) | {"column": column}
            row |= {name: rounded(value) for name, value in vars(mean).items()}
            if study.compare:
                row |= _difference(study, study.compare, rows, members, column)
            summary.append(row)
    return summary


def _difference(study: Study, compare: Compare, rows: list[Row], members: list[Row], column: str) -> Row:
    """The mean of (this method - the other) over seeds, at the same point and with a rate found in the same way."""
    told: Row = {"pairs": None, "difference": None, "difference_low": None, "difference_high": None}
    if members[0]["stage"] != "final" or members[0]["method"] == compare.to or column not in compare.columns:
        return told
    same = ("stage", "rate", *study.axes)
    others = {
        r["seed"]: r.get(column)
        for r in rows
        if r["method"] == compare.to and all(r.get(n) == members[0].get(n) for n in same)
    }
    pairs = [
        r[column] - others[r["seed"]]
        for r in members
        if r.get(column) is not None and others.get(r["seed"]) is not None
    ]
    mean = mean_of(pairs)
    if mean is None:
        return told
    return {
        "pairs": mean.count,
        "difference": rounded(mean.mean),
        "difference_low": rounded(mean.low),
        "difference_high": rounded(mean.high),
    }


def rounded(value: Any) -> Any:
    """Six digits are more than any of this can tell."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
