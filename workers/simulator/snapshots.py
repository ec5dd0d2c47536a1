"""What simulated trainers read: one copy of each version that somebody still holds, however many hold it."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakValueDictionary

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Weights of a version, and the server's batch-norm statistics with them. Nobody writes into it."""

    version: int
    gradients: int
    """Gradients that had been applied in all."""
    weights: Tensor
    served: Tensor


class Snapshots:
    """Snapshots by version. One lives as long as a trainer holds it."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[int, Snapshot] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._held)

    def of(self, version: int, gradients: int, weights: Tensor, served: Tensor) -> Snapshot:
        """The snapshot of `version`; made of the two vectors where there is none yet."""
        found = self._held.get(version)
        if found is None:
            found = private(version, gradients, weights, served)
            self._held[version] = found
        return found


def private(version: int, gradients: int, weights: Tensor, served: Tensor) -> Snapshot:
    """A snapshot of one trainer's own weights, which no other reads."""
    return Snapshot(version, gradients, weights.clone(memory_format=torch.contiguous_format), served.clone())
