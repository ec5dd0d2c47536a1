"""What a rate rule is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence


class Rate(ABC):
    drops_from: float = math.inf
    """Gradients this many versions late are dropped as they come."""

    @abstractmethod
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        """Give each of the c gradients of one update its scale s_i ≥ 0.

        `staleness` holds the d_i, versions between read and apply; `workers` who computed each; `version` the server's
        before the update; `live` how many workers there are. The server steps along sum(s_i g_i) / S by the rate
        eta * S with S = sum(s_i); S = 0 is no step.
        """

    def accept(self, asked: float, staleness: int) -> float:
        """The scale of a gradient whose learner asked for one. Raises ValueError where that is not its business."""
        raise ValueError("this run's rate rule takes no scale from a learner")
