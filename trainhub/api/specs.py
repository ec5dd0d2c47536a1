"""Specs: checked before they are submitted, described, and ready ones to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from ninja import Router
from pydantic import ConfigDict, Field, StrictBool

from trainhub import access, capacity, planning, presets, words
from trainhub.actions import runs
from trainhub.actions.errors import FieldError, NotPlanned
from trainhub.api.auth import READING_ANYONE, asker
from trainhub.api.problems import FieldProblem, field_of, field_problems
from trainhub.api.shapes import Given, Shape, Text
from trainhub.models import Dataset, Project
from trainhub.submissions import Draft, Submission, understand
from workers.spec import RunSpec
from workers.spec_errors import SpecError

router = Router(tags=["Specs"])
PLANS_AT_ONCE = Lock()
"""One: its steps are timed."""

EXAMPLE: dict[str, Any] = {
    "yaml": "name: digits\nproblem: {kind: digits}\noptimizer: {kind: sgd, learning_rate: 0.05}\n"
    "workers: 2\nbudget: {passes: 2}\n",
    "seeds": [0, 1],
    "grid": {"rate.kind": ["constant", "balanced"]},
}


class DraftGiven(Given):
    """A submission, whether or not it can be run."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    project: Text | None = None
    """Its name. Left out: the oldest project that you may submit to."""
    name: Text = Field(default="", max_length=120)
    """Of the experiment. Left out: the spec's."""
    spec: dict[str, Any] | None = None
    """The spec as data (GET /specs/schema describes it). Either this or `yaml`."""
    yaml: str | None = None
    """The spec as YAML, of 256 KiB at most."""
    seeds: list[Any] = []
    """Whole numbers from 0: a run for each of them."""
    grid: dict[str, list[Any]] = {}
    """Dotted field → values to try: a run for each combination. `rate.kind` replaces the whole part."""

    def draft(self) -> Draft:
        return Draft(spec=self.spec, yaml=self.yaml, seeds=self.seeds, grid=self.grid, name=self.name)


class Slots(Shape):
    """Slots that the largest run would take, and what it would find."""

    needed: int
    """For a full gang, its server included."""
    least: int
    """To start at all."""
    idle: int
    total: int
    """Offered by all nodes, busy ones included."""
    wait: str
    """What would happen now, in a sentence."""


class Words(Shape):
    method: str
    problem: str
    trainers: str
    budget: str


class Checked(Shape):
    """What a draft comes to. What can't be known of a spec that is wrong is null."""

    valid: bool
    spec: dict[str, Any] | None
    """With every default written out."""
    yaml: str | None
    """Only what differs from the defaults."""
    errors: list[FieldProblem]
    runs: int
    """How many it makes."""
    slots: Slots | None
    words: Words | None


class PlanGiven(DraftGiven):
    """A draft whose machine groups are to be planned; of several runs, the first."""

    shards: Annotated[int, Field(strict=True, ge=2, le=64)] | None = None
    """Devices of a group. Left out: the spec's, or 2 where it has single devices."""
    measured: StrictBool = False
    """Whether some steps of both layouts are tried, on the machine that answers. That takes some seconds."""


class SideShape(Shape):
    """One layout. Bytes are what a device sends in a step."""

    last_layer_bytes: int
    other_bytes: int
    memory_bytes: int
    """What a device works on."""
    step_seconds: float | None
    """Null: it was not measured."""
    phases: dict[str, float]
    """Seconds of a step, of the slowest device."""


class PlanShape(Shape):
    devices: int
    images: int
    """Of the whole group's batch."""
    features: int
    """That the last layer takes of an image."""
    classes: int
    below: int
    """Parameters below the last layer."""
    hybrid: SideShape
    data_parallel: SideShape
    inequality: str
    """C against B·G, spelled out."""
    recommended: str
    reason: str


