"""Learning rate over the mean staleness (Gupta et al., 2015, arXiv:1509.04210, alpha = alpha_0 / <sigma>).

    s_i = 1 / N

Where c gradients make an update and nobody waits, the mean staleness is N / c, so that the paper's alpha_0 / (N / c)
on a mean of c gradients is 1 / N for each. It does not look at a gradient's own delay.

We differ: the mean staleness is the N / c that it comes to, not a measured one, and N is the number of workers that
live.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class MeanStaleness(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / max(1, live)] * len(staleness)
