"""Sliding-window staleness context (CN106779093A). The formulas are a reconstruction.

The patent states the method: each learner samples the staleness of its past rounds through a sliding window, computes
a context value and adjusts its own learning rate by it before it asks for an update. Its formula is not publicly
readable; ours is the plainest one that is 1 without staleness and falls as its forecast grows:

    learner: ctx = mean of the last W staleness samples;  s = 1 / (1 + ctx);  before the first sample ctx = N - 1
    server:  checks 0 < s <= 1; the answer carries the staleness d that this gradient met
    cap (off by default, not in the patent): s = min(s, 1 / (1 + d)) at the server

s is a forecast: when a gradient is sent, nobody knows how late it will be applied. N trainers of one speed meet
d = N - 1, which is why a learner that knows nothing yet assumes it. Besides the mean, ctx may be

    ema:  ctx += 2 / (W + 1) (d - ctx), from N - 1 on          p75:  the window's upper quartile

One gradient makes one update (c = 1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

from workers.methods.rates.base import Rate

Context = Literal["mean", "ema", "p75"]


class Window:
    """A learner's side: the staleness its gradients met, and the scale it asks for."""

    def __init__(self, *, size: int, context: Context, workers: int) -> None:
        self._kind = context
        self._samples: deque[int] = deque(maxlen=size)
        self._cold = float(workers - 1)
        self._average = self._cold
        self._forget = 2.0 / (size + 1)

    def add(self, staleness: int) -> None:
        """Slide the window by the staleness that the last gradient met."""
        self._samples.append(staleness)
        self._average += self._forget * (staleness - self._average)

    @property
    def context(self) -> float:
        if not self._samples:
            return self._cold
        match self._kind:
            case "mean":
                return sum(self._samples) / len(self._samples)
            case "ema":
                return self._average
            case "p75":
                return upper_quartile(self._samples)

    @property
    def scale(self) -> float:
        return 1.0 / (1.0 + self.context)


def upper_quartile(samples: Sequence[int]) -> float:
    """The value that a quarter of the samples lie above, between neighbours in proportion."""
    ordered = sorted(samples)
    place = 0.75 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


class WindowRate(Rate):
    """The server's side: it takes the scale that a learner asks for."""

    def __init__(self, *, size: int, context: Context, cap: bool) -> None:
        self.size = size
        self.context: Context = context
        self.cap = cap

    def window(self, workers: int) -> Window:
        """A learner's window, empty: a learner that starts anew starts cold."""
        return Window(size=self.size, context=self.context, workers=workers)

    def scales(self, staleness: Sequence[int], workers: Sequence[int], version: int = 0, live: int = 1) -> list[float]:
        """Raises ValueError: this rule has no scale of its own to give."""
        raise ValueError("rate.kind window takes the scale from the learner, and none came with the gradient")

    def accept(self, asked: float, staleness: int) -> float:
        """The scale that a gradient gets, of the one its learner asked for. Raises ValueError outside 0 < s <= 1."""
        if not 0.0 < asked <= 1.0:
            raise ValueError(f"a learner's scale is above 0 and at most 1, got {asked}")
        return min(asked, 1.0 / (1 + staleness)) if self.cap else asked
