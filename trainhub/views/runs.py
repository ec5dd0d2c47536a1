"""The list of runs, and the page of one."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Page, Paginator
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from trainhub import access, expectations, listing, summary, words
from trainhub.comparison import MOST_RUNS
from trainhub.models import Run, RunState
from workers import catalog, events

PAGE_RUNS = 50


@login_required
@require_safe
@vary_on_headers("HX-Request")
def list_runs(request: HttpRequest) -> HttpResponseBase:
    """Runs a person may see, as the address filters and sorts them. htmx asks for the rows alone, every few seconds."""
    runs = access.visible_runs(request.user)
    filters = listing.Filters.parse(request.GET)
    found = listing.listed(runs, filters, me=request.user.get_username())
    page = Paginator(found, PAGE_RUNS).get_page(request.GET.get("page"))
    shown = {"page": page, "filters": filters, "rows": listing.rows(list(page))}
    shown |= pages_around(page, filters)
    if getattr(request, "htmx", False):
        return render(request, "runs/_table.html", shown)
    shown |= {
        "choices": listing.choices(runs),
        "states": RunState,
        "sorts": listing.SORTS,
        "wanted_methods": filters.method or ("",),
        "most": MOST_RUNS,
    }
    return render(request, "runs/list.html", shown)


def pages_around(page: Page[Run], filters: listing.Filters) -> dict[str, str]:
    """Addresses of the pages before and behind, where there are such."""
    found = {}
    if page.has_previous():
        found["newer"] = filters.address(page.previous_page_number())
    if page.has_next():
        found["older"] = filters.address(page.next_page_number())
    return found


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
            "may_submit": access.projects_of(request.user, to_change=True).exists(),
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
        "groups": expectations.in_groups(run.spec),
        "no_barrier": run.spec.get("batch_norm", {}).get("kind") == "server",
    }


def known_metrics(run: Run) -> list[str]:
    """Metrics whose charts have a place from the start, so that nothing moves when their first points come."""
    found = {name for name in run.metrics if name not in {"loss", "version"}}
    return sorted(found | set(catalog.metrics_of(run.spec.get("problem", {}).get("kind", ""))))
