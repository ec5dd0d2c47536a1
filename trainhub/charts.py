"""Series for charts: about a thousand points of however many there are, with every extreme and every NaN.

Points are chosen by MinMaxLTTB (Van Der Donckt et al. 2023, arXiv:2305.00332). A series too long to read in the time
of a click is told by its chunks' rows alone: each has the least and the greatest value of its thousand points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db.models import Q, QuerySet, Sum
from tsdownsample import MinMaxLTTBDownsampler

from trainhub.models import Attempt, SeriesChunk

POINTS = 1000
MOST_POINTS = 5000
WHOLE_POINTS = 150_000
"""Longer series are told by their chunks' rows."""
TOTAL_CHUNKS = 2000
"""Of a longer series only its newest chunks are summed up."""
DISTINCT_VALUES = 2000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_downsampler: Any = MinMaxLTTBDownsampler  # its package has no types


@dataclass(frozen=True)
class Question:
    """Which series, and which stretch of them. Empty or None: no limit. A key that ends in `*` is a beginning."""

    keys: list[str] = field(default_factory=list)
    worker: int | None = None
    attempt: int | None = None
    first: int | None = None
    last: int | None = None
    after: int | None = None
    """Only chunks that grew after this sequence."""
    points: int = POINTS


@dataclass(frozen=True)
class Line:
    """One series, thinned. `exact`: nothing was left out. `count`: how many points there are."""

    attempt: int
    worker: int
    key: str
    count: int
    exact: bool
    x: Ints
    y: Floats


@dataclass(frozen=True)
class Total:
    """All points of one series, summed up. `values` and their `counts` only where few values occur."""

    attempt: int
    worker: int
    key: str
    count: int
    total: float
    last_x: int
    values: list[float]
    counts: list[int]


def lines(run_id: int, question: Question) -> list[Line]:
    """The series asked for, without what a later attempt has made void."""
    limits = visible_until(run_id)
    found = _chunks(run_id, question)
    long = _longer_than(found, WHOLE_POINTS)
    rows = found.order_by("attempt", "worker", "key", "index")
    whole, told = rows.defer("t"), rows.defer("x", "t", "y")
    for attempt, worker, key in long:
        whole = whole.exclude(attempt=attempt, worker=worker, key=key)
    drawn = [_line(group, question, limits, _points) for group in _series(whole.iterator(chunk_size=500))]
    for attempt, worker, key in long:
        group = told.filter(attempt=attempt, worker=worker, key=key)
        drawn.append(_line(list(group), question, limits, _outline))
    return [line for line in drawn if line is not None]


def totals(run_id: int, keys: list[str]) -> list[Total]:
    """Sums and distributions over all points of series, which thinned ones would get wrong."""
    limits = visible_until(run_id)
    found = _chunks(run_id, Question(keys=keys)).order_by("attempt", "worker", "key", "index").defer("t")
    summed = [_total(group[-TOTAL_CHUNKS:], limits) for group in _series(found.iterator(chunk_size=500))]
    return [total for total in summed if total is not None]


def keys_of(run_id: int) -> list[str]:
    return list(SeriesChunk.objects.filter(run=run_id).order_by("key").values_list("key", flat=True).distinct())


def visible_until(run_id: int) -> dict[int, int]:
    """Attempt → the last version of it that counts: where a later attempt went on from. Missing: all count."""
    limits: dict[int, int] = {}
    least: int | None = None
    rows = Attempt.objects.filter(run=run_id).order_by("-number").values_list("number", "restored_version")
    for number, restored in rows:
        if least is not None:
            limits[number] = least
        least = min(restored or 0, least) if least is not None else restored or 0
    return limits


