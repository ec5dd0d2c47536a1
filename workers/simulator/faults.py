"""When simulated trainers are lost and come back: virtual times by (seed, worker, number of the loss)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from workers import spec
from workers.simulator.times import nanoseconds
from workers.trainer.batches import FAULTS, generator


class Fault(NamedTuple):
    """Trainer `worker` is lost at `at`, and back at `back` (None: never); nanoseconds of virtual time."""

    at: int
    worker: int
    back: int | None


def scheduled(execution: spec.Simulate) -> list[Fault]:
    """The crashes a spec lists one by one."""
    found = []
    for fault in execution.faults:
        if isinstance(fault, spec.Crash):
            at, after = nanoseconds(fault.at_seconds), fault.back_after_seconds
            found.append(Fault(at, fault.worker, None if after is None else at + nanoseconds(after)))
    return found


def random_faults(execution: spec.Simulate, *, seed: int, worker: int) -> Iterator[Iterator[Fault]]:
    """One endless stream of a trainer's crashes for each entry that draws them; times rise within a stream."""
    for index, fault in enumerate(execution.faults):
        if isinstance(fault, spec.RandomCrashes):
            yield _stream(fault, seed, worker, index)


def _stream(fault: spec.RandomCrashes, seed: int, worker: int, index: int) -> Iterator[Fault]:
    at, number = 0, 0
    while True:
        at += nanoseconds(generator(seed, FAULTS, worker, index, number).exponential(fault.mean_up_seconds))
        back = at + nanoseconds(fault.down_seconds)
        yield Fault(at, worker, back)
        at, number = back, number + 1
