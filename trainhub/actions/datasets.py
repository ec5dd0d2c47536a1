"""Data sets: added when they are ready, dropped when nobody needs them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from trainhub.actions import audit
from trainhub.actions.errors import InUse, WrongDataset
from trainhub.models import Dataset, Project, Run, RunState

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,79}\Z")


@dataclass(frozen=True)
class Prepared:
    """A data set on disk. `path` is its folder below the home."""

    kind: str
    format: str
    examples: int
    info: dict[str, Any]
    path: str
    sha256: str
    size_bytes: int


def check_name(project: Project, name: str) -> None:
    """Raises WrongDataset where the name can't be, or is taken."""
    if not NAME.match(name):
        raise WrongDataset(
            "name", f"must be 1 to 80 letters, digits, dots, dashes or underscores, and begin with one, got {name!r}"
        )
    if Dataset.objects.filter(project=project, name=name).exists():
        raise WrongDataset("name", f"project {project.name} has a data set {name} already; take another name")


def add(*, project: Project, owner: User, name: str, prepared: Prepared) -> Dataset:
    """Write the row of a data set whose files are complete. Raises WrongDataset."""
    check_name(project, name)
    try:
        with transaction.atomic():
            made = Dataset.objects.create(project=project, owner=owner, name=name, **vars(prepared))
            message = f"Uploaded data set {name}: {made.examples:,} examples"
            audit.record(owner, "upload", "dataset", message, subject_id=made.pk, project=project)
    except IntegrityError:  # somebody was faster
        check_name(project, name)
        raise
    return made


@transaction.atomic
def delete(dataset: Dataset, *, by: User) -> None:
    """Drop the row. The caller removes the files after the commit. Raises InUse."""
    locked = Dataset.objects.select_for_update().get(pk=dataset.pk)
    using = users_of(locked).exclude(state__in=RunState.ended()).order_by("pk").first()
    if using is not None:
        raise InUse(f"run {using.pk} ({using.state}) trains on {locked.name}; end it first")
    audit.record(
        by, "delete", "dataset", f"Deleted data set {locked.name}", subject_id=locked.pk, project=locked.project
    )
    locked.delete()


def users_of(dataset: Dataset) -> QuerySet[Run]:
    """Runs whose problem names it."""
    return Run.objects.filter(experiment__project=dataset.project_id, spec__problem__dataset=dataset.name)
