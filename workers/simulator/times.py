"""How long a simulated trainer computes: nanoseconds by (seed, worker, step), so that each can be drawn again."""

from __future__ import annotations

import math

from workers import spec
from workers.trainer.batches import BURSTS, MACHINES, TIMES, generator

SECOND = 1_000_000_000
"""Nanoseconds. The virtual clock counts them in integers: sums of floats would depend on their order."""


def nanoseconds(seconds: float) -> int:
    return round(seconds * SECOND)


class Times:
    """Compute times of all trainers of one simulation."""

    def __init__(self, execution: spec.Simulate, *, seed: int, workers: int) -> None:
        self._compute = execution.compute
        self._seed = seed
        self._bursts = [(i, s) for i, s in enumerate(execution.slow) if isinstance(s, spec.Bursts)]
        self.factors = [1.0] * workers
        """What each trainer's times are multiplied by, bursts apart."""
        for index, slow in enumerate(execution.slow):
            self._slow_down(index, slow, workers)

    def _slow_down(
        self, index: int, slow: spec.Bursts | spec.Straggler | spec.HalfSlow | spec.Machines, workers: int
    ) -> None:
        match slow:
            case spec.Straggler():
                self.factors[slow.worker] *= slow.factor
            case spec.HalfSlow():
                for worker in range(workers // 2, workers):
                    self.factors[worker] *= slow.factor
            case spec.Machines():
                shape = slow.variation**-2
                for worker in range(workers):
                    self.factors[worker] *= generator(self._seed, MACHINES, worker, index).gamma(shape, 1.0 / shape)
            case spec.Bursts():
                pass  # drawn anew at each push

    def of(self, worker: int, step: int) -> int:
        """Nanoseconds that trainer `worker` computes for its push number `step`; at least 1."""
        seconds = self._seconds(worker, step) * self.factors[worker]
        for index, burst in self._bursts:
            if generator(self._seed, BURSTS, worker, step, index).random() < burst.share:
                seconds *= burst.factor
        return max(1, nanoseconds(seconds))

    def _seconds(self, worker: int, step: int) -> float:
        match self._compute:
            case spec.ConstantTimes(mean_seconds=mean):
                return mean
            case spec.GammaTimes(mean_seconds=mean, shape=shape):
                return float(generator(self._seed, TIMES, worker, step).gamma(shape, mean / shape))
            case spec.LognormalTimes(mean_seconds=mean, sigma=sigma):
                # exp(mu + sigma^2 / 2) is the mean of a lognormal.
                mu = math.log(mean) - sigma * sigma / 2.0
                return float(generator(self._seed, TIMES, worker, step).lognormal(mu, sigma))
            case spec.TraceTimes(seconds=lists):
                times = lists[worker % len(lists)]
                return times[step % len(times)]
