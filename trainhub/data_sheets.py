"""What a data set's page tells of it, made of what its preparation found. Missing keys are just not told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count
from django.db.models.fields.json import KeyTextTransform

from trainhub import words
from trainhub.models import Dataset, DatasetKind, Run

MOST_CLASSES = 60
MOST_COLUMNS = 100
SHOWN_LEVELS = 4
"""Different texts of a column that are named."""
HEADS = ("name", "kind", "missing", "mean", "std", "min", "max", "levels")
"""What is told of a table's columns, in this order: the database keeps none. Others come behind."""
MOST_SAMPLE = 2000
"""Characters of a text that are shown."""
PREVIEW = "preview.png"
PARTS = ("train", "test")


@dataclass(frozen=True)
class ClassBar:
    """A class and how many examples it has. `share`: of the largest class, in percent."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Sheet:
    """`heads` and `columns` are a table about a table: a line for each of its columns."""

    facts: list[tuple[str, str]]
    classes: list[ClassBar] = field(default_factory=list)
    more_classes: int = 0
    heads: list[str] = field(default_factory=list)
    columns: list[list[str]] = field(default_factory=list)
    more_columns: int = 0
    sample: str = ""
    preview: bool = False
    notes: list[str] = field(default_factory=list)


def sheet(dataset: Dataset) -> Sheet:
    info = dataset.info
    bars = _bars(info)
    heads, columns = _columns(info)
    return Sheet(
        facts=[*_parts(info), *_facts(dataset)],
        classes=bars[:MOST_CLASSES],
        more_classes=max(0, len(bars) - MOST_CLASSES),
        heads=heads,
        columns=columns[:MOST_COLUMNS],
        more_columns=max(0, len(columns) - MOST_COLUMNS),
        sample=_sample(info)[:MOST_SAMPLE],
        preview=dataset.kind == DatasetKind.IMAGES and bool(info.get("preview")),
        notes=[str(note) for note in info.get("notes") or []],
    )


def shape(dataset: Dataset) -> str:
    """In a few words: `32×32 pixels, colour, 10 classes`."""
    info = dataset.info
    match dataset.kind:
        case DatasetKind.IMAGES:
            told = [pixels(info.get("shape")), _counted(_classes(info), "class", "classes")]
        case DatasetKind.TABLE:
            told = [_counted(info.get("columns"), "column", "columns"), target(info)]
        case _:
            told = [vocabulary(info)]
    return ", ".join(part for part in told if part)


def pixels(given: Any) -> str:
    """`32×32 pixels, colour` of (channels, height, width)."""
    if not (isinstance(given, list) and len(given) == 3):
        return ""
    channels, height, width = given
    colours = {1: "gray", 3: "colour"}.get(channels, f"{channels} channels")
    return f"{width}×{height} pixels, {colours}"


def target(info: Mapping[str, Any]) -> str:
    """`predicts price (regression)`."""
    found = info.get("target")
    name = found.get("name") if isinstance(found, Mapping) else found
    task = info.get("task") or (found.get("task") if isinstance(found, Mapping) else None)
    if not name:
        return str(task or "")
    return f"predicts {name} ({task})" if task else f"predicts {name}"


def vocabulary(info: Mapping[str, Any]) -> str:
    """`65 different characters`."""
    return _counted(info.get("vocabulary_size"), "different character", "different characters")


def uses(datasets: Collection[Dataset]) -> Counter[tuple[int, str]]:
    """Project and name → how many runs train on it, in one query for all."""
    named = Run.objects.annotate(data=KeyTextTransform("dataset", KeyTextTransform("problem", "spec")))
    found = named.filter(
        experiment__project__in={dataset.project_id for dataset in datasets},
        data__in={dataset.name for dataset in datasets},
    )
    rows = found.order_by().values_list("experiment__project", "data").annotate(Count("pk"))
    return Counter({(project, name): count for project, name, count in rows})


def snippet(dataset: Dataset) -> str:
    """What a spec says to train on it."""
    return f"problem:\n  kind: {dataset.kind}\n  dataset: {dataset.name}\n"


def _parts(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    labels = {"train": "To train on", "test": "Held out for the test"}
    for part in PARTS:
        if isinstance(info.get(part), int):
            yield labels[part], f"{info[part]:,}"
    if info.get("split"):
        yield "Split", str(info["split"])


def _facts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    info = dataset.info
    match dataset.kind:
        case DatasetKind.IMAGES:
            told = {"Images": pixels(info.get("shape")), "Classes": _number(_classes(info))}
        case DatasetKind.TABLE:
            told = {
                "Columns": _number(info.get("columns")),
                "Features": _number(info.get("features")),
                "Target": target(info).removeprefix("predicts "),
            }
        case _:
            told = {"Vocabulary": vocabulary(info)}
    yield from ((name, value) for name, value in told.items() if value)


def _classes(info: Mapping[str, Any]) -> Any:
    """Names of the classes, wherever the preparation put them."""
    found = info.get("target")
    return info.get("classes") or (found.get("classes") if isinstance(found, Mapping) else None)


def _bars(info: Mapping[str, Any]) -> list[ClassBar]:
    names, counts = _classes(info), info.get("counts")
    if not isinstance(names, Sequence) or isinstance(names, str):
        return []
    sums = [0] * len(names)
    for part in counts.values() if isinstance(counts, Mapping) else [counts or []]:
        for index, count in enumerate(part[: len(names)]):
            sums[index] += int(count)
    most = max(sums, default=0)
    if not most:
        return []
    return [ClassBar(str(name), count, 100 * count / most) for name, count in zip(names, sums, strict=True)]


def _columns(info: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of the table about a table's columns, whatever is known of each."""
    found = info.get("columns")
    if not isinstance(found, list):
        return [], []
    rows = [dict(each) if isinstance(each, Mapping) else {"name": each} for each in found]
    known = dict.fromkeys([*HEADS, *sorted(key for row in rows for key in row)])
    heads = [head for head in known if any(head in row for row in rows) and _plain(head, rows)]
    return heads, [[_cell(row.get(head)) for head in heads] for row in rows]


def _plain(head: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(not isinstance(row.get(head), list) for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return _levels(value)
    return f"{value:.4g}" if isinstance(value, float) else words.label(value)


def _levels(counts: Mapping[str, Any]) -> str:
    """`red 12, blue 8 and 3 more`, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    told = ", ".join(f"{name} {count:,}" for name, count in ranked[:SHOWN_LEVELS])
    return f"{told} and {len(ranked) - SHOWN_LEVELS} more" if len(ranked) > SHOWN_LEVELS else told


def _sample(info: Mapping[str, Any]) -> str:
    return str(info.get("sample") or "")


def _number(given: Any) -> str:
    count = given if isinstance(given, int) else len(given) if isinstance(given, Sequence | Mapping) else 0
    return f"{count:,}" if count else ""


def _counted(given: Any, one: str, many: str) -> str:
    number = _number(given)
    return f"{number} {one if number == '1' else many}" if number else ""
