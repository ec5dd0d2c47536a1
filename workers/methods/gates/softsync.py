"""Softsync: an update for every c gradients, whoever sent them (Zhang et al., 2015, arXiv:1511.05950, section 2.2,
n-softsync).

    w -= eta * sum_i s_i g_i   over the c gradients that came first;  mean staleness -> N / c

Two protocols:

- waiting: the workers of an update wait for it and read the version it makes. This is the protocol of the balanced
  learning rate (CN112861991A): slow workers are never cancelled, their gradients fall into later updates.
- not waiting (Zhang): a worker is answered at once, with the weights there are, and its gradient waits without it. It
  then does not see its own update: skip = -1, but for the gradient that completes the update, where it is 0.

While fewer than c workers live, all of them make an update, so that none waits for ever.

We differ: the paper names n, and c is floor(N / n); here c itself is named.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.gates.base import Gate


class Softsync(Gate):
    def __init__(self, *, c: int, waiting: bool) -> None:
        super().__init__()
        self.c = c
        self.answers_at_once = not waiting

    def group(self, waiting: Sequence[int]) -> int:
        # Who is answered at once can push again: then c gradients come together whoever lives.
        needed = self.c if self.answers_at_once else max(1, min(self.c, len(self.live)))
        return needed if len(waiting) >= needed else 0
