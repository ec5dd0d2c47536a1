"""REST under /api/v1/: programs' door to what the pages show and do.

Endpoints parse, authorise and delegate, one noun a file; `trainhub.actions` writes. Refusals are problem+json.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from ninja import NinjaAPI

from trainhub.api import (
    checkpoints,
    compare,
    datasets,
    experiments,
    me,
    methods,
    nodes,
    openapi,
    problems,
    reference,
    runs,
    series,
    specs,
    tokens,
)
from trainhub.api.addresses import guarded, without_unknown_parameters
from trainhub.api.auth import ANYONE
from trainhub.api.shapes import answer

DESCRIPTION = """Train neural networks asynchronously, and watch what asynchrony does to them.

Send `Authorization: Bearer th_…` with each request. Lists come in pages, newest first: send `next` as `cursor` for the
following one. Refusals are problem+json (RFC 9457) with a `code` to tell them apart and, where fields are to blame,
`errors` that name them. A parameter or a field that is not known is refused, not ignored."""

ROUTERS = (specs, experiments, runs, series, checkpoints, compare, nodes, datasets, methods, tokens, me)

api = NinjaAPI(title="TrainHub", version="1", description=DESCRIPTION, auth=ANYONE, openapi_url=None, docs_url=None)
problems.install(api)
api.add_decorator(without_unknown_parameters)
for module in ROUTERS:
    api.add_router("", module.router)


@api.get("/openapi.json", include_in_schema=False, url_name="api-openapi")
def openapi_json(request: HttpRequest) -> HttpResponse:
    return answer(document())


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of all operations."""
    return openapi.document(api)


urlpatterns = guarded([*api.urls[0], path("docs", partial(reference.show, document=document), name="api-docs")])
