"""What a spec may be made of: plain data that every store and every language can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workers.spec_errors import Finding, SpecError

MOST_DEPTH = 40
MOST_VALUES = 50_000
"""Aliases let a few lines of YAML stand for billions of values."""
MOST_INTEGER = 2**63
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")


def check_plain(data: object) -> None:
    """Raises SpecError for what JSON can't say or PostgreSQL can't store, whatever field it is in."""
    for counted, (path, value) in enumerate(_values(data, "", 0)):
        if counted >= MOST_VALUES:
            raise SpecError.one("", f"a spec may have {MOST_VALUES:,} values at most")
        if refusal := _refusal(value):
            raise SpecError([Finding(path, refusal)])


def _values(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MOST_DEPTH:
        raise SpecError.one("", f"a spec may be nested {MOST_DEPTH} levels deep at most")
    yield path, value
    match value:
        case Mapping():
            for key, below in value.items():
                yield path, key if isinstance(key, str) else _Key(key)
                yield from _values(below, f"{path}.{key}" if path else str(key), depth + 1)
        case list() | tuple():
            for index, below in enumerate(value):
                yield from _values(below, f"{path}.{index}" if path else str(index), depth + 1)


class _Key:
    """A key that is no text."""

    def __init__(self, key: object) -> None:
        self.key = key


def _refusal(value: object) -> str:
    match value:
        case str() if not storable(value):
            return "has a character that can't be stored: zero, or half of a surrogate pair"
        case bool():
            return ""
        case int() if not -MOST_INTEGER <= value < MOST_INTEGER:
            return "is too large a number"
        case float() if not math.isfinite(value):
            return f"must be a finite number, got {value}"
        case _Key():
            return f"has a key that is no text: {value.key!r:.40}"
        case bytes() | set() | frozenset():
            return f"must be plain data, got {type(value).__name__}"
        case _ if type(value).__module__ == "datetime":
            return f"must be plain data, got a {type(value).__name__}; put it in quotes"
    return ""


def storable(text: str) -> bool:
    """Whether PostgreSQL takes it as a text: it has neither a zero character nor half of a surrogate pair."""
    return not UNSTORABLE.search(text)
