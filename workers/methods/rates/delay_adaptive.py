"""Delay-adaptive steps (Mishchenko et al., 2022, arXiv:2206.07638).

    s_i = N / (c * max(N, d_i))

Up to N versions of delay take a full step; beyond that, N / d of one. N is the number of workers that live.

We differ: the paper's stepsize is min(1 / (4 L N), 1 / (4 L d)) up to constants, of a smoothness L that nobody knows;
here eta, as tuned, stands for the first of the two, and c gradients share an update.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class DelayAdaptive(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        workers_living = max(1, live)
        return [workers_living / (len(staleness) * max(workers_living, d)) for d in staleness]
