"""Runs side by side."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field

from trainhub import access, comparison
from trainhub.api.shapes import Given, Number, Reference, Shape, answer
from trainhub.models import RunState

router = Router(tags=["Compare"])


class RunsToCompare(Given):
    run: list[int] = Field(min_length=comparison.LEAST_RUNS, max_length=comparison.MOST_RUNS)
    """Number of a run; given once for each of 2 to 12."""


class ComparedRun(Shape):
    id: int
    name: str
    state: RunState
    project: str
    experiment: Reference
    labels: dict[str, Any]
    owner: str
    method: str
    simulated: bool


class ParameterShape(Shape):
    """A field of the specs. `values` stand in the order of `runs`."""

    field: str
    values: list[str]
    differs: bool


class ResultShape(Shape):
    """What a run has come to."""

    run: int
    state: RunState
    metrics: dict[str, Number | None]
    version: int
    updates_per_second: float | None
    seconds: float | None
    virtual_seconds: float | None
    mean_staleness: float | None


class MeanShape(Shape):
    """Over the completed runs that have a value. `deviation`: of the sample, null for fewer than two."""

    count: int
    mean: float | None
    deviation: float | None


class GroupShape(Shape):
    """Runs that differ in their seed alone."""

    runs: list[int]
    seeds: list[int]
    completed: int
    means: dict[str, MeanShape]


class ComparisonShape(Shape):
    runs: list[ComparedRun]
    """Sorted by their groups."""
    parameters: list[ParameterShape]
    """Those that differ first."""
    results: list[ResultShape]
    """In the order of `runs`."""
    groups: list[GroupShape]


@router.get(
    "/compare",
    response=ComparisonShape,
    operation_id="compare_runs",
    summary="Compare runs",
    url_name="api-compare",
    openapi_extra={"x-problems": [404]},
)
def compare(request: HttpRequest, asked: Query[RunsToCompare]) -> HttpResponse:
    """What 2 to 12 runs differ in, what each came to, and what their seeds alone make of it."""
    wanted = list(dict.fromkeys(asked.run))
    found = access.visible_runs(request.user).in_bulk(wanted)
    if len(found) < len(wanted):
        raise Http404
    return answer(comparison.compare([found[number] for number in wanted]).as_data())
