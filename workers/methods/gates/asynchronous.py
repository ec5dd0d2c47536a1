"""Asynchronous SGD (Dean et al., 2012, "Large scale distributed deep networks", section 4.1, Downpour).

Each gradient is an update of its own, applied as it comes; nobody waits for anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.gates.base import Gate


class Asynchronous(Gate):
    one_by_one = True

    def group(self, waiting: Sequence[int]) -> int:
        return min(1, len(waiting))
