"""What a compensation is: a change of a late gradient, element by element, so that it can be made tile by tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
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
        return torch.zeros(self.size)

    def zeros_per_worker(self) -> Tensor:
        return torch.zeros(self.workers, self.size)

    def scratch(self) -> Tensor:
        """Room for one tile."""
        return torch.empty(max(w.numel() for w in self.weights))


class Compensation(ABC):
    looks_ahead: bool = False
    """Whether workers are sent other weights than the server's own."""

    @abstractmethod
    def prepare(self, space: Space) -> None:
        """Make room for what is kept. Called once, before the first gradient."""

    @abstractmethod
    def adjust(self, index: int, worker: int, gradient: Tensor, base: Tensor) -> Tensor:
        """The direction to step along for tile `index` of a gradient that `worker` computed on `base`.

        Called once for each tile of each gradient, in order, before the step. `gradient` stays as it is; what is
        returned may be overwritten by the next call.
        """

    def state(self) -> dict[str, Tensor]:
        """Its vectors by name, to save or to load in place."""
        return {}

    def look_ahead(self, index: int, out: Tensor, rate: float) -> None:
        """Write what workers are sent into `out`; `rate` is eta. Only where `looks_ahead`."""
        raise NotImplementedError


class MomentumOwner(Compensation):
    """A compensation with a momentum of its own: it stands in for the optimizer's, and adds the weight decay."""
