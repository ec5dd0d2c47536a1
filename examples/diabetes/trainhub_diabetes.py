"""How diabetes progresses within a year: a regression, with a data set and a metric of its own.

What a problem package looks like. Install it on every node (`pip install examples/diabetes`), then submit a spec
with `problem: {kind: installed, name: diabetes}`. The data are scikit-learn's copy of Efron et al., 2004, "Least angle
regression": 442 patients, ten measurements each, and a score between 25 and 346.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.utils.data import Dataset

from workers.problems.base import Metric, Problem, Split

TEST_EXAMPLES = 88
SPREAD = 77.0
"""Standard deviation of the score: the model learns it in these units, people read points."""
MIDDLE = 152.0


class Patients(Dataset[tuple[Tensor, Tensor]]):
    """One patient an example: measurements (10,) with mean 0 and variance 1, and the score (1,) in points."""

    def __init__(self, split: Split) -> None:
        measurements, scores = load_diabetes(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(scores))
        chosen = order[:TEST_EXAMPLES] if split == "test" else order[TEST_EXAMPLES:]
        # scikit-learn gives columns of length 1; this makes their variance 1.
        scaled = measurements[chosen] * np.sqrt(len(scores))
        self._measurements = torch.from_numpy(scaled.astype(np.float32))
        self._scores = torch.from_numpy(scores[chosen].astype(np.float32)).unsqueeze(1)

    def __len__(self) -> int:
        return len(self._scores)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._measurements[index], self._scores[index]


class Diabetes(Problem):
    """Predicts the score by a small network of `hidden` units."""

    metrics = (Metric("error", "min", "points"),)

    def __init__(self, hidden: int = 32) -> None:
        self._hidden = hidden

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(10, self._hidden), nn.ReLU(), nn.Linear(self._hidden, 1))

    def dataset(self, split: Split) -> Dataset[Any]:
        return Patients(split)

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        measurements, scores = batch
        predicted = model(measurements)
        error = (predicted.detach() * SPREAD + MIDDLE - scores).abs().mean()
        return nn.functional.mse_loss(predicted, (scores - MIDDLE) / SPREAD), {"error": error}
