"""Lists in pages, newest first. A page begins behind the last row of the one before, so rows that come move nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from pydantic import Field

from trainhub.api.problems import FieldProblem, Refusal
from trainhub.api.shapes import Given, Shape, Text

MOST_ITEMS = 200
ITEMS = 50
MOST_SEARCH = 500
"""Characters to search for: each word is another condition on every row."""

Row = TypeVar("Row", bound=Model)
Item = TypeVar("Item")


class Page(Shape, Generic[Item]):
    """A part of a list, newest first."""

    items: list[Item]
    next: str | None
    """What to send as `cursor` for the next page. None: this is the last one."""


class Asked(Given):
    """Which page of a list."""

    cursor: Text | None = Field(default=None, max_length=200)
    """The `next` of the page before. Left out: the first page."""
    limit: int = Field(default=ITEMS, ge=1, le=MOST_ITEMS)
    """Rows on a page, at most."""


def page(rows: QuerySet[Row], asked: Asked, tell: Callable[[Sequence[Row]], list[dict[str, Any]]]) -> dict[str, Any]:
    """One page of the rows, told all at once. Raises Refusal for a cursor that is none of this list."""
    kind = rows.model.__name__
    ordered = rows.order_by("-pk")
    if asked.cursor is not None:
        ordered = ordered.filter(pk__lt=_opened(kind, asked.cursor))
    found = list(ordered[: asked.limit + 1])
    more = len(found) > asked.limit
    found = found[: asked.limit]
    return {"items": tell(found), "next": _sealed(kind, found[-1].pk) if more else None}


def _sealed(kind: str, last: int) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{last}".encode()).decode().rstrip("=")


def _opened(kind: str, cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        found, _, last = text.partition(":")
        number = int(last)
    except (binascii.Error, ValueError):
        found, number = "", 0
    if found != kind or not 0 < number < 2**63:
        message = "is not of this list; take it from `next` of the page before"
        fields = [FieldProblem(field="cursor", pointer="/query/cursor", message=message)]
        raise Refusal(422, "bad-request", f"cursor {message}", fields=fields)
    return number
