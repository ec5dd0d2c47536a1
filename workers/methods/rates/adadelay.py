"""AdaDelay (Sra et al., 2015, arXiv:1508.05003): steps that fall with time and delay.

    s_i = 1 / (c * (1 + kappa * sqrt(t + d_i)))

t is the server's version before the update. The rule is a schedule of its own, so the spec wants a constant one.

We differ in names: the paper's stepsize is 1 / (L + b sqrt(t + d)) with the smoothness L; eta = 1 / L and kappa = b / L
here. c gradients may share an update; the paper has c = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from workers.methods.rates.base import Rate


class AdaDelay(Rate):
    def __init__(self, *, kappa: float) -> None:
        self._kappa = kappa

    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / (len(staleness) * (1.0 + self._kappa * math.sqrt(version + d))) for d in staleness]
