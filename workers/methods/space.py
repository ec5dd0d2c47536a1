"""The room that a method works in: the server's weights, cut into tiles, and vectors of its own cut alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Tiles = tuple[Tensor, ...]


@dataclass(frozen=True)
class Space:
    """The server's weights as tiles, and how vectors beside them are cut alike."""

    weights: Tiles
    cut: Callable[[Tensor], Tiles]
    decays: tuple[float, ...]
    """Weight decay of each tile."""
    scales: tuple[float, ...]
    """Learning-rate scale of each tile."""
    size: int
    workers: int

    def zeros(self) -> Tensor:
        return self.weights[0].new_zeros(self.size)

    def zeros_per_worker(self) -> Tensor:
        return self.weights[0].new_zeros(self.workers, self.size)

    def scratch(self) -> Tensor:
        """Room for one tile."""
        return self.weights[0].new_empty(max(w.numel() for w in self.weights))
