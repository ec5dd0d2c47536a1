"""Experiments: submitted here, listed, read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from ninja import Header, Query, Router
from ninja.responses import Status
from pydantic import Field

from trainhub import access, summary
from trainhub.actions import submissions
from trainhub.api import runs
from trainhub.api.auth import asker
from trainhub.api.pages import MOST_SEARCH, Asked, Page, page
from trainhub.api.shapes import Moment, Shape, Text
from trainhub.api.specs import DraftGiven
from trainhub.models import Experiment, Run

router = Router(tags=["Experiments"])

MOST_SHOWN = 200
"""Runs of an experiment that are told with it. A study may have thousands."""


Key = Annotated[
    Text | None,
    Header(
        alias="Idempotency-Key",
        max_length=submissions.MOST_KEY,
        description="Any text of your own, such as a UUID: the same one again finds what the first one made.",
    ),
]


class ExperimentsAsked(Asked):
    """Which experiments."""

    project: Text = ""
    """Name of the project."""
    owner: Text = ""
    """User name of whoever submitted it."""
    tag: Text = ""
    """One of its tags."""
    search: Text = Field(default="", max_length=MOST_SEARCH)
    """Words that are all in its name."""


class ExperimentLine(Shape):
    """An experiment, and how its runs are."""

    id: int
    name: str
    project: str
    owner: str
    notes: str
    tags: list[str]
    axes: list[str]
    """Names of what its runs' labels tell apart."""
    created_at: Moment | None
    total: int
    """Runs it has."""
    states: dict[str, int]
    """How many of its runs are in each state that there is."""
    url: str
    """Its page."""


class ExperimentShape(ExperimentLine):
    """An experiment with its runs, by number; the first ones of a large study, the others by GET /runs."""

    runs: list[runs.RunLine]


class SubmissionGiven(DraftGiven):
    """What to train: a spec, as data or as YAML, and the runs to make of it."""


@router.post(
    "/experiments",
    response={201: ExperimentShape, 200: ExperimentShape},
    operation_id="submit_experiment",
    summary="Submit runs",
    openapi_extra={
        "x-problems": [403, 404, 409],
        "responses": {
            201: {"description": "Submitted: its runs are queued"},
            200: {"description": "Submitted before, under this Idempotency-Key"},
        },
    },
)
def submit(
    request: HttpRequest,
    response: HttpResponse,
    body: SubmissionGiven,
    idempotency_key: Key = None,
) -> Status[dict[str, Any]]:
    """Queue one run, or one for each seed and each point of the grid, all or none.

    With an Idempotency-Key, sending the same again finds what the first one made: 200 instead of 201, and the header
    Idempotent-Replayed. The same key with something else is refused (409).
    """
    user = asker(request)
    project = access.project_for_change(user, body.project)
    done = submissions.submit(project=project, owner=user, draft=body.draft(), key=idempotency_key or "")
    if done.replayed:
        response["Idempotent-Replayed"] = "true"
    made = access.experiment_to_see(user, done.experiment.pk)
    response["Location"] = f"/api/v1/experiments/{made.pk}"
    return Status(200 if done.replayed else 201, whole(made))


@router.get("/experiments", response=Page[ExperimentLine], operation_id="list_experiments", summary="List experiments")
def list_experiments(request: HttpRequest, asked: Query[ExperimentsAsked]) -> dict[str, Any]:
    """Experiments of your projects and your own, newest first."""
    named = Q()
    for word in asked.search.split():
        named &= Q(name__icontains=word)
    given = {
        "project__name": asked.project,
        "owner__username": asked.owner,
        "tags__contains": [asked.tag] if asked.tag else "",
    }
    found = access.visible_experiments(request.user).filter(named)
    return page(found.filter(**{lookup: value for lookup, value in given.items() if value}), asked, lines)


@router.get(
    "/experiments/{int:experiment_id}",
    response=ExperimentShape,
    operation_id="get_experiment",
    summary="Read an experiment",
)
def show(request: HttpRequest, experiment_id: int) -> dict[str, Any]:
    """With its first 200 runs; `GET /runs?experiment=…` has them all."""
    return whole(access.experiment_to_see(request.user, experiment_id))


def whole(experiment: Experiment) -> dict[str, Any]:
    of_it = Run.objects.filter(experiment=experiment).select_related("experiment__project", "experiment__owner")
    shown = of_it.defer("key", "detail").order_by("number")[:MOST_SHOWN]
    return lines([experiment])[0] | {"runs": runs.lines(list(shown))}


def lines(found: Sequence[Experiment]) -> list[dict[str, Any]]:
    """Experiments that were read with their projects and owners."""
    counts: dict[int, dict[str, int]] = {experiment.pk: {} for experiment in found}
    counted = Run.objects.filter(experiment__in=counts).order_by().values_list("experiment", "state")
    for experiment_id, state, count in counted.annotate(Count("pk")):
        counts[experiment_id][state] = count
    return [_line(experiment, counts[experiment.pk]) for experiment in found]


def _line(experiment: Experiment, states: dict[str, int]) -> dict[str, Any]:
    return {
        "id": experiment.pk,
        "name": experiment.name,
        "project": experiment.project.name,
        "owner": experiment.owner.get_username(),
        "notes": experiment.notes,
        "tags": experiment.tags,
        "axes": experiment.axes,
        "created_at": summary.moment(experiment.created_at),
        "total": sum(states.values()),
        "states": states,
        "url": experiment.get_absolute_url(),
    }
