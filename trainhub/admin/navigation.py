"""The side bar: what there is to look at, for whom."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from trainhub.admin.base import person

Item = dict[str, Any]


def sidebar(request: HttpRequest) -> list[Item]:
    return [
        _group(
            "Training",
            _item(request, "Monitoring", "admin:index", "monitoring", "view_run", exact=True),
            _item(request, "Queue", "admin-queue", "hourglass_empty", "view_run"),
            _row(request, "Runs", "run", "play_circle"),
            _row(request, "Experiments", "experiment", "science"),
            _row(request, "Data sets", "dataset", "database"),
        ),
        _group(
            "Machines",
            _row(request, "Nodes", "node", "dns"),
            _row(request, "Members", "member", "groups"),
            _row(request, "Events", "event", "event_note"),
            _row(request, "Log lines", "logline", "notes"),
        ),
        _group(
            "People",
            _row(request, "Users", "user", "person", app="auth"),
            _row(request, "Groups", "group", "group", app="auth"),
            _row(request, "Projects", "project", "folder"),
            _row(request, "Tokens", "token", "key"),
            _row(request, "Sign-in links", "signinlink", "link"),
            _row(request, "Audit", "auditentry", "history"),
        ),
    ]


def account(request: HttpRequest) -> list[Item]:
    """Links below a person's name."""
    if not request.user.is_authenticated:  # the sign-in page is built with the same frame
        return []
    links = [{"title": "All runs, as everybody sees them", "link": reverse("runs")}]
    if person(request).has_usable_password():
        links.append({"title": "Change password", "link": reverse("admin:password_change")})
    return links


def _group(title: str, *items: Item) -> Item:
    return {"title": title, "items": list(items)}


def _row(request: HttpRequest, title: str, model: str, icon: str, *, app: str = "trainhub") -> Item:
    return _item(request, title, f"admin:{app}_{model}_changelist", icon, f"view_{model}", app=app)


def _item(
    request: HttpRequest,
    title: str,
    name: str,
    icon: str,
    permission: str,
    *,
    app: str = "trainhub",
    exact: bool = False,
) -> Item:
    link = reverse(name)
    may = person(request).has_perm(f"{app}.{permission}")
    here = request.path == link if exact else request.path.startswith(link)
    return {
        "title": title,
        "icon": icon,
        "link": link,
        "active": lambda request: here,
        "permission": lambda request: may,
    }
