"""Learning rate over the mean staleness (Gupta et al., 2015, arXiv:1509.04210, alpha = alpha_0 / <sigma>).

    s_i = 1 / N

With c gradients an update, the mean staleness is N / c, so that the paper's alpha_0 / (N / c) on a mean of c gradients
is 1 / N for each. N is the number of workers that live. It does not look at a gradient's own delay.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class MeanStaleness(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / max(1, live)] * len(staleness)
