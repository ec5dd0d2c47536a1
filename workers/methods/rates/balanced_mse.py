"""Balanced learning rate, weighed by mean squared error (for CN112861991A/B). The formula is a reconstruction.

The weights l_i of the mean that minimise its noise (falling with c and the batch size b) plus its squared bias by
staleness, with k = kappa * b and V the population variance of the c delays:

    l_i = 1/c * (1 - c k dbar / (1 + k c V) * (d_i - dbar)), clipped at 0 and renormalised to sum 1
    s_i = l_i / (1 + dbar)

kappa compares the two: squared drift a version over the variance of one example's gradient. It has no default. Delays
that are all alike give s_i = 1 / (c (1 + d)).
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class BalancedMse(Rate):
    def __init__(self, *, kappa: float, batch_size: int) -> None:
        self._k = kappa * batch_size

    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        c = len(staleness)
        mean = sum(staleness) / c
        variance = sum((d - mean) ** 2 for d in staleness) / c
        slope = c * self._k * mean / (1.0 + self._k * c * variance)
        shares = [max(0.0, 1.0 - slope * (d - mean)) for d in staleness]
        # The least of the delays is never above their mean: its share is at least 1, and the sum above 0.
        whole = sum(shares) * (1.0 + mean)
        return [share / whole for share in shares]
