"""What a rate rule is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Rate(Protocol):
    def scales(self, staleness: Sequence[int], workers: Sequence[int]) -> list[float]:
        """Give each of the c gradients of one update its scale s_i ≥ 0.

        `staleness` holds the d_i, versions between read and apply; `workers` who computed each. The server
        steps along sum(s_i g_i) / S by the rate eta * S with S = sum(s_i); S = 0 is no step.
        """
        ...
