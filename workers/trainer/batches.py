"""Which examples a trainer sees when: a function of (seed, worker, step) alone, so that any batch can be made again.

Trainer i of N owns every N-th element, from the i-th, of a permutation of all examples seeded by the run's seed. It
goes through them in passes, each in an order of its own, as one stream without gaps; batch k is elements
k * b to (k + 1) * b of that stream.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from workers.assignment import Cause
from workers.failures import from_user

# Each use of randomness has a stream of its own: adding one changes no other.
SLICES, ORDER, DELAYS, STEP, TIMES, BURSTS, MACHINES, FAULTS = range(8)
MASK = 2**64 - 1

Indices = npt.NDArray[np.int64]


def generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, *key]))


def number(seed: int, *key: int) -> int:
    """A seed of 63 bits for random numbers that are not numpy's; at each step, so it has to be quick.

    SplitMix64 (Steele et al., 2014, "Fast splittable pseudorandom number generators", figure 16) over the key.
    """
    state = seed
    for part in key:
        state = (state + part + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state >> 1


def slice_of(worker: int, workers: int, examples: int, seed: int) -> Indices:
    """The examples that trainer `worker` owns."""
    return _permutation(examples, seed)[worker::workers]


@lru_cache(maxsize=1)
def _permutation(examples: int, seed: int) -> Indices:
    """All slices are views of the one permutation: a simulation holds a thousand of them."""
    permutation = generator(seed, SLICES).permutation(examples)
    permutation.flags.writeable = False
    return permutation


class Batches:
    """The indices of a trainer's batches, by number."""

    def __init__(
        self, *, seed: int, worker: int, workers: int, examples: int, batch_size: int, rows: slice = slice(None)
    ) -> None:
        """`rows`: the part of each batch that is wanted."""
        self._seed, self._worker, self._batch_size, self._rows = seed, worker, batch_size, rows
        self._owned = slice_of(worker, workers, examples, seed)
        self._order = lru_cache(maxsize=2)(self._order_of_pass)

    def _order_of_pass(self, number: int) -> Indices:
        return generator(self._seed, ORDER, self._worker, number).permutation(self._owned)

    def __getitem__(self, number: int) -> list[int]:
        length = len(self._owned)
        start, stop = number * self._batch_size, (number + 1) * self._batch_size
        passes = range(start // length, (stop - 1) // length + 1)
        found: list[int] = []
        for p in passes:
            found += self._order(p)[max(0, start - p * length) : stop - p * length].tolist()
        return found[self._rows]


class _From(Sampler[list[int]]):
    """Batches from a number on, without end, for a DataLoader."""

    def __init__(self, batches: Batches, first: int) -> None:
        self._batches, self._first = batches, first

    def __iter__(self) -> Iterator[list[int]]:
        number = self._first
        while True:
            yield self._batches[number]
            number += 1


def stream(
    dataset: Dataset[Any], batches: Batches, first: int, collate: Callable[[Any], Any], loader_workers: int, seed: int
) -> Iterator[Any]:
    """The batches themselves, from number `first` on; with `loader_workers` fetched ahead by so many processes."""
    if loader_workers:
        loader = DataLoader(
            dataset,
            batch_sampler=_From(batches, first),
            num_workers=loader_workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(seed),
            # A child's own default is the forkserver, and a second one would load torch anew: two seconds.
            multiprocessing_context="fork",
            worker_init_fn=_on_its_own,
        )
        fetched: Iterator[Any] = iter(loader)
    else:
        fetched = (fetch(dataset, indices, collate) for indices in _From(batches, first))
    while True:
        try:
            batch = next(fetched)
        except MemoryError:
            raise
        except Exception as error:
            raise from_user("fetching training examples", error, Cause.DATA) from error
        yield batch


def _on_its_own(number: int) -> None:
    """In a loader process: SIGTERM ends it, and is no word to the trainer it was forked from."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def fetch(dataset: Dataset[Any], indices: Sequence[int], collate: Callable[[Any], Any]) -> Any:
    """Make one batch, asking for all examples at once where the data set can (torch's own convention)."""
    at_once = getattr(dataset, "__getitems__", None)
    return collate(at_once(indices) if at_once else [dataset[i] for i in indices])
