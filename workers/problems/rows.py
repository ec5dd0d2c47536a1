"""Examples in arrays that are mapped from files, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from workers.datasets.stored import Stored
from workers.problems.base import Split
from workers.problems.splits import Indices, random_split, stratified_split


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """Row i of `inputs` with row i of `targets`; `chosen` are the rows that are meant. None: all."""

    def __init__(self, inputs: npt.NDArray[Any], targets: npt.NDArray[Any], chosen: Indices | None = None) -> None:
        self._inputs, self._targets, self._chosen = inputs, targets, chosen

    def __len__(self) -> int:
        return len(self._targets if self._chosen is None else self._chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.__getitems__([index])
        return inputs[0], targets[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Copies: what is mapped is everybody's."""
        rows = np.asarray(indices)
        if self._chosen is not None:
            rows = self._chosen[rows]
        return torch.from_numpy(self._inputs[rows]), torch.from_numpy(self._targets[rows])


def rows_of(stored: Stored, split: Split, evaluate_on: Literal["test", "validation"]) -> Rows:
    """A part of a data set; with `validation` both are parts of the training examples."""
    if evaluate_on == "test":
        return Rows(stored.array(f"{split}-x"), stored.array(f"{split}-y"))
    targets = stored.array("train-y")
    has_classes = np.issubdtype(targets.dtype, np.integer)
    kept, held_out = stratified_split(targets) if has_classes else random_split(len(targets))
    return Rows(stored.array("train-x"), targets, kept if split == "train" else held_out)
