"""Writes tables: columns scaled to mean 0 and deviation 1 over the training examples, and a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.datasets.errors import BadData
from workers.datasets.limits import Limits, size
from workers.datasets.progress import Progress
from workers.datasets.writing import Folder
from workers.problems.splits import Indices, random_split, stratified_split

BLOCK_ROWS = 65_536
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """What a network is to see: `values` (rows, features), by the names of the features, before they are scaled."""

    features: list[str]
    values: Numbers
    scaled: npt.NDArray[np.bool_]
    """Which features are scaled: numbers are, marks of a category (0 or 1) stay."""
    about: list[dict[str, Any]]
    """What people are told of each column of the file."""
    first_rows: list[list[str]]

    @classmethod
    def plain(cls, names: list[str], values: Numbers) -> Columns:
        """Of an array of numbers."""
        about = [number_column(name, values[:, i], missing=0) for i, name in enumerate(names)]
        first = [[f"{v:g}" for v in row] for row in values[:FIRST_ROWS, :FIRST_COLUMNS]]
        return cls(names, values, np.ones(len(names), bool), about, first)


@dataclass(frozen=True)
class Target:
    """Classes as their numbers, or numbers where `classes` is None."""

    name: str
    values: npt.NDArray[Any]
    classes: list[str] | None


@dataclass(frozen=True)
class TableParts:
    columns: Columns
    target: Target
    test: tuple[Columns, Target] | None = None
    notes: list[str] = field(default_factory=list)


FIRST_ROWS, FIRST_COLUMNS = 5, 50
DESCRIBED_COLUMNS = 1000


def write(found: TableParts, folder: Folder, limits: Limits, progress: Progress) -> dict[str, Any]:
    """Write both parts; returns what is known about them. Raises BadData and OSError."""
    target = found.target
    check(found, limits)
    (train_x, train_y), (test_x, test_y), split = parts_of(found)
    mean, deviation = scales(train_x, found.columns.scaled)
    progress.begin(len(train_y) + len(test_y))
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        file = folder.array(f"{name}-x", x.shape, np.float32)
        for start in range(0, len(x), BLOCK_ROWS):
            block = (x[start : start + BLOCK_ROWS] - mean) / deviation
            file.append(block)
            progress.advance(len(block))
        file.close()
        folder.whole_array(f"{name}-y", y.astype(np.float32 if target.classes is None else np.int64))
    return {
        "kind": "table",
        "train": len(train_y),
        "test": len(test_y),
        "split": split,
        "features": found.columns.features,
        "mean": mean.tolist(),
        "std": deviation.tolist(),
        "target": about_target(target, train_y),
        "counts": counts_of(target, train_y, test_y),
        "columns": found.columns.about[:DESCRIBED_COLUMNS],
        "first_rows": found.columns.first_rows,
        "notes": found.notes,
    }


def check(found: TableParts, limits: Limits) -> None:
    """Raises BadData."""
    limits.check_examples(len(found.target.values) + (len(found.test[1].values) if found.test else 0))
    if not found.columns.features:
        raise BadData("file", "has no column besides its target")
    stored = 4 * found.columns.values.size
    if stored > limits.stored_bytes:
        raise BadData("file", f"would take {size(stored)}; at most {size(limits.stored_bytes)} are taken")
    if len(found.columns.features) > limits.columns:
        raise BadData("file", f"has {len(found.columns.features):,} features; at most {limits.columns:,} are taken")
    if found.target.classes is not None:
        limits.check_classes(len(found.target.classes), found.target.name)


Part = tuple[Numbers, npt.NDArray[Any]]


def parts_of(found: TableParts) -> tuple[Part, Part, str]:
    """Features and targets of the training and of the test, and how they came to be so."""
    x, target = found.columns.values, found.target
    if found.test is not None:
        return (x, target.values), (found.test[0].values, found.test[1].values), "given"
    train, test = held_out(target)
    if not len(test):
        raise BadData("file", "has too few rows to hold a fifth of them out for the test")
    how = "a random fifth" if target.classes is None else "a fifth of each class"
    return (x[train], target.values[train]), (x[test], target.values[test]), how


def held_out(target: Target) -> tuple[Indices, Indices]:
    if target.classes is None:
        train, test = random_split(len(target.values))
    else:
        train, test = stratified_split(target.values)
    return np.sort(train), np.sort(test)


def scales(values: Numbers, scaled: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Mean and deviation by feature; 0 and 1 for what stays as it is, and deviation 1 for what never changes."""
    mean, deviation = values.mean(0), values.std(0)
    still = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    return np.where(scaled, mean, 0.0), np.where(scaled & ~still, deviation, 1.0)


def counts_of(target: Target, train: npt.NDArray[Any], test: npt.NDArray[Any]) -> dict[str, list[int]] | None:
    """Examples of each class, in each part. None: it has no classes."""
    if target.classes is None:
        return None
    count = len(target.classes)
    return {name: np.bincount(y, minlength=count).tolist() for name, y in (("train", train), ("test", test))}


def about_target(target: Target, train: npt.NDArray[Any]) -> dict[str, Any]:
    if target.classes is not None:
        return {"name": target.name, "task": "classification", "classes": target.classes}
    deviation = float(train.std())
    return {
        "name": target.name,
        "task": "regression",
        "mean": float(train.mean()),
        "std": deviation if deviation > 0 else 1.0,
        "min": float(train.min()),
        "max": float(train.max()),
    }


def number_column(name: str, values: Numbers, *, missing: int) -> dict[str, Any]:
    """What people are told of a column of numbers."""
    return {
        "name": name,
        "kind": "number",
        "missing": missing,
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }
