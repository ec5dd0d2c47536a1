"""What a problem is: everything about a training that is not asynchrony.

Nothing in engine, telemetry or pages assumes classification, or data that fit in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Metric:
    """A number a problem reports besides its loss. An evaluation is its mean over the test examples."""

    name: str
    direction: Literal["min", "max"]
    unit: str = ""


class Problem(ABC):
    """A model, its data, its loss and its metrics. Built anew in every child that needs it."""

    metrics: tuple[Metric, ...] = ()

    @abstractmethod
    def model(self) -> nn.Module:
        """Build the model with fresh weights. Called under the run's seed."""

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Any]:
        """Map-style data: it has a length and an example for each index below it."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """The mean loss of a batch, and its metrics by name (means over the batch as well)."""

    def collate(self, examples: Any) -> Any:
        """Make a batch of a list of examples. A data set with `__getitems__` is asked for all examples of a
        batch at once, and what it gives comes through here."""
        return default_collate(examples)

    def placed(self, worker: int, workers: int) -> None:  # noqa: B027 - few problems care
        """Told to a trainer's problem before its data are asked for: this is trainer `worker` of `workers`."""
