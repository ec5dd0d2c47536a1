"""Ringmaster ASGD (Maranjyan et al., 2025, arXiv:2501.16168), in the variant where workers finish what they began.

    a gradient of delay d >= R is dropped as it comes, and its worker goes on from the newest weights
    others: s_i = 1 / c

A dropped gradient makes no version. Among equally fast workers nothing is dropped where R >= 2 N.

We differ: the paper also has a variant that stops a worker in mid-gradient, which is not offered; and it has c = 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.rates.base import Rate


class Ringmaster(Rate):
    def __init__(self, *, R: int) -> None:  # noqa: N803 - the paper's name, and the spec's
        self.drops_from = R

    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        return [1.0 / len(staleness)] * len(staleness)
