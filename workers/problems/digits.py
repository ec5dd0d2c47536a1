"""scikit-learn's handwritten digits: 1,797 images of 8 by 8 pixels, 10 classes (UCI, Alpaydin & Kaynak, 1998)."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers import spec
from workers.problems import nets
from workers.problems.base import Metric, Problem, Split
from workers.problems.splits import stratified_split

WHITE = 16.0


class Digits(Problem):
    metrics = (Metric("accuracy", "max"),)

    def __init__(self, part: spec.Digits) -> None:
        self._part = part

    def model(self) -> nn.Module:
        model, part = nets.of_digits(self._part).build(), self._part.model
        return he(model) if isinstance(part, spec.DigitsMlp) and part.initial == "he" else model

    def dataset(self, split: Split) -> Dataset[Any]:
        images, labels = read_digits()
        train, evaluated = stratified_split(labels, self._part.split)
        if self._part.evaluate_on == "validation":
            kept, held_out = stratified_split(labels[train], self._part.split)
            train, evaluated = train[kept], train[held_out]
        chosen = train if split == "train" else evaluated
        return Images(torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen]))

    def collate(self, examples: Any) -> Any:
        return examples  # `Images` makes its batches itself

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        images, labels = batch
        logits = model(images)
        right = (logits.detach().argmax(1) == labels).float().mean()
        return functional.cross_entropy(logits, labels), {"accuracy": right}


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images (n, 1, 8, 8) in 0 to 1 and their labels, indexed a whole batch at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(np.array(indices))  # as_tensor takes ten times as long for a list
        return self.images.index_select(0, chosen), self.labels.index_select(0, chosen)


@cache
def read_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Read scikit-learn's copy without importing scikit-learn, which takes over a second.

    Once in a process: whoever simulates run after run would read them three times a run. Nobody writes into them.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise FileNotFoundError("the digits are part of scikit-learn, which is not installed")
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images, labels = table[:, :-1].reshape(-1, 1, 8, 8) / WHITE, table[:, -1].astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def he(model: nn.Module) -> nn.Module:
    """Give linear layers weights of variance 2 / inputs, and no biases (He et al., 2015, arXiv:1502.01852, eq. 10)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
