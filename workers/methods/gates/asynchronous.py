"""Asynchronous SGD (Dean et al., 2012, "Large scale distributed deep networks", section 4.1, Downpour SGD).

Each gradient is an update of its own, applied as it comes; nobody waits for anybody.

We differ: a worker pushes and reads after every gradient; the paper lets several pass between (n_push, n_fetch), and
recommends Adagrad.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.gates.base import Gate


class Asynchronous(Gate):
    one_by_one = True

    def group(self, waiting: Sequence[int]) -> int:
        return min(1, len(waiting))
