"""Plain asynchronous SGD: every update takes one full step, however late its gradients are.

    s_i = 1 / c

c gradients are combined in an update; with c = 1 this is s = 1. It is the rate of Downpour SGD (Dean et al., 2012,
"Large scale distributed deep networks", section 4.1), which the paper joins with Adagrad.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class Constant(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / len(staleness)] * len(staleness)
