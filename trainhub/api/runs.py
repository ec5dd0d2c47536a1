"""One run: what it is, what it measured, what happened, and what to do with it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from trainhub import access, charts, summary
from trainhub.actions import runs
from trainhub.api.problems import endpoint, whole_number
from trainhub.live.messages import encode, visible

MOST_ITEMS = 1000

ACTIONS = {
    "pause": runs.ask_to_pause,
    "resume": runs.resume,
    "cancel": runs.ask_to_cancel,
    "kill": runs.ask_to_kill,
}


def answer(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(encode(body), content_type="application/json")


@endpoint("GET")
def show(request: HttpRequest, run_id: int) -> HttpResponseBase:
    return JsonResponse(summary.read(access.run_to_see(request.user, run_id)))


@endpoint("GET")
def series(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Series, thinned to `points`. `sequence`: every batch up to it is in the answer; later ones may be."""
    run = access.run_to_see(request.user, run_id)
    question = charts.Question(
        keys=request.GET.getlist("key"),
        worker=whole_number(request, "worker"),
        attempt=whole_number(request, "attempt"),
        first=whole_number(request, "first"),
        last=whole_number(request, "last"),
        after=whole_number(request, "after"),
        points=whole_number(request, "points", least=10, most=charts.MOST_POINTS) or charts.POINTS,
    )
    body: dict[str, Any] = {"sequence": run.live_sequence, "series": []}
    body["series"] = [
        {
            "attempt": line.attempt,
            "worker": line.worker,
            "key": line.key,
            "count": line.count,
            "exact": line.exact,
            "x": line.x.tolist(),
            "y": visible(line.y.tolist()),
        }
        for line in charts.lines(run.pk, question)
    ]
    body["keys"] = charts.keys_of(run.pk)
    return answer(body)


@endpoint("GET")
def totals(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Sums and distributions of series over all of their points."""
    run = access.run_to_see(request.user, run_id)
    found = charts.totals(run.pk, request.GET.getlist("key"))
    body = {"sequence": run.live_sequence, "totals": [vars(total) for total in found]}
    return answer(body)


@endpoint("GET")
def events(request: HttpRequest, run_id: int) -> HttpResponseBase:
    run = access.run_to_see(request.user, run_id)
    most = whole_number(request, "limit", least=1, most=MOST_ITEMS) or summary.SNAPSHOT_EVENTS
    return JsonResponse({"events": summary.events_after(run.pk, whole_number(request, "after"), most)})


@endpoint("GET")
def log(request: HttpRequest, run_id: int) -> HttpResponseBase:
    run = access.run_to_see(request.user, run_id)
    most = whole_number(request, "limit", least=1, most=MOST_ITEMS) or summary.SNAPSHOT_LINES
    after, member = whole_number(request, "after"), whole_number(request, "member")
    return JsonResponse({"log": summary.lines_after(run.pk, after, most, member)})


@endpoint("POST")
def act(request: HttpRequest, run_id: int, action: str) -> HttpResponseBase:
    """202: it is asked for, and the run's state tells when it is done."""
    if action not in ACTIONS:
        raise Http404
    run = access.run_for_change(request.user, run_id)
    assert isinstance(request.user, User)
    ACTIONS[action](run, by=request.user)
    return JsonResponse(summary.read(access.run_to_see(request.user, run_id)), status=202)
