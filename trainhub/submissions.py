"""What people submit, at whichever door: a spec, and how many runs are made of it. Pure: no rows."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.spec import RunSpec
from workers.spec_errors import Finding, SpecError
from workers.spec_paths import changed
from workers.spec_values import check_plain

MOST_CELLS = 200
"""Runs that a grid may make. Studies, which are planned in a file of their own, have more."""
MOST_VALUES = 100
MOST_AXES = 6
MOST_PATH = 200
"""Characters of a field's name."""
MOST_TEXT = 2000
"""Characters of a value: it stands in its run's labels, and in all that is found wrong with it."""
MOST_BYTES = 16 * 1024 * 1024
"""Of the specs of all runs together."""
SEED = "seed"

Label = str | int | float | bool | None


@dataclass(frozen=True)
class Draft:
    """As it came in, unchecked: a spec as data or as YAML, seeds, and dotted fields with the values to try."""

    spec: object = None
    yaml: str | None = None
    seeds: Sequence[Any] = ()
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    name: str = ""
    """Of the experiment. Empty: the spec's."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        told = [self.spec, self.yaml, list(self.seeds), {k: list(v) for k, v in self.grid.items()}, self.name]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Cell:
    """One run to be. `labels` tell it from the others: axis → value."""

    spec: RunSpec
    labels: dict[str, Label]


@dataclass(frozen=True)
class Submission:
    """Understood: `spec` is what all cells share but for their axes."""

    spec: RunSpec
    cells: list[Cell]
    name: str


def understand(draft: Draft) -> Submission:
    """Check all of a draft. Raises SpecError, which names every field that can't be."""
    if (draft.spec is None) == (draft.yaml is None):
        raise SpecError.one("spec", "give either a spec or its yaml")
    spec = RunSpec.parse_yaml(draft.yaml) if draft.yaml is not None else RunSpec.parse(draft.spec)
    axes = dict(_axes(draft))
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MOST_CELLS:
        raise SpecError.one("grid", f"makes {count} runs; {MOST_CELLS} at most, or plan a study")
    if count > 1 and count * len(spec.canonical()) > MOST_BYTES:
        raise SpecError.one("grid", f"makes {count} runs of a spec this long; {MOST_BYTES >> 20} MiB of specs at most")
    return Submission(spec, list(_cells(spec, axes)), draft.name.strip() or spec.name)


def _axes(draft: Draft) -> Iterator[tuple[str, list[Any]]]:
    if len(draft.grid) > MOST_AXES:
        raise SpecError.one("grid", f"may name {MOST_AXES} fields at most, got {len(draft.grid)}")
    if any(len(path) > MOST_PATH for path in draft.grid):
        raise SpecError.one("grid", f"names a field of more than {MOST_PATH} characters")
    for path, values in draft.grid.items():
        where = f"grid.{path}"
        if path.partition(".")[0] in {"version", "name", "notes", "tags"}:
            raise SpecError.one(where, "can't be varied")
        yield path, _values(where, values)
    if draft.seeds:
        if SEED in draft.grid:
            raise SpecError.one("grid.seed", "is given in seeds too; leave one of them out")
        yield SEED, _values("seeds", draft.seeds)


def _values(where: str, values: Any) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise SpecError.one(where, f"must be a list of values, got {values!r}")
    if not 1 <= len(values) <= MOST_VALUES:
        raise SpecError.one(where, f"must have 1 to {MOST_VALUES} values, got {len(values)}")
    try:
        check_plain(values)
    except SpecError as error:
        raise SpecError([Finding(where, each.message) for each in error.findings]) from None
    told = [_text(value) for value in values]
    if any(len(text) > MOST_TEXT for text in told):
        raise SpecError.one(where, f"has a value of more than {MOST_TEXT:,} characters; put it into the spec")
    if twice := next((text for text in told if told.count(text) > 1), None):
        raise SpecError.one(where, f"has {twice} more than once")
    return list(values)


def _cells(spec: RunSpec, axes: Mapping[str, list[Any]]) -> Iterator[Cell]:
    base = spec.model_dump(mode="json")
    findings: dict[Finding, None] = {}
    cells: list[Cell] = []
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        try:
            cells.append(Cell(_varied(base, chosen) if chosen else spec, {a: _label(v) for a, v in chosen.items()}))
        except SpecError as error:
            findings |= {_in_grid(each, chosen): None for each in error.findings}
    if findings:
        raise SpecError(list(findings))
    yield from cells


def _varied(base: dict[str, Any], chosen: Mapping[str, Any]) -> RunSpec:
    """Parts that are chosen by their kind are replaced whole, before single fields of theirs are set."""
    ordered = sorted(chosen.items(), key=lambda item: not (item[0].endswith(".kind") or isinstance(item[1], dict)))
    return RunSpec.parse(changed(base, [_change(path, value) for path, value in ordered]))


def _change(path: str, value: Any) -> dict[str, Any]:
    if path.endswith(".kind"):
        return {path.removesuffix(".kind"): {"kind": value}}
    return {path: value}


def _in_grid(finding: Finding, chosen: Mapping[str, Any]) -> Finding:
    """A finding about one cell, under the axis that made it where one did."""
    for path, value in chosen.items():
        part = path.removesuffix(".kind")
        if finding.field == path or finding.field.startswith(f"{part}."):
            where = "seeds" if path == SEED else f"grid.{path}"
            return Finding(where, f"{finding.message} (with {_text(value)})")
    # Not the seed: what is wrong with one is wrong with all, and is told once.
    told = ", ".join(f"{path} {_text(value)}" for path, value in chosen.items() if path != SEED)
    return Finding(finding.field, f"{finding.message} (with {told})" if told else finding.message)


def _label(value: Any) -> Label:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict) and "kind" in value:
        rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "kind")
        return f"{value['kind']} ({rest})" if rest else str(value["kind"])
    return value if isinstance(value, str) else json.dumps(value)
