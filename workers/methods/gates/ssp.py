"""Stale synchronous parallel (Ho et al., 2013, "More effective distributed ML via a stale synchronous parallel
parameter server").

A worker's clock is the number of its gradients taken so far. Gradients are applied as they come, but a worker goes on
only while

    its clock - the least clock of all live workers <= bound

so that nobody works more than `bound` rounds ahead of the slowest; bound = 0 is a barrier after every round.

A worker that joins starts at the least clock there is: it is nobody's fault that it was not there before.

We differ: the paper's workers may read cached weights that are up to `bound` rounds old; here, whoever goes on reads
the newest there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.methods.gates.base import Gate


class StaleSynchronous(Gate):
    def __init__(self, *, bound: int) -> None:
        super().__init__()
        self.bound = bound
        self.clocks: dict[int, int] = {}

    def join(self, worker: int) -> None:
        self.clocks[worker] = min(self.clocks.values(), default=0)
        super().join(worker)

    def leave(self, worker: int) -> None:
        self.clocks.pop(worker, None)
        super().leave(worker)

    def group(self, waiting: Sequence[int]) -> int:
        return min(1, len(waiting))

    def taken(self, worker: int) -> None:
        if worker in self.clocks:
            self.clocks[worker] += 1

    def may_go_on(self, worker: int) -> bool:
        return worker not in self.clocks or self.clocks[worker] - min(self.clocks.values()) <= self.bound
