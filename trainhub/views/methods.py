"""What can be chosen, what it rests on, and what to look for."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from trainhub import handbook
from workers import catalog

CERTAINTY = {
    "patent": "stated by the patent",
    "literature": "from the literature",
    "reconstruction": "our reconstruction",
    "plain": "",
}


@login_required
@require_safe
def list_methods(request: HttpRequest) -> HttpResponseBase:
    rooms = [(room.title, [_row(room, entry) for entry in room.entries.values()]) for room in catalog.ROOMS]
    return render(request, "methods/list.html", {"rooms": rooms})


@login_required
@require_safe
def show_method(request: HttpRequest, slug: str) -> HttpResponseBase:
    page = _page(slug)
    told = [
        _row(room, entry) | {"room": room.title.partition(":")[0]}
        for room in catalog.ROOMS
        for entry in room.entries.values()
        if room.page_of(entry) == slug
    ]
    return render(request, "methods/page.html", {"page": page, "entries": told})


@login_required
@require_safe
def download_spec(request: HttpRequest, slug: str) -> HttpResponseBase:
    """The method's ready spec, as a file."""
    page = _page(slug)
    headers = {"Content-Disposition": f'attachment; filename="{slug}.yaml"'}
    return HttpResponse(page.spec, content_type="application/yaml; charset=utf-8", headers=headers)


def _page(slug: str) -> handbook.Page:
    """Raises Http404."""
    page = handbook.page(slug)
    if page is None:
        raise Http404
    return page


def _row(room: catalog.Room, entry: catalog.Entry) -> dict[str, object]:
    return {
        "entry": entry,
        "certainty": CERTAINTY[entry.certainty],
        "page": handbook.page(room.page_of(entry)),
    }
