"""The mean of recent weights, for evaluation and export (Polyak & Juditsky, 1992; in the form of Shamir & Zhang, 2013,
arXiv:1212.1824, polynomial-decay averaging, which forgets its beginnings).

    after each update:   rho = max(n / (R N), (k + 1) / (t + k)),   k = 8
                         average += rho (w - average)

t counts updates from 1, and n is the number of gradients in this one. Until the mean has grown long enough, its length
is about a ninth of the run so far; then it stays at R rounds of N gradients, one from each live trainer. Gradients that
come late push the weights to and fro with a period of about a round, and the mean over rounds takes that out. Trainers
never see it: they go on from the last weights.
"""

from __future__ import annotations

from torch import Tensor

from workers.methods.space import Space

DECAY = 8


class RecentMean:
    def __init__(self, *, rounds: float) -> None:
        self.rounds = rounds
        self.updates = 0

    def prepare(self, space: Space, first: Tensor) -> None:
        """Begin with the mean of nothing but `first`."""
        self.average = first.clone()
        self._tiles, self._weights = space.cut(self.average), space.weights

    def update(self, gradients: int, live: int) -> None:
        """Take in the weights that an update of so many gradients has made."""
        self.updates += 1
        share = max(gradients / (self.rounds * max(1, live)), (DECAY + 1) / (self.updates + DECAY))
        for mean, w in zip(self._tiles, self._weights, strict=True):
            mean.lerp_(w, min(1.0, share))
