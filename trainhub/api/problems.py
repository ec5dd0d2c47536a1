"""What every endpoint does: who asks, which verbs, and errors as problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse

from trainhub.actions.errors import ActionError

View = Callable[..., HttpResponseBase]


class BadQueryError(ValueError):
    """A parameter of the address that can't be; the text names it and says what can."""


def problem(status: int, code: str, detail: str) -> JsonResponse:
    body = {"type": f"/docs/problems#{code}", "status": status, "code": code, "title": detail, "detail": detail}
    return JsonResponse(body, status=status, content_type="application/problem+json")


def endpoint(method: str) -> Callable[[View], View]:
    """Let people in who are signed in, by one verb."""

    def wrap(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method != method:
                refused = problem(405, "method-not-allowed", f"Use {method} here.")
                refused.headers["Allow"] = method
                return refused
            if not request.user.is_authenticated:
                return problem(401, "not-signed-in", "Sign in first.")
            try:
                response = view(request, *args, **kwargs)
            except Http404:
                return problem(404, "not-found", "There is nothing here, or you may not see it.")
            except PermissionDenied as error:
                return problem(403, "not-allowed", str(error) or "You may not do this.")
            except BadQueryError as error:
                return problem(400, "bad-query", str(error))
            except ActionError as error:
                return problem(error.status, error.code, error.message)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guarded

    return wrap


def whole_number(request: HttpRequest, name: str, *, least: int | None = None, most: int | None = None) -> int | None:
    """A parameter of the address as a number. None: it is not there. Raises BadQueryError."""
    text = request.GET.get(name)
    if text is None:
        return None
    bounds = "" if least is None else f" of at least {least}"
    bounds += "" if most is None else f"{' and' if bounds else ' of'} at most {most}"
    try:
        number = int(text)
    except ValueError:
        number = None
    if (
        number is None
        or abs(number) >= 2**63
        or (least is not None and number < least)
        or (most is not None and number > most)
    ):
        raise BadQueryError(f"{name} must be a whole number{bounds}, got {text[:40]!r}")
    return number
