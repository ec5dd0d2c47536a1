"""What a run measured, what happened to it, and what its processes printed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field

from trainhub import access, charts, summary
from trainhub.api.shapes import Given, Moment, Number, Shape, Text, answer
from trainhub.live.messages import visible

router = Router(tags=["Series, events, log"])

MOST_ITEMS = 1000
MOST_KEYS = 100

Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class SeriesAsked(Given):
    """Which series, and which stretch of them."""

    key: list[Text] = Field(default=[], max_length=MOST_KEYS)
    """Name of a series, or its beginning and a `*`. May be given more than once; left out: all."""
    worker: Whole | None = None
    """A trainer's number; -1 for the run as a whole."""
    attempt: Whole | None = None
    """Number of the attempt, from 1."""
    first: Whole | None = None
    """The version to begin at."""
    last: Whole | None = None
    """The version to end at."""
    after: Whole | None = None
    """Only series that grew after this `sequence`."""
    points: int = Field(default=charts.POINTS, ge=10, le=charts.MOST_POINTS)
    """About how many points of each, at most. The first, the last, extremes and NaNs are always among them."""


class LineShape(Shape):
    """One series: `y[i]` was measured at version `x[i]`."""

    attempt: int
    worker: int
    key: str
    count: int
    """Points before thinning."""
    exact: bool
    """Whether no point was left out."""
    x: list[int]
    y: list[Number]


class SeriesAnswer(Shape):
    sequence: int
    """Every batch up to it is in the answer; later ones may be."""
    series: list[LineShape]
    keys: list[str]
    """All series that the run has."""


class TotalsAsked(Given):
    key: list[Text] = Field(default=[], max_length=MOST_KEYS)
    """Name of a series, or its beginning and a `*`. May be given more than once; left out: all."""


class TotalShape(Shape):
    """A series summed up over all of its finite points."""

    attempt: int
    worker: int
    key: str
    count: int
    total: float
    last_x: int
    values: list[float]
    """Each value that occurs, where they are few."""
    counts: list[int]
    """How often each of `values` occurs."""


class TotalsAnswer(Shape):
    sequence: int
    totals: list[TotalShape]


class EventsAsked(Given):
    after: Whole | None = None
    """Only events with a greater id, from the first of them on: ask again behind the last one for more."""
    limit: int = Field(default=summary.SNAPSHOT_EVENTS, ge=1, le=MOST_ITEMS)
    """So many at most; without `after` the newest."""


class EventShape(Shape):
    id: int
    at: Moment
    attempt: int
    kind: str
    level: Literal["info", "warning", "error"]
    message: str
    member: str
    worker: int | None
    detail: str


class EventsAnswer(Shape):
    events: list[EventShape]
    """Oldest first."""


class LogAsked(Given):
    after: Whole | None = None
    """Only lines with a greater id, from the first of them on: ask again behind the last one for more."""
    member: Whole | None = None
    """Id of a member: its lines alone."""
    limit: int = Field(default=summary.SNAPSHOT_LINES, ge=1, le=MOST_ITEMS)
    """So many at most; without `after` the newest."""


class LogLineShape(Shape):
    id: int
    at: Moment
    attempt: int
    member: str
    worker: int | None
    text: str


class LogAnswer(Shape):
    log: list[LogLineShape]
    """Oldest first."""


@router.get(
    "/runs/{int:run_id}/series",
    response=SeriesAnswer,
    operation_id="get_series",
    summary="Read what a run measured",
    url_name="api-series",
)
def series(request: HttpRequest, run_id: int, asked: Query[SeriesAsked]) -> HttpResponse:
    """Series, thinned to `points`. NaN and infinities come by name, where they were."""
    run = access.run_to_see(request.user, run_id)
    question = charts.Question(
        keys=list(asked.key),
        worker=asked.worker,
        attempt=asked.attempt,
        first=asked.first,
        last=asked.last,
        after=asked.after,
        points=asked.points,
    )
    body: dict[str, Any] = {"sequence": run.live_sequence, "series": []}
    body["series"] = [
        {
            "attempt": line.attempt,
            "worker": line.worker,
            "key": line.key,
            "count": line.count,
            "exact": line.exact,
            "x": line.x.tolist(),
            "y": visible(line.y.tolist()),
        }
        for line in charts.lines(run.pk, question)
    ]
    body["keys"] = charts.keys_of(run.pk)
    return answer(body)


@router.get(
    "/runs/{int:run_id}/totals",
    response=TotalsAnswer,
    operation_id="get_totals",
    summary="Read sums over all points",
    url_name="api-totals",
)
def totals(request: HttpRequest, run_id: int, asked: Query[TotalsAsked]) -> HttpResponse:
    """Sums and distributions of series over all of their points, which thinned ones would get wrong."""
    run = access.run_to_see(request.user, run_id)
    found = charts.totals(run.pk, list(asked.key))
    return answer({"sequence": run.live_sequence, "totals": [vars(total) for total in found]})


@router.get(
    "/runs/{int:run_id}/events",
    response=EventsAnswer,
    operation_id="get_events",
    summary="Read a run's timeline",
    url_name="api-events",
)
def events(request: HttpRequest, run_id: int, asked: Query[EventsAsked]) -> HttpResponse:
    """What happened to the run: evaluations, checkpoints, members that came and went."""
    run = access.run_to_see(request.user, run_id)
    return answer({"events": summary.events_after(run.pk, asked.after, asked.limit)})


@router.get(
    "/runs/{int:run_id}/log",
    response=LogAnswer,
    operation_id="get_log",
    summary="Read what a run's processes printed",
    url_name="api-log",
)
def log(request: HttpRequest, run_id: int, asked: Query[LogAsked]) -> HttpResponse:
    """Lines of all members together, or of one."""
    run = access.run_to_see(request.user, run_id)
    return answer({"log": summary.lines_after(run.pk, asked.after, asked.limit, asked.member)})
