"""The catalog: what a spec may choose from, and what each choice rests on."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router

from trainhub.api.shapes import Shape
from trainhub.listing import METHOD_PARTS
from workers import catalog

router = Router(tags=["Methods"])


class MethodShape(Shape):
    kind: str
    """What the spec calls it."""
    label: str
    source: str
    certainty: Literal["patent", "literature", "reconstruction", "plain"]
    """What its formula rests on."""
    page: str
    """Slug of the page that tells of it. Empty: none does."""


class RoomShape(Shape):
    """Choices of one kind."""

    field: str
    """The field of the spec they are for."""
    title: str
    entries: list[MethodShape]


@router.get("/methods", response=list[RoomShape], operation_id="list_methods", summary="List methods and problems")
def list_methods(request: HttpRequest) -> list[dict[str, Any]]:
    """What can be chosen, room by room."""
    return rooms()


@cache
def rooms() -> list[dict[str, Any]]:
    methods = [_room(_field(room), room.title, room.entries, room.page) for room in catalog.ROOMS]
    return [*methods, _room("problem", "Problems: what is trained", catalog.PROBLEMS, "")]


def _field(room: catalog.Room) -> str:
    return next(part for part, entries in METHOD_PARTS.items() if entries is room.entries)


def _room(field: str, title: str, entries: Any, page: str) -> dict[str, Any]:
    told = [
        {"kind": e.kind, "label": e.label, "source": e.source, "certainty": e.certainty, "page": e.page or page}
        for e in entries.values()
    ]
    return {"field": field, "title": title, "entries": told}
