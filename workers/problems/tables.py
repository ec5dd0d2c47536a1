"""Uploaded tables: a class or a number from the other columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers import spec
from workers.datasets.stored import Stored
from workers.problems import nets
from workers.problems.base import Metric, Problem, Split
from workers.problems.rows import rows_of


class Table(Problem):
    """Columns are stored scaled to mean 0 and deviation 1. A number is learned in that scale too, and its error is
    told in its own."""

    def __init__(self, part: spec.Table, data: Path | None) -> None:
        """Raises SpecError or Failure as `Stored.of` does."""
        self._part, self._stored = part, Stored.of(part, data)
        info = self._stored.info
        self._target = info["target"]
        self._classifies = self._target["task"] == "classification"
        self.metrics = (Metric("accuracy", "max") if self._classifies else Metric("error", "min"),)
        outputs = len(self._target["classes"]) if self._classifies else 1
        self._recipe = nets.of_table(part, len(info["features"]), outputs)

    def model(self) -> nn.Module:
        return self._recipe.build()

    def dataset(self, split: Split) -> Dataset[Any]:
        return rows_of(self._stored, split, self._part.evaluate_on)

    def collate(self, examples: Any) -> Any:
        return examples  # `Rows` makes its batches itself

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        columns, targets = batch
        outputs = model(columns)
        if self._classifies:
            right = (outputs.detach().argmax(1) == targets).float().mean()
            return functional.cross_entropy(outputs, targets), {"accuracy": right}
        predicted, mean, deviation = outputs.squeeze(1), self._target["mean"], self._target["std"]
        error = (predicted.detach() * deviation + mean - targets).abs().mean()
        return functional.mse_loss(predicted, (targets - mean) / deviation), {"error": error}
