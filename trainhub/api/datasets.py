"""Data sets: uploaded, listed, dropped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import File, Form, Query, Router, UploadedFile
from ninja.responses import Status
from pydantic import Field

from trainhub import access, intake, summary
from trainhub.actions.errors import WrongDataset
from trainhub.api.auth import asker
from trainhub.api.pages import Asked, Page, page
from trainhub.api.shapes import Given, Moment, Shape, Text
from trainhub.models import Dataset

router = Router(tags=["Data sets"])


class DatasetsAsked(Asked):
    """Which data sets."""

    project: Text = ""
    """Name of the project."""
    kind: Literal["images", "table", "text"] | None = None
    """The kind of problem that takes it."""


class UploadGiven(Given):
    """What to make of an uploaded file."""

    name: Text
    """Unique in its project; specs name it."""
    project: Text | None = None
    """Left out: the oldest that you may change."""
    format: Text = Field(default="auto", json_schema_extra={"enum": list(intake.FORMATS)})
    """What the file is. `auto` finds out by its name and its beginning."""
    options: Text = "{}"
    """A JSON object of what its format wants to know, such as {"target": "species"}."""


class DatasetShape(Shape):
    """Data that a project's runs can train on. It never changes."""

    id: int
    name: str
    project: str
    owner: str
    kind: str
    """The kind of problem that takes it."""
    format: str
    """What the uploaded file was."""
    sha256: str
    """Of the uploaded file."""
    size_bytes: int
    examples: int
    info: dict[str, Any]
    """Shapes, classes, columns: what its preparation found."""
    created_at: Moment | None


@router.get(
    "/datasets",
    response=Page[DatasetShape],
    operation_id="list_datasets",
    summary="List data sets",
    url_name="api-datasets",
)
def list_datasets(request: HttpRequest, asked: Query[DatasetsAsked]) -> dict[str, Any]:
    """Data sets of your projects, newest first."""
    found = access.visible_datasets(request.user)
    if asked.project:
        found = found.filter(project__name=asked.project)
    if asked.kind:
        found = found.filter(kind=asked.kind)
    return page(found, asked, lines)


@router.post(
    "/datasets",
    response={201: DatasetShape},
    operation_id="upload_dataset",
    summary="Upload a data set",
    openapi_extra={"x-problems": [403, 404, 413]},
)
def upload(
    request: HttpRequest,
    response: HttpResponse,
    file: Annotated[UploadedFile, File(description="npz, csv, parquet, a zip of folders of images, idx, cifar, text")],
    body: Form[UploadGiven],
) -> Status[dict[str, Any]]:
    """Send a file as multipart/form-data; the answer comes when it is read and ready to train on."""
    user = asker(request)
    made = intake.add(
        project=access.project_for_change(user, body.project or None),
        owner=user,
        name=body.name,
        upload=file.chunks(),
        file_name=file.name or "",
        file_format=body.format or "auto",
        options=understood(body.options),
    )
    response["Location"] = f"/api/v1/datasets/{made.pk}"
    return Status(201, lines([made])[0])


def understood(options: str) -> dict[str, Any]:
    """Raises WrongDataset for what is no JSON object."""
    try:
        found = json.loads(options or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WrongDataset("options", 'must be a JSON object, such as {"target": "species"}')
    return found


@router.get("/datasets/{int:dataset_id}", response=DatasetShape, operation_id="get_dataset", summary="Read a data set")
def show(request: HttpRequest, dataset_id: int) -> dict[str, Any]:
    """What it is and what is in it."""
    return lines([access.dataset_to_see(request.user, dataset_id)])[0]


@router.delete(
    "/datasets/{int:dataset_id}",
    response={204: None},
    operation_id="delete_dataset",
    summary="Delete a data set",
    openapi_extra={"x-problems": [409]},
)
def delete(request: HttpRequest, dataset_id: int) -> Status[None]:
    """Its files go too. 409: a run that has not ended trains on it."""
    intake.remove(access.dataset_for_change(request.user, dataset_id), by=asker(request))
    return Status(204, None)


def lines(found: Sequence[Dataset]) -> list[dict[str, Any]]:
    """Data sets that were read with their projects and owners."""
    return [_line(dataset) for dataset in found]


def _line(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": dataset.pk,
        "name": dataset.name,
        "project": dataset.project.name,
        "owner": dataset.owner.get_username(),
        "kind": dataset.kind,
        "format": dataset.format,
        "sha256": dataset.sha256,
        "size_bytes": dataset.size_bytes,
        "examples": dataset.examples,
        "info": dataset.info,
        "created_at": summary.moment(dataset.created_at),
    }
