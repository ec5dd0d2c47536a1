"""Machines, their slots, and the queue."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from trainhub import access, machines


@login_required
@require_safe
@vary_on_headers("HX-Request")
def list_nodes(request: HttpRequest) -> HttpResponseBase:
    """Everybody sees which slots are taken; whose runs have them, those who may see these runs and operators."""
    operator = access.is_operator(request.user)
    overview = machines.overview(access.visible_runs(request.user), names_all=operator)
    shown = {"overview": overview, "operator": operator}
    part = bool(getattr(request, "htmx", False))
    return render(request, "nodes/_nodes.html" if part else "nodes/list.html", shown)
