"""Very many classes, rendered here: each class is four signs in a square, and no two classes have the same four.

    An alphabet of 16 signs, each a pattern of 7 by 7 pixels drawn by strokes at random, is made from `alphabet`.
    Class k has a code word of four signs, of 16^4 = 65,536 there are, without repetition.
    An image is the four signs, moved by up to a pixel each, of a contrast of its own each, under noise, one patch of
    the image erased.

What a network learns of a sign, it learns from all classes that have it; the last layer has to tell all of them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers import spec
from workers.problems import nets
from workers.problems.base import Metric, Problem, Split
from workers.problems.digits import Images

SIGNS = 16
CELL = 8
SIZE = 2 * CELL
CELLS = 4
STROKES = 3
TEST_CLASSES = 2000
"""An evaluation looks at so many classes at most, one image of each."""
ERASED = 5
"""Side of the patch that is erased, in pixels."""
FAINTEST = 0.4

Pixels = npt.NDArray[np.float32]


class Glyphs(Problem):
    metrics = (Metric("accuracy", "max"), Metric("among_five", "max"))

    def __init__(self, part: spec.Glyphs) -> None:
        self._part = part

    def model(self) -> nn.Module:
        return nets.of_glyphs(self._part).build()

    def dataset(self, split: Split) -> Dataset[Any]:
        part = self._part
        return rendered(part.alphabet, part.classes, part.examples, part.noise, split)

    def collate(self, examples: Any) -> Any:
        return examples  # `Images` makes its batches itself

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        images, labels = batch
        logits = model(images)
        found = logits.detach().topk(min(5, self._part.classes), 1)[1] == labels.unsqueeze(1)
        metrics = {"accuracy": found[:, 0].float().mean(), "among_five": found.any(1).float().mean()}
        return functional.cross_entropy(logits, labels), metrics


@lru_cache(maxsize=2)
def rendered(alphabet: int, classes: int, examples: int, noise: float, split: Split) -> Images:
    """All images of a split; the same for the same numbers. Training has `examples` of each class."""
    random = np.random.default_rng([alphabet, split == "test"])
    labels = np.repeat(np.arange(classes), examples) if split == "train" else _tested(classes, random)
    images = render(signs(alphabet)[codes(alphabet, classes)[labels]], noise, random)
    return Images(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def _tested(classes: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    return random.permutation(classes)[:TEST_CLASSES]


def signs(alphabet: int) -> Pixels:
    """(16, 8, 8): strokes from point to point, one pixel of room at two sides for moving."""
    random = np.random.default_rng([alphabet, 2])
    drawn = np.zeros((SIGNS, CELL, CELL), np.float32)
    for sign in drawn:
        points = random.integers(0, CELL - 1, (STROKES + 1, 2))
        for start, end in pairwise(points):
            for share in np.linspace(0.0, 1.0, 2 * CELL):
                row, column = np.rint(start + share * (end - start)).astype(int)
                sign[row, column] = 1.0
    return drawn


def codes(alphabet: int, classes: int) -> npt.NDArray[np.int64]:
    """(classes, 4): the signs of each class, no two alike."""
    words = np.random.default_rng([alphabet, 3]).permutation(SIGNS**CELLS)[:classes]
    return np.stack([words // SIGNS**place % SIGNS for place in range(CELLS)], axis=1)


def render(cells: Pixels, noise: float, random: np.random.Generator) -> Pixels:
    """(n, 4, 8, 8) → (n, 16, 16), of mean near 0."""
    count = len(cells)
    contrast = random.uniform(FAINTEST, 1.0, (count, CELLS, 1, 1)).astype(np.float32)
    moved = _moved(cells * contrast, random)
    square = moved.reshape(count, 2, 2, CELL, CELL).transpose(0, 1, 3, 2, 4).reshape(count, SIZE, SIZE)
    at = random.integers(0, SIZE - ERASED + 1, (count, 2))
    places = np.arange(SIZE)
    inside = [(places >= at[:, [axis]]) & (places < at[:, [axis]] + ERASED) for axis in (0, 1)]
    square = np.where(inside[0][:, :, None] & inside[1][:, None, :], np.float32(0.0), square)
    square += noise * random.standard_normal(square.shape, np.float32)
    return np.ascontiguousarray(square - square.mean(), dtype=np.float32)


def _moved(cells: Pixels, random: np.random.Generator) -> Pixels:
    """Each sign moved down and to the right by nothing or a pixel: into the room that was left for it."""
    down, right = random.integers(0, 2, (2, len(cells), CELLS, 1, 1)).astype(bool)
    cells = np.where(down, np.roll(cells, 1, axis=2), cells)
    return np.where(right, np.roll(cells, 1, axis=3), cells)
