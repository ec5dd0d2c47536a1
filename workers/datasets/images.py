"""Writes images and their classes, wherever they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.datasets.errors import BadData
from workers.datasets.limits import Limits, size
from workers.datasets.progress import Progress
from workers.datasets.stored import PREVIEW
from workers.datasets.writing import Folder
from workers.problems.splits import Indices, stratified_split

BLOCK_ROWS = 512
WHITE = 255.0
PREVIEWS, PREVIEW_COLUMNS, PREVIEW_PIXELS = 24, 8, 64
PREVIEW_GAP = 4


class Source(Protocol):
    """Labelled images."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each, from 0."""

    def block(self, rows: Indices) -> npt.NDArray[Any]:
        """These images, (rows, channels, height, width)."""


@dataclass(frozen=True)
class InMemory:
    labels: npt.NDArray[np.int64]
    pixels: npt.NDArray[Any]

    def block(self, rows: Indices) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self.pixels[rows]
        return found


@dataclass(frozen=True)
class LabelledImages:
    """What a format's reader found. `shape` is (channels, height, width)."""

    train: Source
    test: Source | None
    classes: Sequence[str]
    shape: tuple[int, int, int]
    dtype: str = "uint8"
    notes: list[str] = field(default_factory=list)


def write(found: LabelledImages, folder: Folder, limits: Limits, progress: Progress) -> dict[str, Any]:
    """Write both parts; returns what is known about them. Raises BadData and OSError."""
    check(found, limits)
    parts, split = parts_of(found)
    progress.begin(sum(len(rows) for _, rows in parts.values()))
    statistics = Statistics(found.shape[0], found.dtype)
    for name, (source, rows) in parts.items():
        file = folder.array(f"{name}-x", (len(rows), *found.shape), found.dtype)
        for block in blocks(source, rows):
            if name == "train":
                statistics.add(block)
            file.append(block)
            progress.advance(len(block))
        file.close()
        folder.whole_array(f"{name}-y", source.labels[rows])
    draw_preview(found, parts["train"], folder)
    counts = {name: np.bincount(s.labels[rows], minlength=len(found.classes)) for name, (s, rows) in parts.items()}
    mean, deviation = statistics.result()
    return {
        "kind": "images",
        "shape": list(found.shape),
        "dtype": found.dtype,
        "train": len(parts["train"][1]),
        "test": len(parts["test"][1]),
        "split": split,
        "classes": list(found.classes),
        "counts": {name: found_counts.tolist() for name, found_counts in counts.items()},
        "mean": mean,
        "std": deviation,
        "preview": PREVIEW,
        "notes": found.notes,
    }


def check(found: LabelledImages, limits: Limits) -> None:
    """Raises BadData."""
    count = len(found.train.labels) + (len(found.test.labels) if found.test else 0)
    limits.check_examples(count)
    limits.check_classes(len(found.classes), "file")
    _, height, width = found.shape
    if max(height, width) > limits.side_pixels:
        raise BadData("file", f"images are {width}×{height} pixels; at most {limits.side_pixels} a side are taken")
    stored = count * int(np.prod(found.shape)) * np.dtype(found.dtype).itemsize
    if stored > limits.stored_bytes:
        raise BadData("file", f"images would take {size(stored)}; at most {size(limits.stored_bytes)} are taken")


def parts_of(found: LabelledImages) -> tuple[dict[str, tuple[Source, Indices]], str]:
    """Training and test rows, and how they came to be so."""
    if found.test is not None:
        sources = {"train": found.train, "test": found.test}
        return {name: (s, np.arange(len(s.labels))) for name, s in sources.items()}, "given"
    train, test = stratified_split(found.train.labels)
    if not len(test):
        raise BadData("file", "has too few examples of each class to hold a fifth of them out for the test")
    return {"train": (found.train, np.sort(train)), "test": (found.train, np.sort(test))}, "a fifth of each class"


def blocks(source: Source, rows: Indices) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield source.block(rows[start : start + BLOCK_ROWS])


class Statistics:
    """Mean and deviation of each channel, over values from 0 to 1 where pixels are bytes."""

    def __init__(self, channels: int, dtype: str) -> None:
        self._white = WHITE if dtype == "uint8" else 1.0
        self._sum, self._squares = np.zeros(channels), np.zeros(channels)
        self._count = 0

    def add(self, block: npt.NDArray[Any]) -> None:
        values = block.astype(np.float64) / self._white
        self._sum += values.sum((0, 2, 3))
        self._squares += np.square(values).sum((0, 2, 3))
        self._count += values.size // len(self._sum)

    def result(self) -> tuple[list[float], list[float]]:
        """A channel that is the same everywhere has deviation 1: dividing by it changes nothing."""
        mean = self._sum / self._count
        deviation = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0))
        return mean.tolist(), np.where(deviation > 1e-7, deviation, 1.0).tolist()


def draw_preview(found: LabelledImages, train: tuple[Source, Indices], folder: Folder) -> None:
    """A sheet of some training images, each class in turn."""
    source, rows = train
    chosen = first_of_each(source.labels[rows], PREVIEWS)
    in_order = np.sort(chosen)  # a source may be slow to go back
    drawn = dict(zip(in_order.tolist(), map(tile, source.block(rows[in_order])), strict=True))
    tiles = [drawn[row] for row in chosen.tolist()]
    step = PREVIEW_PIXELS + PREVIEW_GAP
    lines = -(-len(tiles) // PREVIEW_COLUMNS)
    sheet = Image.new("RGBA", (min(len(tiles), PREVIEW_COLUMNS) * step - PREVIEW_GAP, lines * step - PREVIEW_GAP))
    for index, image in enumerate(tiles):
        line, column = divmod(index, PREVIEW_COLUMNS)
        sheet.paste(image, (column * step, line * step))
    sheet.save(folder.path / PREVIEW)


def first_of_each(labels: npt.NDArray[np.int64], count: int) -> Indices:
    """The first of each class, then the second of each, until there are `count`."""
    order = np.argsort(labels, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(labels[order])) + 1]
    turn = np.empty(len(labels), np.int64)
    turn[order] = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    return np.lexsort((labels, turn))[:count]


def tile(pixels: npt.NDArray[Any]) -> Image.Image:
    """One image (channels, height, width), as large as fits the preview, without smoothing small ones."""
    values = pixels if pixels.dtype == np.uint8 else _stretched(pixels)
    shown = values[0] if len(values) < 3 else np.moveaxis(values[:3], 0, 2)
    image = Image.fromarray(np.ascontiguousarray(shown)).convert("RGB")
    how = Image.Resampling.NEAREST if max(image.size) < PREVIEW_PIXELS else Image.Resampling.BILINEAR
    scale = PREVIEW_PIXELS / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), how)


def _stretched(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = float(pixels.min()), float(pixels.max())
    return ((pixels - low) * (WHITE / ((high - low) or 1.0))).astype(np.uint8)
