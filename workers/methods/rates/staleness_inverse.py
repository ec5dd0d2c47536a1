"""Staleness-dependent learning rate (Zhang et al., 2015, arXiv:1511.05950, section 3.2, eq. 6).

    s_i = 1 / (c * max(1, d_i))

A gradient d versions late takes a d-th of a step; fresh ones (d = 0) and those one version late a full one.
c gradients are combined in an update. We differ: the paper modulates per n-softsync update with all gradients
of one learning rate; we scale each gradient of an update by its own d.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class StalenessInverse(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / (len(staleness) * max(1, d)) for d in staleness]
