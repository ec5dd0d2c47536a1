"""How long a simulated trainer computes: nanoseconds by (seed, worker, step), so that each can be drawn again."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from workers import spec
from workers.trainer.batches import BURSTS, MACHINES, TIMES, generator

SECOND = 1_000_000_000
"""Nanoseconds. The virtual clock counts them in integers: sums of floats would depend on their order."""

BLOCK_STEPS = 64
"""Steps of a trainer whose numbers come from one generator: to make one takes 60 µs, to draw from it hardly any."""

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


class Stream:
    """Random numbers by (trainer, step), drawn a block of steps at a time. A trainer's newest block is kept."""

    def __init__(self, draw: Draw, *key: int, seed: int) -> None:
        self._draw, self._key, self._seed = draw, key, seed
        self._blocks: dict[int, tuple[int, list[float]]] = {}

    def of(self, worker: int, step: int) -> float:
        number, place = divmod(step, BLOCK_STEPS)
        held, values = self._blocks.get(worker, (-1, []))
        if held != number:
            values = self._draw(generator(self._seed, *self._key, worker, number), BLOCK_STEPS).tolist()
            self._blocks[worker] = number, values
        return values[place]


def uniform(random: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    return random.random(count)


def gamma(random: np.random.Generator, count: int, *, mean: float, shape: float) -> npt.NDArray[np.float64]:
    return random.gamma(shape, mean / shape, count)


def lognormal(random: np.random.Generator, count: int, *, mean: float, sigma: float) -> npt.NDArray[np.float64]:
    # exp(mu + sigma^2 / 2) is the mean of a lognormal.
    return random.lognormal(math.log(mean) - sigma * sigma / 2.0, sigma, count)


def nanoseconds(seconds: float) -> int:
    return round(seconds * SECOND)


class Times:
    """Compute times of all trainers of one simulation."""

    def __init__(self, execution: spec.Simulate, *, seed: int, workers: int) -> None:
        self._seed = seed
        self._seconds = self._source(execution.compute)
        self._bursts = [
            (Stream(uniform, BURSTS, index, seed=seed), slow)
            for index, slow in enumerate(execution.slow)
            if isinstance(slow, spec.Bursts)
        ]
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
        for chance, burst in self._bursts:
            if chance.of(worker, step) < burst.share:
                seconds *= burst.factor
        return max(1, nanoseconds(seconds))

    def _source(
        self, compute: spec.ConstantTimes | spec.GammaTimes | spec.LognormalTimes | spec.TraceTimes
    ) -> Callable[[int, int], float]:
        """Where the seconds by (trainer, step) come from, before anything slows them down."""
        match compute:
            case spec.ConstantTimes(mean_seconds=mean):
                return lambda worker, step: mean
            case spec.GammaTimes(mean_seconds=mean, shape=shape):
                return Stream(partial(gamma, mean=mean, shape=shape), TIMES, seed=self._seed).of
            case spec.LognormalTimes(mean_seconds=mean, sigma=sigma):
                return Stream(partial(lognormal, mean=mean, sigma=sigma), TIMES, seed=self._seed).of
            case spec.TraceTimes(seconds=lists):
                return lambda worker, step: lists[worker % len(lists)][step % len(lists[worker % len(lists)])]
