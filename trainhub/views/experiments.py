"""The page of an experiment."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainhub import access, experiments

PAGE_RUNS = 200
LOOK_SECONDS = 3
MANY_RUNS = 1000
MANY_LOOK_SECONDS = 10
"""How often the page of an experiment of so many runs is made anew."""


@login_required
@require_safe
def show_experiment(request: HttpRequest, experiment_id: int) -> HttpResponseBase:
    """Its runs by their labels. htmx asks for the table alone, until the last run has ended."""
    experiment = access.experiment_to_see(request.user, experiment_id)
    overview = experiments.overview(experiment)
    # Runs that differ in their seed alone stay on one page.
    page = Paginator(overview.cells, max(1, PAGE_RUNS // max(1, overview.repeats))).get_page(request.GET.get("page"))
    shown = {
        "experiment": experiment,
        "overview": overview,
        "page": page,
        "groups": [overview.group(cell) for cell in page],
        "look_seconds": MANY_LOOK_SECONDS if overview.runs >= MANY_RUNS else LOOK_SECONDS,
    }
    part = bool(getattr(request, "htmx", False))
    return render(request, "experiments/_runs.html" if part else "experiments/experiment.html", shown)
