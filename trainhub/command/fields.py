"""Fields and their values as people write them behind an option: `rate.kind=constant,balanced`, `0-4`."""

from __future__ import annotations

import re
from typing import Any

import yaml

from trainhub.command.errors import USAGE, CommandError

SEEDS = re.compile(r"(\d+)(?:-(\d+))?")
FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
MOST_SEEDS = 200


def seeds(text: str) -> list[int]:
    """`0-4` and `0,1,2` as numbers. Raises CommandError."""
    found: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        if not (match := SEEDS.fullmatch(part)):
            raise CommandError(f"--seeds: must look like 0-4 or 0,1,2, got {text!r}", status=USAGE)
        first = int(match[1])
        last = int(match[2] or first)
        if not first <= last < first + MOST_SEEDS:
            raise CommandError(f"--seeds: {part} makes no runs, or more than {MOST_SEEDS}", status=USAGE)
        found += range(first, last + 1)
    return found


def axis(option: str, text: str) -> tuple[str, list[Any]]:
    """`field=a,b` as the field and its values. Raises CommandError."""
    field, values = _divided(option, text)
    return field, [_scalar(each) for each in _value(option, text, f"[{values}]")]


def setting(option: str, text: str) -> tuple[str, Any]:
    """`field=value`. Raises CommandError."""
    field, value = _divided(option, text)
    return field, _scalar(_value(option, text, value))


def _divided(option: str, text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise CommandError(f"{option}: must look like field=value, got {text!r}", status=USAGE)
    return field.strip(), value


def _value(option: str, text: str, value: str) -> Any:
    """As YAML, which is how it would stand in a file."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise CommandError(f"{option}: {text!r} has no value that YAML understands", status=USAGE) from None


def _scalar(value: Any) -> Any:
    """YAML takes 1e-3, which has no point, for a word."""
    return float(value) if isinstance(value, str) and FLOAT.fullmatch(value) else value
