"""Staleness-dependent learning rate (Zhang et al., 2015, arXiv:1511.05950, section 2.4).

    s_i = 1 / (c * max(1, d_i))

A gradient d versions late takes a d-th of a step, each of the c gradients of an update by its own d. The paper's rate
is alpha_0 / d, which says nothing of d = 0: fresh gradients take a full step here.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class StalenessInverse(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / (len(staleness) * max(1, d)) for d in staleness]
