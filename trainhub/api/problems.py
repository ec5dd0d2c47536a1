"""Refusals as problem+json (RFC 9457): one shape and one vocabulary for every endpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from trainhub.actions.errors import ActionError, FieldError
from trainhub.api.shapes import Shape
from workers.spec_errors import Finding, SpecError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

TITLES = {
    "bad-request": "The request is not what this operation takes",
    "bad-spec": "The spec can't be run",
    "cannot-pause": "This run can't be paused",
    "csrf-failed": "The request lacks its token against forgery",
    "in-use": "Something still needs it",
    "key-reused": "The Idempotency-Key stands for another submission",
    "may-not-run-code": "You may not run code of your choice",
    "method-not-allowed": "This address does not take that verb",
    "no-checkpoint": "There is no such checkpoint to start from",
    "no-dataset": "There is no such data set",
    "not-allowed": "You may not do this",
    "not-found": "There is nothing here, or you may not see it",
    "not-signed-in": "Sign in, or send a valid token",
    "not-planned": "There is no plan of this",
    "not-simulated": "This can't be simulated",
    "refused": "This can't be done",
    "server-error": "Something went wrong on our side",
    "token-may-only-read": "This token may only read",
    "too-large": "The request is too large",
    "wrong-dataset": "The data set can't be",
    "wrong-experiment": "The experiment can't be",
    "wrong-key": "The Idempotency-Key can't be",
    "wrong-state": "The state forbids it",
    "wrong-token": "The token can't be",
}
"""Code → what such a problem is, in general. `detail` says what it is in particular."""

ABOUT_A_SPEC = {"bad-spec", "no-checkpoint", "no-dataset", "not-simulated", "may-not-run-code"}
"""Codes whose fields are fields of the spec."""


class FieldProblem(Shape):
    """One thing wrong with what was sent."""

    field: str
    """Dotted path, empty for the whole: `workers.min`, `grid.optimizer.learning_rate`."""
    pointer: str
    """Where it is in the request's body, as a JSON pointer; `/query/…` and `/header/…` for what is not in the body."""
    message: str


class Problem(Shape):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = []
    """Field by field, where fields are to blame; left out elsewhere."""


class Refusal(Exception):
    """What an endpoint itself refuses, before any action is asked."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        fields: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.fields = fields
        self.headers = headers


def document(status: int, code: str, detail: str, fields: Iterable[FieldProblem] = ()) -> dict[str, Any]:
    told = {"type": f"/api/v1/docs#{code}", "title": TITLES[code], "status": status, "detail": detail, "code": code}
    listed = [field.model_dump() for field in fields]
    return told | {"errors": listed} if listed else told


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    fields: Iterable[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    body = json.dumps(document(status, code, detail, fields))
    return HttpResponse(body, status=status, content_type=CONTENT_TYPE, headers=dict(headers or {}))


def field_problems(findings: Iterable[Finding]) -> list[FieldProblem]:
    """What is wrong with a submission, each with its place in the request."""
    return [FieldProblem(field=f.field, pointer=pointer(f.field), message=f.message) for f in findings]


def pointer(field: str) -> str:
    """Where a field of a submission stands in its body. It is the same for a spec and for its YAML."""
    if field == "seeds" or field.startswith("seeds."):
        return _pointer(field.split("."))
    if field == "grid" or field.startswith("grid."):
        return _pointer(["grid", *([path] if (path := field.partition(".")[2]) else [])])
    return _pointer(["spec", *(field.split(".") if field not in {"", "spec"} else [])])


def _pointer(parts: Iterable[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


# Exceptions


def of_refusal(request: HttpRequest, error: Refusal) -> HttpResponse:
    return problem(error.status, error.code, error.detail, fields=error.fields, headers=error.headers)


def of_spec(request: HttpRequest, error: SpecError) -> HttpResponse:
    detail = "; ".join(str(finding) for finding in error.findings)
    return problem(error.status, error.code, detail, fields=field_problems(error.findings))


def of_action(request: HttpRequest, error: ActionError) -> HttpResponse:
    fields = [field_of(error)] if isinstance(error, FieldError) else []
    return problem(error.status, error.code, error.message, fields=fields)


def field_of(error: FieldError) -> FieldProblem:
    where = pointer(error.field) if error.code in ABOUT_A_SPEC else _pointer(error.field.split("."))
    if error.code == "wrong-key":
        where = _pointer(["header", error.field])
    return FieldProblem(field=error.field, pointer=where, message=error.reason)


def of_validation(request: HttpRequest, error: ValidationError) -> HttpResponse:
    fields = [_field_of_request(each) for each in error.errors]
    detail = "; ".join(f"{each.field} {each.message}".strip() for each in fields)
    return problem(422, "bad-request", detail, fields=fields)


def _field_of_request(error: dict[str, Any]) -> FieldProblem:
    source, *path = error["loc"]
    if path and path[0] in {"body", "asked"}:  # by these names endpoints take what has many fields
        path = path[1:]
    where = path if source in {"body", "form", "file"} else [source, *path]
    return FieldProblem(field=".".join(str(part) for part in path), pointer=_pointer(where), message=_words(error))


def _words(error: dict[str, Any]) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is no such field; check its spelling"
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return "must be a whole number"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "enum" | "literal_error":
            return f"must be {context['expected']}".replace("'", "")
        case "value_error":
            return str(context["error"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a mapping"
        case _:
            return str(error["msg"]).replace("Input should", "must", 1)


def of_http(request: HttpRequest, error: HttpError) -> HttpResponse:
    """What the framework refuses by itself: bodies that can't be read."""
    return problem(error.status_code, "bad-request", error.message)


def of_nobody(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    headers = {"WWW-Authenticate": 'Bearer realm="TrainHub"'}
    return problem(401, "not-signed-in", "Sign in, or send a token: Authorization: Bearer th_…", headers=headers)


def of_nothing(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem(404, "not-found", "There is nothing here, or you may not see it.")


def of_permission(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return problem(403, "not-allowed", str(error) or "You may not do this.")


def of_size(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problem(413, "too-large", "The body of the request is too large.")


def of_garbage(request: HttpRequest, error: Exception) -> HttpResponse:
    return problem(400, "bad-request", "The request can't be read.")


def of_surprise(request: HttpRequest, error: Exception) -> HttpResponse:
    """Whoever asked learns that it failed; why is for the log."""
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(500, "server-error", "The server failed to answer this. It has been written to its log.")


def not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    detail = f"{request.method} does nothing here; use {allowed}."
    return problem(405, "method-not-allowed", detail, headers={"Allow": allowed})


HANDLERS: tuple[tuple[type[Exception], Any], ...] = (
    (Refusal, of_refusal),
    (SpecError, of_spec),
    (ActionError, of_action),
    (ValidationError, of_validation),
    (AuthenticationError, of_nobody),
    (HttpError, of_http),
    (Http404, of_nothing),
    (PermissionDenied, of_permission),
    (RequestDataTooBig, of_size),
    (SuspiciousOperation, of_garbage),
    (MultiPartParserError, of_garbage),
    (BadRequest, of_garbage),
    (Exception, of_surprise),
)


def install(api: NinjaAPI) -> None:
    for kind, handler in HANDLERS:
        api.add_exception_handler(kind, handler)
