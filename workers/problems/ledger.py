"""A problem that counts: what was applied can be read off the weights, in integers.

The gradient of trainer i is -1 on coordinate i and 0 elsewhere, so that plain SGD with rate 1 adds exactly 1 to it,
exact in fp32 up to 2**24. A lost, doubled or torn update shows as a wrong count.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from workers import spec
from workers.problems.base import Metric, Problem, Split
from workers.spec_errors import SpecError

EXAMPLES = 1024


class Account(nn.Module):
    def __init__(self, coordinates: int) -> None:
        super().__init__()
        self.counts = nn.Parameter(torch.zeros(coordinates))


class Lines(Dataset[int]):
    """Every example of a trainer is that trainer's number."""

    def __init__(self, worker: int, length: int) -> None:
        self.worker = worker
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return self.worker


class Ledger(Problem):
    metrics = (Metric("total", "max", "updates"),)

    def __init__(self, part: spec.Ledger) -> None:
        self._coordinates = part.coordinates
        self._compute_seconds = part.compute_seconds
        self._worker = 0

    def placed(self, worker: int, workers: int) -> None:
        if workers > self._coordinates:
            raise SpecError.one(
                "problem.coordinates", f"must be at least workers.max ({workers}), got {self._coordinates}"
            )
        self._worker = worker

    def model(self) -> nn.Module:
        return Account(self._coordinates)

    def dataset(self, split: Split) -> Dataset[Any]:
        return Lines(self._worker, EXAMPLES if split == "train" else 1)

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        assert isinstance(model, Account)
        if model.training and self._compute_seconds:
            time.sleep(self._compute_seconds)
        return -model.counts[int(batch[0])], {"total": model.counts.detach().sum()}
