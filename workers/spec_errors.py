"""Turns pydantic's findings into sentences that name the field and what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a spec; `field` is a dotted path, empty for the whole."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class SpecError(ValueError):
    """A spec that can't be run, with everything found wrong with it."""

    code = "bad-spec"
    status = 422

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(f) for f in findings))
        self.findings = findings

    @classmethod
    def one(cls, field: str, message: str) -> SpecError:
        return cls([Finding(field, message)])


class Misfits(ValueError):
    """Parts that are right by themselves but not together. Raised by a validator of the whole."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("; ".join(str(f) for f in findings))
        self.findings = findings


def explain(error: ValidationError, data: object) -> list[Finding]:
    """Say what is wrong with `data`, field by field."""
    return [finding for each in error.errors() for finding in _findings(each, data)]


def _findings(error: ErrorDetails, data: object) -> list[Finding]:
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, Misfits):
        return raised.findings
    return [Finding(_path(error, data), _message(error))]


def _path(error: ErrorDetails, data: object) -> str:
    """The dotted path as people write it: without the union members that pydantic puts in between."""
    parts: list[str] = []
    node: Any = data
    tag_passed = False
    for part in error["loc"]:
        if isinstance(node, Mapping) and node.get("kind") == part and not tag_passed:
            tag_passed = True
            continue
        tag_passed = False
        node = _child(node, part)
        parts.append(str(part))
    if error["type"].startswith("union_tag"):
        parts.append("kind")
    return ".".join(parts)


def _child(node: Any, part: str | int) -> Any:
    try:
        return node[part]
    except (KeyError, IndexError, TypeError):
        return None


def _message(error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    value = error.get("input")
    match error["type"]:
        case "extra_forbidden":
            return "no such field; check its spelling"
        case "missing":
            return "is required"
        case "union_tag_not_found":
            return "is required: it says which one is meant"
        case "union_tag_invalid":
            return f"must be one of {_listed(context['expected_tags'])}, got {context['tag']!r}"
        case "literal_error":
            return f"must be {_listed(context['expected'])}, got {value!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping of fields, got {value!r}"
        case "value_error":
            return str(context["error"])
        case _:
            message = error["msg"].removeprefix("Input should be ").removeprefix("Input ")
            lead = "must be " if error["msg"].startswith("Input should be ") else ""
            shown = f", got {value!r}" if isinstance(value, str | int | float | bool | None) else ""
            return f"{lead}{message}{shown}"


def _listed(tags: str) -> str:
    return tags.replace("'", "")
