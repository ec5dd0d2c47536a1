"""Problems with last layers of many kinds, some of which can't be cut over devices."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from workers.methods.hybrid.head import ShardedLinear
from workers.problems.base import Metric, Problem, Split

CLASSES = 8
FEATURES = 8


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Linear(FEATURES, FEATURES)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(torch.tanh(self.below(x))))
        return logits


class Scaled(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, CLASSES), nn.Linear(FEATURES, CLASSES)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.tanh(self.first(x)))
        return logits


class Frozen(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.linear.requires_grad_(False)


MODELS = {kind.__name__: kind for kind in (Plain, Scaled, Tied, Frozen)}


class Headed(Problem):
    """Random points by the octant they are in. `term` adds something to the loss that is no cross-entropy."""

    metrics = (Metric("accuracy", "max"), Metric("among_two", "max"))

    def __init__(self, model: str = "Plain", term: float = 0.0) -> None:
        self._model, self._term = model, term

    def model(self) -> nn.Module:
        return MODELS[self._model]()

    def dataset(self, split: Split) -> Dataset[Any]:
        x = torch.randn(256, FEATURES, generator=torch.Generator().manual_seed(int(split == "test")))
        return TensorDataset(x, ((x[:, :3] > 0) * torch.tensor([1, 2, 4])).sum(1))

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        x, y = batch
        logits = model(x)
        right = (logits.detach().argmax(1) == y).float().mean()
        among = (torch.topk(logits.detach(), 2, 1)[1] == y.unsqueeze(1)).any(1).float().mean()
        loss = functional.cross_entropy(logits, y)
        return (loss + self._term if self._term else loss), {"accuracy": right, "among_two": among}


class Dying(Headed):
    """The device that first gets to its batch number `at` and finds `note` missing makes it, and is killed there."""

    def __init__(self, note: str, at: int, rank: int) -> None:
        super().__init__()
        self._note, self._at, self._rank, self._count = Path(note), at, rank, 0

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        self._count += model.training
        layer = model.get_submodule("linear")
        if self._count == self._at and not self._note.exists() and _rank(layer) == self._rank:
            self._note.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return super().loss(model, batch)


class Failing(Headed):
    """Device `rank` can't make the loss of its batch number `at`."""

    def __init__(self, at: int, rank: int) -> None:
        super().__init__()
        self._at, self._rank, self._count = at, rank, 0

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        self._count += model.training
        if self._count == self._at and _rank(model.get_submodule("linear")) == self._rank:
            raise ZeroDivisionError("a batch that this device can't take")
        return super().loss(model, batch)


def _rank(layer: nn.Module) -> int:
    return layer.cut.group.rank if isinstance(layer, ShardedLinear) else -1
