"""Injected slowness: how long a batch should take, given how long it took. Seeded by (seed, worker, batch)."""

from __future__ import annotations

from collections.abc import Sequence

from workers import spec
from workers.trainer.batches import DELAYS, generator


class Delays:
    """The delays of a spec that fall on one trainer's computing. What holds up its messages is the line's business."""

    def __init__(self, delays: Sequence[spec.Delay], *, seed: int, worker: int) -> None:
        mine = [d for d in delays if d.workers is None or worker in d.workers]
        self._delays = [d for d in mine if not isinstance(d, spec.Latency)]
        self._seed, self._worker = seed, worker

    def __bool__(self) -> bool:
        return bool(self._delays)

    def seconds(self, batch: int, computed_seconds: float) -> float:
        """Seconds to wait after batch number `batch`, which took `computed_seconds`.

        A factor multiplies; a Gamma time is how long the batch takes in all. They act in the spec's order.
        """
        total = computed_seconds
        for index, delay in enumerate(self._delays):
            match delay:
                case spec.FactorDelay():
                    total *= delay.factor
                case spec.GammaDelay():
                    random = generator(self._seed, DELAYS, self._worker, batch, index)
                    total = max(total, random.gamma(delay.shape, delay.mean_seconds / delay.shape))
        return total - computed_seconds
