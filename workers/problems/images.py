"""Uploaded images, and what is done to them on their way into the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers import spec
from workers.datasets.stored import Stored
from workers.problems import nets
from workers.problems.base import Metric, Problem, Split
from workers.problems.rows import rows_of

WHITE = 255.0
CROP_SHARE = 8
"""Images are moved by up to an eighth of their size: the 4 of 32 pixels of He et al., 2015, section 4.2."""


class Images(Problem):
    metrics = (Metric("accuracy", "max"),)

    def __init__(self, part: spec.Images, data: Path | None) -> None:
        """Raises SpecError or Failure as `Stored.of` does."""
        self._part, self._stored = part, Stored.of(part, data)
        info = self._stored.info
        self._recipe = nets.of_images(part, tuple(info["shape"]), len(info["classes"]))
        white = WHITE if info["dtype"] == "uint8" else 1.0
        mean = torch.tensor(info["mean"] if part.normalize else 0.0).reshape(-1, 1, 1)
        deviation = torch.tensor(info["std"] if part.normalize else 1.0).reshape(-1, 1, 1)
        self._scale, self._shift = 1 / (white * deviation), -mean / deviation

    def model(self) -> nn.Module:
        return self._recipe.build()

    def dataset(self, split: Split) -> Dataset[Any]:
        return rows_of(self._stored, split, self._part.evaluate_on)

    def collate(self, examples: Any) -> Any:
        return examples  # `Rows` makes its batches itself

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        pixels, labels = batch
        if model.training:
            pixels = augmented(pixels, self._part.augment)
        logits = model(self.inputs(pixels))
        right = (logits.detach().argmax(1) == labels).float().mean()
        return functional.cross_entropy(logits, labels), {"accuracy": right}

    def inputs(self, pixels: Tensor) -> Tensor:
        """Stored pixels (n, channels, height, width) → what the network takes, float32."""
        return pixels.float().mul_(self._scale.to(pixels.device)).add_(self._shift.to(pixels.device))


def augmented(pixels: Tensor, how: str) -> Tensor:
    """Mirror half of the images, and move them, as `how` says.

    Random numbers are torch's own: a trainer seeds them by (seed, worker, step) before each gradient, so a batch can be
    made again, also by a replay.
    """
    if how == "none":
        return pixels
    mirrored = torch.rand(len(pixels)) < 0.5
    pixels = torch.where(mirrored.to(pixels.device).reshape(-1, 1, 1, 1), pixels.flip(3), pixels)
    return moved(pixels) if how == "flip-crop" else pixels


def moved(pixels: Tensor) -> Tensor:
    """Cut each image out of itself with a black frame around it, at a random place."""
    n, channels, height, width = pixels.shape
    frame_y, frame_x = max(1, height // CROP_SHARE), max(1, width // CROP_SHARE)
    framed, where = functional.pad(pixels, (frame_x, frame_x, frame_y, frame_y)), pixels.device
    rows = torch.randint(2 * frame_y + 1, (n, 1)) + torch.arange(height)
    columns = torch.randint(2 * frame_x + 1, (n, 1)) + torch.arange(width)
    which, channel = torch.arange(n).reshape(-1, 1, 1, 1), torch.arange(channels).reshape(1, -1, 1, 1)
    places = which, channel, rows.reshape(n, 1, -1, 1), columns.reshape(n, 1, 1, -1)
    return framed[tuple(index.to(where) for index in places)]
