"""Problems that go wrong in the ways problems do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from workers.problems.base import Metric, Problem, Split


class Line(Problem):
    """y = 2 x, fitted by one weight."""

    metrics = (Metric("error", "min"),)

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def dataset(self, split: Split) -> Dataset[Any]:
        x = torch.linspace(-1, 1, 64).unsqueeze(1)
        return TensorDataset(x, 2 * x)

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        x, y = batch
        loss = (model(x) - y).square().mean()
        return loss, {"error": loss.detach()}


class Level(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.heights = nn.Parameter(torch.zeros(size))


class Rising(Line):
    """The k-th gradient of a trainer is -k everywhere: what was torn, or put together out of two, is not level."""

    def __init__(self, size: int) -> None:
        self._size, self._count = size, 0

    def model(self) -> nn.Module:
        return Level(self._size)

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        assert isinstance(model, Level)
        self._count += model.training
        total = model.heights.sum()
        return -self._count * total, {"error": total.detach()}


class NotFinite(Line):
    """Its losses are NaN from batch `first` to batch `last`, counted in each trainer."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last, self._count = first, last, 0

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        loss, metrics = super().loss(model, batch)
        self._count += model.training
        return loss * (float("nan") if self._first <= self._count <= self._last else 1.0), metrics


class Raises(Line):
    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        raise ValueError("the moon is in the wrong quarter")


class NoData(Line):
    def dataset(self, split: Split) -> Dataset[Any]:
        raise FileNotFoundError("no such data")


def not_a_problem() -> int:
    return 3


class NormedNotFinite(Line):
    """A line behind a batch norm; every so many batches hold a NaN."""

    def __init__(self, every: int) -> None:
        self._every, self._count = every, 0

    def model(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        x, y = batch
        self._count += model.training
        bad = model.training and self._count % self._every == 0
        return super().loss(model, (x * float("nan") if bad else x, y))
