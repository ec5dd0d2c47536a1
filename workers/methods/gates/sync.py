"""Synchronous SGD: an update waits for a gradient of every live worker (Chen et al., 2016, arXiv:1604.00981; hardsync
in Zhang et al., 2015, arXiv:1511.05950, section 2.2).

    w -= eta * mean_i g_i

With s_i = 1 / c it equals SGD with an N times larger batch. Nobody's gradient is ever late.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.gates.base import Gate


class Synchronous(Gate):
    def group(self, waiting: Sequence[int]) -> int:
        return len(waiting) if waiting and len(waiting) >= len(self.live) else 0
