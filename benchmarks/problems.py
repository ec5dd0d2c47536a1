"""A convolutional network of 11 million parameters on images of noise: only its time matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from workers.problems.base import Metric, Problem, Split

EXAMPLES = 512
CLASSES = 10


class LargeCnn(Problem):
    metrics = (Metric("accuracy", "max"),)

    def model(self) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 64, 1), (64, 256, 2), (256, 512, 2), (512, 1024, 2)):
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024 * 16, 300), nn.ReLU(), nn.Linear(300, CLASSES))

    def dataset(self, split: Split) -> Dataset[Any]:
        random = torch.Generator().manual_seed(0)
        images = torch.randn(EXAMPLES, 3, 32, 32, generator=random)
        return TensorDataset(images, torch.randint(0, CLASSES, (EXAMPLES,), generator=random))

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        images, labels = batch
        logits = model(images)
        right = (logits.detach().argmax(1) == labels).float().mean()
        return nn.functional.cross_entropy(logits, labels), {"accuracy": right}
