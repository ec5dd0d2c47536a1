"""Balanced learning rate (CN112861991A/B). The formula is a reconstruction.

The patent states the protocol (softsync that waits, each of the c gradients adjusted separately, by how many rounds
it is late); its own formula is not publicly readable. Ours weighs the gradients of an update against each other:

    u_i = 1 / (1 + d_i);  dbar = mean_i d_i;  s_i = u_i / sum_j u_j / (1 + dbar)

Fresh gradients are a plain mean (s_i = 1 / c); late ones count less than the others of their update, and an update of
late ones is shorter as a whole: S = 1 / (1 + dbar). No constant is to be tuned.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class Balanced(Rate):
    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        shares = [1.0 / (1 + d) for d in staleness]
        mean = sum(staleness) / len(staleness)
        whole = sum(shares) * (1.0 + mean)
        return [u / whole for u in shares]
