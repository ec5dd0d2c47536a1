"""Runs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from trainhub import access, comparison, words
from trainhub.comparison import LEAST_RUNS, MOST_RUNS, Comparison, Group, Mean, Result
from trainhub.models import Experiment, Run

LOOK_SECONDS = 5
"""How often the results of runs that go on are made anew."""
MOST_ASKED = 1000


@dataclass(frozen=True)
class Column:
    """`form` puts a value into words, `spread` how far values are apart."""

    key: str
    title: str
    unit: str
    form: Callable[[float], str]
    spread: Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """A run in the table of results. `mark`: its number in the charts, which gives it its colour and dashes."""

    run: Run
    name: str
    mark: int
    seed: str
    """Empty where the name tells it."""
    counted: bool
    """Whether the means have it."""
    cells: list[str]


@dataclass(frozen=True)
class Block:
    """Runs that differ in their seed alone. `means` is empty for a run of its own."""

    lines: list[Line]
    title: str
    means: list[tuple[str, str]]


@login_required
@require_safe
@vary_on_headers("HX-Request")
def show_comparison(request: HttpRequest) -> HttpResponseBase:
    """2 to 12 runs, `?run=1&run=2`, or those of an experiment, `?experiment=3`. htmx asks for the results alone."""
    experiment = experiment_asked_for(request)
    runs = comparison.of_experiment(experiment) if experiment else runs_asked_for(request)
    shown: dict[str, Any] = {"experiment": experiment, "least": LEAST_RUNS, "most": MOST_RUNS, "given": len(runs)}
    if not LEAST_RUNS <= len(runs) <= MOST_RUNS:
        return render(request, "compare/choose.html", shown, status=400 if len(runs) > MOST_RUNS else 200)
    compared = comparison.compare(runs)
    columns = columns_of(compared)
    shown |= {
        "comparison": compared,
        "columns": columns,
        "blocks": list(blocks(compared, columns)),
        "live": not all(run.has_ended for run in compared.runs),
        "look_seconds": LOOK_SECONDS,
    }
    if getattr(request, "htmx", False):
        return render(request, "compare/_results.html", shown)
    shown |= {"drawn": drawn(compared), "names": names(compared.runs)}
    if experiment:
        shown["left_out"] = experiment.runs.count() - len(runs)
    return render(request, "compare/page.html", shown)


@login_required
@require_safe
def show_courses(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Lines of one run for the charts: what the series API has no means of."""
    found = comparison.courses(access.run_to_see(request.user, run_id))
    body = {key: asdict(course) for key, course in found.items()}
    return JsonResponse(body, headers={"Cache-Control": "no-store"})


def experiment_asked_for(request: HttpRequest) -> Experiment | None:
    """Raises Http404 for one the user may not see."""
    given = request.GET.get("experiment")
    return access.experiment_to_see(request.user, number(given)) if given is not None else None


def runs_asked_for(request: HttpRequest) -> list[Run]:
    """The runs of the address, each once. Raises Http404 if there is one among them that the user may not see."""
    asked = list(dict.fromkeys(number(text) for text in request.GET.getlist("run")[:MOST_ASKED]))
    seen = access.visible_runs(request.user).in_bulk(asked)
    if len(seen) < len(asked):
        raise Http404
    return [seen[run_id] for run_id in asked]


def number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Http404
    return int(text)


def columns_of(compared: Comparison) -> list[Column]:
    columns = [Column(name, words.spelt(name).capitalize(), "", short, two) for name in compared.metrics]
    columns += [
        Column("version", "Version", "", whole, whole),
        Column("updates_per_second", "Speed", "updates/s", three, two),
        Column("seconds", "Time", "", words.duration, words.duration),
    ]
    if any(run.is_simulated for run in compared.runs):
        columns.append(Column("virtual_seconds", "Virtual time", "", words.duration, words.duration))
    return [*columns, Column("mean_staleness", "Mean staleness", "versions", three, two)]


def blocks(compared: Comparison, columns: Sequence[Column]) -> Iterator[Block]:
    told = dict(zip((run.pk for run in compared.runs), names(compared.runs), strict=True))
    runs = {run.pk: run for run in compared.runs}
    results = {result.run: result for result in compared.results}
    marks = {run.pk: mark for mark, run in enumerate(compared.runs)}
    for group in compared.groups:
        repeated = len(group.runs) > 1
        lines = [
            Line(
                run=runs[pk],
                name=told[pk],
                mark=marks[pk],
                seed="" if not repeated or f"seed {number}" in told[pk] else f"seed {number}",
                counted=results[pk].completed or not repeated,
                cells=[cell(column, results[pk]) for column in columns],
            )
            for pk, number in zip(group.runs, group.seeds, strict=True)
        ]
        means = [mean(column, group.means.get(column.key)) for column in columns] if repeated else []
        yield Block(lines, title(group), means)


def title(group: Group) -> str:
    """`Mean ± sd of 2 seeds; 1 run has not completed`."""
    left = len(group.runs) - group.completed
    told = f"Mean ± sd of {group.completed} seed{'' if group.completed == 1 else 's'}"
    if left:
        told += f"; {left} run{' has' if left == 1 else 's have'} not completed"
    return told


def cell(column: Column, result: Result) -> str:
    value = result.metrics.get(column.key, getattr(result, column.key, None))
    return column.form(value) if value is not None else "–"


def mean(column: Column, found: Mean | None) -> tuple[str, str]:
    """The mean, and how far seeds are apart. Empty: there is nothing to tell."""
    if found is None or found.mean is None:
        return "–", ""
    return column.form(found.mean), f"± {column.spread(found.deviation)}" if found.deviation is not None else ""


def short(value: float) -> str:
    return f"{value:.4g}"


def three(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def two(value: float) -> str:
    """A deviation: more digits than these would be made up."""
    return f"{value:.2g}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def names(runs: Sequence[Run]) -> list[str]:
    """What to call each run: its name, and where others are called the same its labels, its seed or its number.

    Runs of one experiment go by their labels alone: its name, which they share, says nothing.
    """
    told = [labels(run) for run in runs]
    of_one = len({run.experiment_id for run in runs}) == 1 and all(told)
    found = told if of_one else [run.name for run in runs]
    for tell in (seed, run_number) if of_one else (labels, seed, run_number):
        counted = Counter(found)
        found = [
            f"{name} · {tell(run)}" if counted[name] > 1 and tell(run) else name
            for run, name in zip(runs, found, strict=True)
        ]
    return found


def labels(run: Run) -> str:
    return words.labels(run.labels, run.experiment.axes)


def seed(run: Run) -> str:
    return "" if "seed" in run.labels else f"seed {run.spec.get('seed', 0)}"


def run_number(run: Run) -> str:
    return f"run {run.pk}"


def drawn(compared: Comparison) -> dict[str, Any]:
    """What the charts need to know."""
    return {
        "metrics": [name for name in compared.metrics if name != "loss"],
        "runs": [
            {
                "id": run.pk,
                "name": name,
                "url": run.get_absolute_url(),
                "series": reverse("api-series", args=[run.pk]),
                "means": reverse("compare-courses", args=[run.pk]),
                "summary": reverse("api-run", args=[run.pk]),
                "simulated": run.is_simulated,
                "ended": run.has_ended,
            }
            for run, name in zip(compared.runs, names(compared.runs), strict=True)
        ],
    }
