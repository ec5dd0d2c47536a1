"""Data that people uploaded."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainhub import access, data_sheets
from trainhub.actions.datasets import users_of
from trainhub.intake import FORMATS, MOST_BYTES
from trainhub.models import Dataset

PAGE_DATASETS = 50
SHOWN_RUNS = 10
FORMAT_WORDS = {
    "auto": "Find out by the file",
    "npz": "NumPy arrays x and y (.npz)",
    "csv": "Table (.csv)",
    "parquet": "Table (.parquet)",
    "image-folder": "A folder for each class (.zip, .tar)",
    "idx": "IDX, as MNIST has it (.zip, .tar)",
    "cifar": "CIFAR's batches (.tar.gz)",
    "text": "Text (.txt)",
}


@login_required
@require_safe
def list_datasets(request: HttpRequest) -> HttpResponseBase:
    found = access.visible_datasets(request.user).order_by("-created_at", "-pk")
    page = Paginator(found, PAGE_DATASETS).get_page(request.GET.get("page"))
    uses = data_sheets.uses(list(page))
    shown = {
        "page": page,
        "rows": [(each, data_sheets.shape(each), uses[each.project_id, each.name]) for each in page],
        "projects": list(access.projects_of(request.user, to_change=True)),
        "formats": [(name, FORMAT_WORDS.get(name, name)) for name in FORMATS],
        "most_bytes": MOST_BYTES,
    }
    return render(request, "datasets/list.html", shown)


@login_required
@require_safe
def show_dataset(request: HttpRequest, dataset_id: int) -> HttpResponseBase:
    dataset = access.dataset_to_see(request.user, dataset_id)
    runs = users_of(dataset)
    shown = {
        "dataset": dataset,
        "sheet": data_sheets.sheet(dataset),
        "snippet": data_sheets.snippet(dataset),
        "may_change": access.projects_of(request.user, to_change=True).filter(pk=dataset.project_id).exists(),
        "runs": runs.order_by("-created_at", "-pk")[:SHOWN_RUNS],
        "used": runs.count(),
    }
    return render(request, "datasets/dataset.html", shown)


@login_required
@require_safe
def show_preview(request: HttpRequest, dataset_id: int) -> HttpResponseBase:
    """A sheet of some of its images. Raises Http404 where there is none."""
    try:
        sheet = preview_of(access.dataset_to_see(request.user, dataset_id)).read_bytes()
    except FileNotFoundError:
        raise Http404 from None
    # A data set never changes, but who may see it does.
    return HttpResponse(sheet, content_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def preview_of(dataset: Dataset) -> Path:
    return Path(settings.HOME) / dataset.path / data_sheets.PREVIEW
