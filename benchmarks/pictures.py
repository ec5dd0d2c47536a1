"""Networks on images of noise, for images a second: only their time matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from workers.problems.base import Metric, Problem, Split
from workers.problems.nets.resnet import resnet18

EXAMPLES, CLASSES = 4096, 10


class Noise(Dataset[tuple[Tensor, Tensor]]):
    """Images (3, size, size), indexed a whole batch at a time."""

    def __init__(self, size: int) -> None:
        random = torch.Generator().manual_seed(0)
        self.images = torch.randn(EXAMPLES, 3, size, size, generator=random)
        self.labels = torch.randint(0, CLASSES, (EXAMPLES,), generator=random)

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.images[chosen], self.labels[chosen]


class Pictures(Problem):
    metrics = (Metric("accuracy", "max"),)
    size = 32

    def model(self) -> nn.Module:
        return resnet18(3, CLASSES)

    def dataset(self, split: Split) -> Dataset[Any]:
        return Noise(self.size)

    def collate(self, examples: Any) -> Any:
        return examples

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        images, labels = batch
        logits = model(images)
        right = (logits.detach().argmax(1) == labels).float().mean()
        return nn.functional.cross_entropy(logits, labels), {"accuracy": right}


class ResNet18(Pictures):
    """11 M parameters, 32 by 32 pixels."""


class Small(Pictures):
    """What a CPU gets through in a moment."""

    size = 8

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, CLASSES)
        )
