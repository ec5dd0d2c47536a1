"""The page of a new experiment. It only draws: what is submitted goes through the API."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainhub import access, form_schema
from trainhub.actions.runs import NAME_CHARACTERS
from trainhub.models import Dataset, Run
from trainhub.presets import Preset, preset, presets
from workers.spec import RunSpec

TAKES = ("all", "weights")

OPTIMIZERS = {
    "images": {"kind": "sgd", "learning_rate": 0.05},
    "table": {"kind": "sgd", "learning_rate": 0.05},
    "text": {"kind": "adamw", "learning_rate": 0.001},
}
"""What a first run on a data set of each kind steps with."""

Begun = dict[str, Any]


@login_required
@require_safe
def new_experiment(request: HttpRequest) -> HttpResponseBase:
    """The form, begun with a preset (`preset=`), a run's spec (`clone=`) or weights (`continue=`), or a data set."""
    projects = list(access.projects_of(request.user, to_change=True))
    begun = begin(request)
    shown = {
        "projects": projects,
        "watched": [] if projects else list(access.projects_of(request.user)),
        "sections": form_schema.tree(),
        "presets": [_card(each) for each in presets()],
        "begun": begun,
    }
    return render(request, "experiments/new.html", shown)


def begin(request: HttpRequest) -> Begun:
    """What the draft holds at first. Raises Http404 for what is not to be seen, and for no such preset."""
    wanted = request.GET
    if number := wanted.get("clone"):
        return _clone(_run(request, number))
    if number := wanted.get("continue"):
        return _continue(_run(request, number), wanted.get("version"), wanted.get("take", "weights"))
    if name := wanted.get("dataset"):
        return _train_on(_dataset(request, name, wanted.get("project")))
    found = preset(wanted["preset"]) if "preset" in wanted else presets()[0]
    if found is None:
        raise Http404
    return {"spec": found.spec, "from": found.slug}


def _run(request: HttpRequest, number: str) -> Run:
    return access.run_to_see(request.user, _whole(number))


def _clone(run: Run) -> Begun:
    return {"spec": run.spec, "project": run.experiment.project.name, "from": f"run {run.pk}, {run.name}"}


def _continue(run: Run, version: str | None, take: str) -> Begun:
    if take not in TAKES:
        raise Http404
    start = {"kind": "checkpoint", "run": run.pk, "take": take}
    if version is not None:
        start["version"] = _whole(version)
    name = f"{run.name[: NAME_CHARACTERS - len(' continued')]} continued"
    return _clone(run) | {"spec": run.spec | {"name": name, "start": start}, "unfolded": ["start"]}


def _dataset(request: HttpRequest, name: str, project: str | None) -> Dataset:
    found = access.visible_datasets(request.user).filter(name=name)
    dataset = (found.filter(project__name=project) if project else found).first()
    if dataset is None:
        raise Http404
    return dataset


def _train_on(dataset: Dataset) -> Begun:
    spec = RunSpec.model_validate(
        {
            "name": dataset.name,
            "problem": {"kind": dataset.kind, "dataset": dataset.name},
            "optimizer": OPTIMIZERS[dataset.kind],
            "workers": 2,
            "budget": {"passes": 10},
        }
    )
    return {"spec": spec.model_dump(mode="json"), "project": dataset.project.name, "from": f"data set {dataset.name}"}


def _whole(number: str) -> int:
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise Http404
    return int(number)


def _card(found: Preset) -> dict[str, Any]:
    return {"slug": found.slug, "title": found.title, "summary": found.summary, "spec": found.spec}
