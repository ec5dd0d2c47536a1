"""Runs: the list, one of them, its spec, and what to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from django.http import Http404, HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import Field, WithJsonSchema

from trainhub import access, listing, summary
from trainhub.actions import runs
from trainhub.api.auth import asker
from trainhub.api.pages import MOST_SEARCH, Asked, Page, page
from trainhub.api.shapes import Given, Moment, Number, Reference, Shape, Text, answer
from trainhub.models import Run, RunState

router = Router(tags=["Runs"])

ACTIONS = {
    "pause": runs.ask_to_pause,
    "resume": runs.resume,
    "cancel": runs.ask_to_cancel,
    "kill": runs.ask_to_kill,
    "requeue": runs.ask_to_requeue,
}


class RunsAsked(Asked):
    """Which runs."""

    state: list[RunState] = []
    """One of these. May be given more than once."""
    project: Text = ""
    """Name of the project."""
    owner: Text = ""
    """User name of whoever submitted it."""
    tag: Text = ""
    """One of its experiment's tags."""
    method: list[Text] = Field(default=[], max_length=listing.MOST_METHODS)
    """A kind such as `softsync`, or a word of a method's label. Given more than once: all of them."""
    search: Text = Field(default="", max_length=MOST_SEARCH)
    """Words that are all in the name of the run or of its experiment, or the run's number."""
    experiment: int | None = None
    """Number of the experiment."""


class RunLine(Shape):
    """A run as lists tell of it."""

    id: int
    name: str
    project: str
    experiment: Reference
    number: int
    """Within its experiment, from 1."""
    labels: dict[str, Any]
    """What tells it from the other runs of its experiment."""
    owner: str
    tags: list[str]
    problem: str
    method: str
    trainers: str
    budget: str
    simulated: bool
    state: RunState
    waiting_reason: str
    cause: str
    restarts: int
    attempt: int
    version: int
    gradients: int
    fraction: float | None
    """Share of the budget that is spent. None: no end is in sight."""
    metrics: dict[str, Number | None]
    """Of the newest evaluation."""
    created_at: Moment | None
    queued_at: Moment | None
    started_at: Moment | None
    training_at: Moment | None
    ended_at: Moment | None


class MeanDelay(Shape):
    """What the mean staleness tends to. `claimed`: whether it must."""

    versions: float | None
    words: str
    claimed: bool


class AttemptShape(Shape):
    """One gang's try at the run."""

    number: int
    started_at: Moment | None
    ended_at: Moment | None
    outcome: str
    cause: str
    restored_version: int | None


class MemberShape(Shape):
    """One place in the present attempt's gang."""

    id: int
    title: str
    role: str
    worker: int | None
    """A trainer's number, from 0. None: it is no trainer."""
    state: str
    node: str
    slot: str
    transport: str
    """How it is connected to its server, such as `shared memory`. Empty: it has not joined, or is the server."""
    peer: str
    """Network address that it joined from. Empty: it shares a machine with its server."""
    cause: str
    detail: str
    started_at: Moment | None
    ended_at: Moment | None


class CheckpointShape(Shape):
    """A file of weights, with the optimizer's state and the clocks."""

    id: int
    version: int
    epoch: int
    attempt: int
    final: bool
    metrics: dict[str, Number | None]
    size_bytes: int
    sha256: str
    created_at: Moment | None
    url: str


class RunSummary(Shape):
    """A run, its attempts, the members of the present one, and its newest checkpoints."""

    id: int
    name: str
    project: str
    experiment: Reference
    labels: dict[str, Any]
    owner: str
    tags: list[str]
    problem: str
    method: str
    trainers: str
    simulated: bool
    virtual_seconds: float | None
    budget: str
    state: RunState
    wish: str
    """What somebody asked of it that has not happened yet."""
    waiting_reason: str
    cause: str
    detail: str
    restarts: int
    attempt: int
    epoch: int
    address: str
    """HOST:PORT at which its server takes trainers of other nodes. Empty: it opened no port."""
    version: int
    gradients: int
    refused: int
    fraction: float | None
    seconds_left: float | None
    metrics: dict[str, Number | None]
    mean_delay: MeanDelay
    sequence: int
    """Rises with each stored batch of points."""
    created_at: Moment | None
    queued_at: Moment | None
    started_at: Moment | None
    training_at: Moment | None
    ended_at: Moment | None
    now: Moment
    attempts: list[AttemptShape]
    members: list[MemberShape]
    checkpoints: list[CheckpointShape]


@router.get("/runs", response=Page[RunLine], operation_id="list_runs", summary="List runs")
def list_runs(request: HttpRequest, asked: Query[RunsAsked]) -> dict[str, Any]:
    """Runs of your projects and your own, newest first."""
    filters = listing.Filters(
        state=tuple(asked.state),
        project=asked.project,
        owner=asked.owner,
        tag=asked.tag,
        method=tuple(asked.method),
        search=asked.search,
    )
    found = listing.narrowed(access.visible_runs(request.user), filters)
    if asked.experiment is not None:
        found = found.filter(experiment=asked.experiment)
    return page(found.defer("key", "detail"), asked, lines)


def lines(found: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs that were read with their experiments, projects and owners."""
    return [summary.line(run) | {"number": run.number} for run in found]


@router.get("/runs/{int:run_id}", include_in_schema=False)
@router.get(
    "/runs/{int:run_id}/", response=RunSummary, operation_id="get_run", summary="Read a run", url_name="api-run"
)
def show(request: HttpRequest, run_id: int) -> HttpResponse:
    """The run with its attempts, members and newest checkpoints."""
    return answer(summary.read(access.run_to_see(request.user, run_id)))


class SpecAsked(Given):
    format: Literal["json", "yaml"] = "json"
    """`json`: every default written out. `yaml`: only what differs from the defaults."""


@router.get(
    "/runs/{int:run_id}/spec",
    response=dict[str, Any],
    operation_id="get_run_spec",
    summary="Read a run's spec",
    openapi_extra={"responses": {200: {"content": {"application/yaml": {"schema": {"type": "string"}}}}}},
)
def spec(request: HttpRequest, run_id: int, asked: Query[SpecAsked]) -> HttpResponse:
    """Submitting it again makes the same run again."""
    run = access.run_to_see(request.user, run_id)
    if asked.format == "yaml":
        return HttpResponse(run.run_spec.as_yaml(), content_type="application/yaml; charset=utf-8")
    return HttpResponse(run.run_spec.canonical(), content_type="application/json")


@router.post(
    "/runs/{int:run_id}/actions/{action}",
    response={202: RunSummary},
    operation_id="act_on_run",
    summary="Pause, resume, cancel, kill or queue again",
    url_name="api-act",
    openapi_extra={"x-problems": [409]},
)
def act(
    request: HttpRequest,
    run_id: int,
    action: Annotated[str, WithJsonSchema({"type": "string", "enum": list(ACTIONS)})],
) -> HttpResponse:
    """202: it is asked for, and the run's state tells when it is done. 409: the state forbids it.

    `cancel` stops in order and keeps a last checkpoint; `kill` ends every process at once; `requeue` queues a failed
    or cancelled run again, from its newest checkpoint where it has one.
    """
    if action not in ACTIONS:
        raise Http404
    run = access.run_for_change(request.user, run_id)
    ACTIONS[action](run, by=asker(request))
    return answer(summary.read(access.run_to_see(request.user, run_id)), status=202)
