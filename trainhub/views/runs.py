"""The list of runs, and the page of one."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainhub import access, expectations, summary, words
from trainhub.models import Run
from trainhub.queries import lines_of, list_of
from workers import catalog, events

PAGE_RUNS = 50


@login_required
@require_safe
def list_runs(request: HttpRequest) -> HttpResponseBase:
    """Runs a person may see, newest first. htmx asks for the table alone, every few seconds."""
    page = Paginator(list_of(access.visible_runs(request.user)), PAGE_RUNS).get_page(request.GET.get("page"))
    shown = {"page": page, "rows": lines_of(list(page))}
    part = bool(getattr(request, "htmx", False))
    return render(request, "runs/_table.html" if part else "runs/list.html", shown)


@login_required
@require_safe
def show_run(request: HttpRequest, run_id: int) -> HttpResponseBase:
    run = access.run_to_see(request.user, run_id)
    return render(
        request,
        "runs/run.html",
        {
            "run": run,
            "summary": summary.read(run),
            "may_change": access.may_change(request.user, run),
            "metrics": known_metrics(run),
            "places": places(run),
            "siblings": run.experiment.runs.count(),
            "labels": words.labels(run.labels, run.experiment.axes),
        },
    )


def places(run: Run) -> dict[str, bool]:
    """Charts and words that only some runs have, by what they are for."""
    found = expectations.series(run)
    return {
        "context": events.CONTEXT in found,
        "scale": expectations.scales_differ(run.spec),
        "scale_sum": events.SCALE_SUM in found,
        "mean_delay": events.MEAN_DELAY in found,
        "dropped": events.DROPPED in found,
        "own_steps": events.DRIFT in found,
        "candidates": events.CANDIDATES in found,
        "deviations": events.BATCH_NORM_SHIFT in found,
        "no_barrier": run.spec.get("batch_norm", {}).get("kind") == "server",
    }


def known_metrics(run: Run) -> list[str]:
    """Metrics whose charts have a place from the start, so that nothing moves when their first points come."""
    found = {name for name in run.metrics if name not in {"loss", "version"}}
    return sorted(found | set(catalog.metrics_of(run.spec.get("problem", {}).get("kind", ""))))
