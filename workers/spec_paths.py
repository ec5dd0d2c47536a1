"""Dotted paths into a spec: `optimizer.learning_rate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from workers.spec_errors import SpecError


def at(spec: object, path: str) -> Any:
    """What stands there. None: the spec has no such part."""
    node: object = spec
    for part in path.split("."):
        node = getattr(node, part, None)
    return node


def changed(data: Mapping[str, Any], changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The data with dotted fields replaced, one change after the other. Raises SpecError."""
    result = deepcopy(dict(data))
    for change in changes:
        for field, value in change.items():
            *parents, last = field.split(".")
            node = result
            for parent in parents:
                below = node.get(parent)
                if below is None:
                    below = node[parent] = {}
                if not isinstance(below, dict):
                    raise SpecError.one(field, f"can't be set: {parent} is {below!r}")
                node = below
            node[last] = deepcopy(value)
    return result
