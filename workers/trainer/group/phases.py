"""Where a device's time goes in a step, and its bytes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from workers.events import PHASES, TRAFFIC

KINDS = {
    "features": "last_layer",
    "labels": "last_layer",
    "softmax": "last_layer",
    "loss": "last_layer",
    "feature gradients": "last_layer",
    "convolution gradients": "convolutions",
    "batch norm": "batch_norm",
    "metrics": "metrics",
}
"""What each exchange counts as."""


class Stopwatch:
    """`workers.methods.hybrid.base.Phases`: seconds of each phase since the last `take`."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def take(self) -> list[float]:
        """A step is over: hand out its seconds, in the order of `workers.events.PHASES`, and begin the next one's."""
        found = list(self.seconds.values())
        self.seconds = dict.fromkeys(PHASES, 0.0)
        return found


class Traffic:
    """Bytes that a device sent, by what they were for."""

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()

    def since_last(self, sent: Mapping[str, int]) -> list[int]:
        """In the order of `workers.events.TRAFFIC`."""
        total: Counter[str] = Counter()
        for what, count in sent.items():
            total[KINDS.get(what, what)] += count
        found = [total[kind] - self._before[kind] for kind in TRAFFIC]
        self._before = total
        return found
