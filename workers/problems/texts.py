"""An uploaded text: what comes next, character by character."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from workers import spec
from workers.datasets.stored import Stored
from workers.problems import nets
from workers.problems.base import Metric, Problem, Split
from workers.problems.splits import TEST_SHARE
from workers.spec_errors import SpecError


class Text(Problem):
    metrics = (Metric("bits_per_character", "min", "bits"), Metric("accuracy", "max"))

    def __init__(self, part: spec.Text, data: Path | None) -> None:
        """Raises SpecError or Failure as `Stored.of` does."""
        self._part, self._stored = part, Stored.of(part, data)
        self._recipe = nets.of_text(part, self._stored.info["vocabulary_size"])

    def model(self) -> nn.Module:
        return self._recipe.build()

    def dataset(self, split: Split) -> Dataset[Any]:
        """Raises SpecError where a part of the text is shorter than the context."""
        pieces = Pieces(self._characters(split), self._part.model.context)
        if not len(pieces):
            raise SpecError.one("problem.model.context", f"the {split} part of {self._part.dataset} is not that long")
        return pieces

    def _characters(self, split: Split) -> npt.NDArray[Any]:
        if self._part.evaluate_on == "test":
            return self._stored.array(split)
        train = self._stored.array("train")
        kept = len(train) - round(len(train) * TEST_SHARE)
        return train[:kept] if split == "train" else train[kept:]

    def collate(self, examples: Any) -> Any:
        return examples  # `Pieces` makes its batches itself

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        seen, following = batch
        logits = model(seen).flatten(0, 1)
        loss = functional.cross_entropy(logits, following.flatten())
        right = (logits.detach().argmax(1) == following.flatten()).float().mean()
        return loss, {"bits_per_character": loss.detach() / math.log(2), "accuracy": right}


class Pieces(Dataset[tuple[Tensor, Tensor]]):
    """A text cut into pieces of `context` characters, each with the characters that follow its own: a pass sees every
    character once. What is left at the end is left out."""

    def __init__(self, characters: npt.NDArray[Any], context: int) -> None:
        self._characters, self._context = characters, context
        self._places = np.arange(context + 1)

    def __len__(self) -> int:
        return max(0, (len(self._characters) - 1) // self._context)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        seen, following = self.__getitems__([index])
        return seen[0], following[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        places = np.asarray(indices)[:, None] * self._context + self._places
        found = torch.from_numpy(self._characters[places].astype(np.int64))
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()
