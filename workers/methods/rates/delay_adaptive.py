"""Delay-adaptive steps (Mishchenko et al., 2022, arXiv:2206.07638).

    s_i = N / (c * max(N, d_i))

Up to N versions of delay take a full step; beyond that, N / d of one. With c = 1 this is the rate of the authors' own
experiments, lr N / max(N, d) for a tuned lr; their theory has a smoothness constant in lr's place.

We differ: c gradients may share an update, and N is the number of workers that live.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class DelayAdaptive(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        workers_living = max(1, live)
        return [workers_living / (len(staleness) * max(workers_living, d)) for d in staleness]
