"""The monitoring page: the admin's first page, and the part of it that is read again every few seconds."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from trainhub import monitoring
from trainhub.admin.base import person

MAY_WATCH = ("trainhub.view_run", "trainhub.view_node", "trainhub.view_auditentry")


def may_watch(request: HttpRequest) -> bool:
    """The page shows runs, nodes and audit entries, to whoever may look at all three."""
    return person(request).has_perms(MAY_WATCH)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What unfold's first page gets besides its own."""
    context["title"] = "Monitoring"
    context["may_watch"] = may_watch(request)
    if context["may_watch"]:
        context |= shown()
    return context


@require_safe
@never_cache
def show_monitoring(request: HttpRequest) -> HttpResponseBase:
    """The changing part alone for the page's script; whoever comes by the address gets the whole page."""
    if not may_watch(request):
        raise PermissionDenied
    if request.headers.get("X-TrainHub-Part") != "board":
        return redirect("admin:index")
    answer: HttpResponse = render(request, "admin/trainhub/_board.html", shown())
    return answer


def shown() -> dict[str, Any]:
    board = monitoring.board()
    return {"board": board, "waits": monitoring.waits(board.queue), "stalled_seconds": monitoring.STALLED_SECONDS}
