"""Synchronous SGD with backup workers (Chen et al., 2016, arXiv:1604.00981).

    w -= eta * mean of the first N - k gradients of the round

Those that come after it, computed on the version before, are dropped as they come, and their workers join the round
that is under way.

We differ: the paper counts N needed workers and b more; here N are all that live, k of them backups.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.gates.base import Gate


class Backup(Gate):
    drops_from = 1

    def __init__(self, *, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def group(self, waiting: Sequence[int]) -> int:
        needed = max(1, len(self.live) - self.extra)
        return needed if len(waiting) >= needed else 0
