"""A problem whose code breaks in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from workers.problems.base import Metric, Problem, Split


class Faulty(Problem):
    metrics = (Metric("error", "min"),)

    def __init__(self) -> None:
        self._batches = 0

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def dataset(self, split: Split) -> Dataset[Any]:
        return TensorDataset(torch.ones(64, 1))

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        self._batches += 1
        if self._batches == 3:
            raise RuntimeError("the faulty problem's third batch")
        loss = model(batch[0]).square().mean()
        return loss, {"error": loss.detach()}
