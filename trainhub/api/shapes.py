"""What schemas of requests and answers are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from django.http import HttpResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema

from trainhub.live.messages import encode
from workers.spec_values import storable


class Shape(BaseModel):
    """Of an answer."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


class Given(BaseModel):
    """Of a request. A misspelt field is refused, not ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


def _storable(text: str) -> str:
    if not storable(text):
        raise ValueError("has a character that can't be stored: zero, or half of a surrogate pair")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Number = float | str
"""JSON has no NaN and no infinities; they come as `NaN`, `Infinity` and `-Infinity`."""


class Reference(Shape):
    id: int
    name: str


def answer(body: Mapping[str, Any], status: int = 200) -> HttpResponse:
    """An answer that is built to its schema already; thousands of points are not checked one by one."""
    return HttpResponse(encode(dict(body)), status=status, content_type="application/json")