def thin(x: Ints, y: Floats, points: int) -> Ints:
    """Indices of about `points` points that look like all of them: first, last, extremes and non-finite stay."""
    if len(x) <= points:
        return np.arange(len(x))
    finite = np.flatnonzero(np.isfinite(y))
    odd = np.flatnonzero(~np.isfinite(y))
    kept = [np.array([0, len(x) - 1]), odd[_spread(len(odd), points // 2)]]
    if len(finite):
        values = np.ascontiguousarray(y[finite])
        kept.append(finite[[values.argmin(), values.argmax()]])
        if len(finite) > points:
            chosen = _downsampler().downsample(np.ascontiguousarray(x[finite]), values, n_out=points)
            kept.append(finite[chosen.astype(np.int64)])
        else:
            kept.append(finite)
    return np.unique(np.concatenate(kept))


def _spread(count: int, most: int) -> Ints:
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def _chunks(run_id: int, question: Question) -> QuerySet[SeriesChunk]:
    found = SeriesChunk.objects.filter(run=run_id)
    if question.keys:
        found = found.filter(_named(question.keys))
    if question.worker is not None:
        found = found.filter(worker=question.worker)
    if question.attempt is not None:
        found = found.filter(attempt=question.attempt)
    if question.first is not None:
        found = found.filter(last_x__gte=question.first)
    if question.last is not None:
        found = found.filter(first_x__lte=question.last)
    if question.after is not None:
        found = found.filter(sequence__gt=question.after)
    return found


def _named(keys: list[str]) -> Q:
    names = Q(key__in=[k for k in keys if not k.endswith("*")])
    for key in keys:
        if key.endswith("*"):
            names |= Q(key__startswith=key[:-1])
    return names


def _longer_than(found: QuerySet[SeriesChunk], points: int) -> list[tuple[int, int, str]]:
    sizes = found.order_by().values("attempt", "worker", "key").annotate(points=Sum("count"))
    return [(s["attempt"], s["worker"], s["key"]) for s in sizes if s["points"] > points]


def _series(rows: Iterable[SeriesChunk]) -> Iterator[list[SeriesChunk]]:
    for _, group in groupby(rows, key=attrgetter("attempt", "worker", "key")):
        yield list(group)


def _points(group: list[SeriesChunk]) -> tuple[Ints, Floats]:
    return (
        np.frombuffer(b"".join(c.x for c in group), "<i8"),
        np.frombuffer(b"".join(c.y for c in group), "<f8"),
    )


def _outline(group: list[SeriesChunk]) -> tuple[Ints, Floats]:
    """Each chunk's least value at its first version, its greatest at its last one, a NaN where it has some."""
    x: list[int] = []
    y: list[float] = []
    for chunk in group:
        if chunk.low is not None and chunk.high is not None:
            x += [chunk.first_x, chunk.last_x]
            y += [chunk.low, chunk.high]
        if chunk.nonfinite:
            x.append(chunk.last_x)
            y.append(float("nan"))
    return np.array(x, np.int64), np.array(y, np.float64)


def _line(group: list[SeriesChunk], question: Question, limits: dict[int, int], read: Any) -> Line | None:
    if not group:
        return None
    x, y = read(group)
    seen = _between(x, question.first, _least(question.last, limits.get(group[0].attempt)))
    x, y = x[seen], y[seen]
    if not len(x):
        return None
    chosen = thin(x, y, question.points)
    return Line(
        attempt=group[0].attempt,
        worker=group[0].worker,
        key=group[0].key,
        count=sum(c.count for c in group) if read is _outline else len(x),
        exact=read is _points and len(chosen) == len(x),
        x=x[chosen],
        y=y[chosen],
    )


def _total(group: list[SeriesChunk], limits: dict[int, int]) -> Total | None:
    x, y = _points(group)
    seen = _between(x, None, limits.get(group[0].attempt)) & np.isfinite(y)
    x, y = x[seen], y[seen]
    if not len(x):
        return None
    values, counts = np.unique(y, return_counts=True)
    few = len(values) <= DISTINCT_VALUES
    return Total(
        attempt=group[0].attempt,
        worker=group[0].worker,
        key=group[0].key,
        count=len(y),
        total=float(y.sum()),
        last_x=int(x[-1]),
        values=values.tolist() if few else [],
        counts=counts.tolist() if few else [],
    )


def _between(x: Ints, first: int | None, last: int | None) -> npt.NDArray[np.bool_]:
    seen = np.ones(len(x), bool)
    if first is not None:
        seen &= x >= first
    if last is not None:
        seen &= x <= last
    return seen


def _least(*limits: int | None) -> int | None:
    given = [limit for limit in limits if limit is not None]
    return min(given) if given else None
