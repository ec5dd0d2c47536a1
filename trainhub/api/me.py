"""Who asks."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from trainhub import access
from trainhub.api.auth import asker
from trainhub.api.shapes import Shape
from trainhub.models import Membership, Role

router = Router(tags=["Me"])


class ProjectRole(Shape):
    name: str
    role: Role


class Me(Shape):
    username: str
    is_admin: bool
    """Sees and may change everything."""
    is_operator: bool
    """Keeps the installation: drains nodes."""
    may_run_code: bool
    """Whether specs may name code by its import path."""
    projects: list[ProjectRole]
    """By name. An administrator has them all."""


@router.get("/me", response=Me, operation_id="get_me", summary="Read who you are")
def show(request: HttpRequest) -> dict[str, Any]:
    """Whom the token or the session speaks for, and where they may do what."""
    user = asker(request)
    roles = dict(Membership.objects.filter(user=user).values_list("project", "role"))
    projects = access.projects_of(user)
    return {
        "username": user.get_username(),
        "is_admin": user.is_superuser,
        "is_operator": access.is_operator(user),
        "may_run_code": access.may_run_code(user),
        "projects": [{"name": p.name, "role": Role.ADMIN if user.is_superuser else roles[p.pk]} for p in projects],
    }
