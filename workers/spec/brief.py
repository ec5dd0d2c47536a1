"""A spec as a person would write it: what differs from the defaults, and every `kind`."""

from __future__ import annotations

from typing import Any

import yaml

from workers.spec.base import Part
from workers.spec.course import Workers


def brief(spec: Part) -> dict[str, Any]:
    """The shortest data that parse to the same spec, in the order of the schema with `kind` first."""
    told: dict[str, Any] = {}
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if name == "kind":
            told = {name: value, **told}
        elif field.is_required() or value != field.get_default(call_default_factory=True):
            told[name] = _plain(value)
    return told


def as_yaml(spec: Part) -> str:
    """The same as YAML, small parts in one line."""
    return yaml.safe_dump(brief(spec), sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def _plain(value: Any) -> Any:
    match value:
        case Workers() if value.min == value.max:
            return value.min
        case Part():
            return brief(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case _:
            return value