class PresetShape(Shape):
    slug: str
    title: str
    summary: str
    yaml: str
    spec: dict[str, Any]


@router.post(
    "/specs/check",
    response=Checked,
    auth=READING_ANYONE,
    operation_id="check_spec",
    summary="Check a draft",
    openapi_extra={"x-problems": [403, 404]},
)
def check(request: HttpRequest, body: DraftGiven) -> dict[str, Any]:
    """Say what submitting it would do, and everything that is wrong with it, field by field. Changes nothing."""
    user = asker(request)
    project = project_to_check(user, body.project)
    try:
        submission = understand(body.draft())
    except SpecError as error:
        return {
            "valid": False,
            "spec": None,
            "yaml": None,
            "errors": field_problems(error.findings),
            "runs": 0,
            "slots": None,
            "words": None,
        }
    specs = [cell.spec for cell in submission.cells]
    found = refusals(project, user, specs) if project else []
    return {"valid": not found, "errors": found, "slots": asdict(capacity.outlook(specs)), **told(submission)}


@router.post(
    "/specs/plan",
    response=PlanShape,
    auth=READING_ANYONE,
    operation_id="plan_spec",
    summary="Plan a draft's machine groups",
    openapi_extra={"x-problems": [403, 404, 409, 422]},
)
def plan(request: HttpRequest, body: PlanGiven) -> dict[str, Any]:
    """Say what both layouts of a group would move, hold and take, and which one to choose. Changes nothing.

    The problem has to be one of TrainHub's own: this process runs nobody else's code. `trainhub plan` plans any.
    """
    user = asker(request)
    project = project_to_check(user, body.project)
    spec = understand(body.draft()).spec
    if spec.problem.kind in ("installed", "python"):
        raise FieldError("problem.kind", "must be built in to be planned here; `trainhub plan` plans others in a shell")
    if project is not None:
        runs.check(project, user, [spec])
    data = Dataset.objects.filter(project=project, name=getattr(spec.problem, "dataset", None)).first()
    folder = Path(settings.HOME) / data.path if data else None
    try:
        with PLANS_AT_ONCE:
            return planning.plan(spec, shards=body.shards, measured=body.measured, data=folder)
    except planning.NoPlan as reason:
        raise NotPlanned(str(reason)) from None


def project_to_check(user: User, name: str | None) -> Project | None:
    """None: the user may submit to no project yet, and what a project would say to the draft is not known.

    Raises Http404 and PermissionDenied for a project that is named.
    """
    try:
        return access.project_for_change(user, name)
    except PermissionDenied:
        if name is not None:
            raise
        return None


def refusals(project: Project, user: User, specs: Sequence[RunSpec]) -> list[FieldProblem]:
    """What the project's rows and the user's rights say to it."""
    try:
        runs.check(project, user, specs)
    except FieldError as error:
        return [field_of(error)]
    return []


def told(submission: Submission) -> dict[str, Any]:
    spec = submission.spec.model_dump(mode="json")
    return {
        "spec": spec,
        "yaml": submission.spec.as_yaml(),
        "runs": len(submission.cells),
        "words": {
            "method": words.method(spec),
            "problem": words.problem(spec),
            "trainers": words.trainers(spec),
            "budget": words.budget(spec),
        },
    }


@router.get("/specs/schema", response=dict[str, Any], operation_id="get_spec_schema", summary="Read the spec's schema")
def schema(request: HttpRequest) -> dict[str, Any]:
    """The JSON schema of a spec, with every field's purpose, default and bounds."""
    return schema_of_specs()


@cache
def schema_of_specs() -> dict[str, Any]:
    return RunSpec.model_json_schema()


@router.get("/specs/presets", response=list[PresetShape], operation_id="list_presets", summary="List ready specs")
def list_presets(request: HttpRequest) -> list[dict[str, Any]]:
    """Specs that run as they are. The first is where to start."""
    return [asdict(each) for each in presets.presets()]
