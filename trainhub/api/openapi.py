"""The OpenAPI document: what the framework derives from the endpoints, and the refusals they share."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import responses
from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import REF_TEMPLATE

from trainhub.api.auth import SAFE
from trainhub.api.problems import CONTENT_TYPE, Problem

PREFIX = "/api/v1/"
MORE = "x-problems"
"""Where an operation says which refusals it has besides those that follow from its shape."""

Json = dict[str, Any]


def document(api: NinjaAPI) -> Json:
    """The whole document, ready for JSON."""
    told: Json = dict(api.get_openapi_schema(path_prefix=PREFIX))
    told.pop("servers", None)
    for path, operations in told["paths"].items():
        for verb, operation in operations.items():
            operation["responses"] = _responses(path, verb.upper(), operation)
    schema = Problem.model_json_schema(ref_template=REF_TEMPLATE)
    told["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
    return told


def _responses(path: str, verb: str, operation: Json) -> Json:
    own = {str(status): response for status, response in operation["responses"].items()}
    for status in _refusals(path, verb, operation):
        own.setdefault(str(status), _refusal(status))
    return dict(sorted(own.items()))


def _refusals(path: str, verb: str, operation: Json) -> Iterator[int]:
    """What may be answered to anybody's request of this shape."""
    yield from operation.pop(MORE, [])
    yield from (401, 500)
    if verb not in SAFE:
        yield 403  # a token that may only read, a cookie without its token against forgery
    if "{" in path:
        yield 404
    yield 422  # at least for a parameter that it does not know
    if "requestBody" in operation:
        yield from (400, 413)


def _refusal(status: int) -> Json:
    content = {CONTENT_TYPE: {"schema": {"$ref": REF_TEMPLATE.format(model="Problem")}}}
    return {"description": responses[status], "content": content}
