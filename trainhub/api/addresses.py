"""What holds for every address of the API, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.csrf import csrf_exempt

from trainhub.api import problems
from trainhub.api.problems import FieldProblem, Refusal

View = Callable[..., Any]


def guarded(patterns: Iterable[URLPattern | URLResolver]) -> list[URLPattern]:
    """The addresses with every refusal as problem+json, and one for all that lead nowhere."""
    views = [each for each in patterns if isinstance(each, URLPattern)]
    known = [URLPattern(each.pattern, _guard(each.callback), each.default_args, each.name) for each in views]
    return [*known, re_path(r"", csrf_exempt(nothing_here))]


def nothing_here(request: HttpRequest) -> HttpResponseBase:
    return problems.of_nothing(request, Http404())


def _guard(view: View) -> View:
    @csrf_exempt  # who asks, and whether a page of ours does, is found out by trainhub.api.auth
    @wraps(view)
    def look(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = view(request, *args, **kwargs)
        if isinstance(response, HttpResponseNotAllowed):
            response = problems.not_allowed(request, ", ".join(sorted(response.headers["Allow"].split(", "))))
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return look


def without_unknown_parameters(view: View) -> View:
    """A misspelt filter must not answer everything: refuse parameters that the operation does not have."""
    models = [m for m in view._ninja_operation.models if m.__ninja_param_source__ == "query"]  # type: ignore[attr-defined]
    known = {name for model in models for name in model.__ninja_flatten_map__}

    @wraps(view)
    def look(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if unknown := sorted(set(request.GET) - known):
            raise unknown_parameters(unknown, known)
        return view(request, *args, **kwargs)

    return look


def unknown_parameters(unknown: Iterable[str], known: Iterable[str]) -> Refusal:
    there_are = f"there are {', '.join(sorted(known))}" if known else "this operation has none"
    fields = [
        FieldProblem(field=name, pointer=f"/query/{name}", message=f"is no parameter; {there_are}") for name in unknown
    ]
    detail = "; ".join(f"{each.field} {each.message}" for each in fields)
    return Refusal(422, "bad-request", detail, fields=fields)
