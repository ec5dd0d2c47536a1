"""The API's reference as a page, made from its OpenAPI document on the server: no script, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

from trainhub.api.problems import CONTENT_TYPE, TITLES

Json = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body. `where`: path, query, header or body."""

    name: str
    type: str
    required: bool
    description: SafeString
    where: str = ""


@dataclass(frozen=True)
class Answer:
    status: str
    description: str
    type: str
    shape: str
    """Name of the schema to look up. Empty: it has none of its own."""


@dataclass(frozen=True)
class Operation:
    id: str
    verb: str
    path: str
    summary: str
    description: SafeString
    fields: list[Field]
    answers: list[Answer]
    refusals: list[str]
    """Statuses of problem+json."""
    curl: str


@dataclass(frozen=True)
class Section:
    title: str
    slug: str
    operations: list[Operation]


@dataclass(frozen=True)
class ShapeOf:
    """A schema by name."""

    name: str
    description: SafeString
    fields: list[Field]


@login_required
@require_safe
def show(request: HttpRequest, *, document: Callable[[], Json]) -> HttpResponse:
    """The reference page, for those who are signed in."""
    told = document()
    shown = {
        "sections": sections(told, request.build_absolute_uri("/").rstrip("/")),
        "shapes": list(shapes(told)),
        "codes": sorted(TITLES.items()),
        "origin": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "api/docs.html", shown)


def sections(document: Json, origin: str) -> list[Section]:
    """Operations by their tag, in the order of the document."""
    found: dict[str, list[Operation]] = {}
    for path, verbs in document["paths"].items():
        for verb, told in verbs.items():
            found.setdefault(told["tags"][0], []).append(_operation(document, path, verb.upper(), told, origin))
    return [Section(tag, tag.lower().replace(",", "").replace(" ", "-"), each) for tag, each in found.items()]


def shapes(document: Json) -> Iterator[ShapeOf]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema:
            yield ShapeOf(name, marked(schema.get("description", "")), list(_fields(schema, "")))


def _operation(document: Json, path: str, verb: str, told: Json, origin: str) -> Operation:
    parameters = [
        Field(p["name"], type_of(p["schema"]), p["required"], marked(p.get("description", "")), p["in"])
        for p in told["parameters"]
    ]
    content = told.get("requestBody", {}).get("content", {})
    body = [field for media in content.values() for field in _fields(_resolved(document, media["schema"]), "body")]
    return Operation(
        id=told["operationId"],
        verb=verb,
        path=path,
        summary=told["summary"],
        description=marked(told.get("description", "")),
        fields=parameters + body,
        answers=[_answer(status, each) for status, each in told["responses"].items() if not _refuses(each)],
        refusals=[status for status, each in told["responses"].items() if _refuses(each)],
        curl=_curl(verb, f"{origin}{path}", next(iter(content), ""), body),
    )


def _answer(status: str, response: Json) -> Answer:
    content = response.get("content", {})
    schemas = [media["schema"] for media in content.values()]
    shape = next((name for schema in schemas if (name := _name(schema))), "")
    kinds = [kind.removeprefix("application/") for kind in content]
    told = " or ".join(f"{type_of(schema)} ({kind})" for kind, schema in zip(kinds, schemas, strict=True))
    return Answer(status, response["description"], told or "nothing", shape)


def _refuses(response: Json) -> bool:
    return CONTENT_TYPE in response.get("content", {})


def _fields(schema: Json, where: str) -> Iterator[Field]:
    required = schema.get("required", [])
    for name, told in schema.get("properties", {}).items():
        yield Field(name, type_of(told), name in required, marked(told.get("description", "")), where)


def _resolved(document: Json, schema: Json) -> Json:
    name = _name(schema)
    found: Json = document["components"]["schemas"][name] if name else schema
    return found


def _name(schema: Json) -> str:
    """The schema that this one is, or is a list of. Empty: it is none by name."""
    inner = schema.get("items", schema)
    return str(inner.get("$ref", "")).rpartition("/")[2]


def type_of(schema: Json) -> str:
    """A schema in words: `list of integer`, `string or null`, `page of RunLine`."""
    if "$ref" in schema:
        name = _name(schema)
        return f"page of {name.removeprefix('Page_').rstrip('_')}" if name.startswith("Page_") else name
    if options := schema.get("anyOf") or schema.get("allOf"):
        return " or ".join(dict.fromkeys(type_of(each) for each in options))
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("format") or kind)


def marked(text: str) -> SafeString:
    """A description with what stands between backticks as code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def _curl(verb: str, address: str, content_type: str, body: list[Field]) -> str:
    parts = ["curl"] if verb == "GET" else ["curl", "-X", verb]
    parts += ["-H", '"Authorization: Bearer $TRAINHUB_TOKEN"']
    if content_type == "application/json":
        parts += ["-H", "'Content-Type: application/json'", "-d", "@body.json"]
    elif content_type:
        given = [
            f"-F {field.name}={'@data.zip' if field.type == 'binary' else '…'}" for field in body if field.required
        ]
        parts += given
    return " ".join([*parts, f"'{address}'"])
