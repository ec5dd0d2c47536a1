"""A group whose devices take turns in one process: what simulations and replays compute with.

Each device is a thread, and one runs at a time: until it needs what another has not made yet. Random numbers are each
device's own, as they are in processes. Sums go in the order of ranks, so the results are those of a real group, to the
bit.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class OutOfStep(RuntimeError):
    """The devices do not call the same operations, or one of them has failed."""


class Turns:
    """Who runs, and what has been put down for whom."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.deposits = 0
        self._boxes: dict[int, dict[int, list[Tensor]]] = {}
        self._taken: Counter[int] = Counter()
        self._batons = [threading.Semaphore(0) for _ in range(size)]
        self._over = [False] * size
        self.failed = False
        # They stay: a thread that is new to torch starts helpers of its own, which takes milliseconds.
        self.threads = ThreadPoolExecutor(size, thread_name_prefix="device")

    def start(self) -> None:
        self._over = [False] * self.size
        self._batons[0].release()

    def take(self, rank: int) -> None:
        """Wait for this device's turn."""
        self._batons[rank].acquire()

    def hand_on(self, rank: int) -> None:
        """Let the next device that is not done go on."""
        following = [(rank + step) % self.size for step in range(1, self.size + 1)]
        heir = next((r for r in following if not self._over[r]), None)
        if heir is not None:
            self._batons[heir].release()

    def done(self, rank: int) -> None:
        self._over[rank] = True
        self.hand_on(rank)

    def put(self, number: int, rank: int, parts: list[Tensor]) -> None:
        self.deposits += 1
        self._boxes.setdefault(number, {})[rank] = parts

    def ready(self, number: int) -> bool:
        return len(self._boxes.get(number, ())) == self.size

    def get(self, number: int, rank: int) -> list[Tensor]:
        box = self._boxes[number]
        self._taken[number] += 1
        if self._taken[number] == self.size:
            del self._boxes[number], self._taken[number]
        return [box[r][rank] for r in range(self.size)]


class TakingTurns:
    """One device's end: `workers.methods.hybrid.base.Collectives`."""

    def __init__(self, turns: Turns, rank: int) -> None:
        self._turns, self.rank, self.size = turns, rank, turns.size
        self._number = 0
        self.sent_bytes: Counter[str] = Counter()

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[Sequence[int]], what: str) -> Handed:
        self._number += 1
        away = [p for r, p in enumerate(parts) if r != self.rank]
        self.sent_bytes[what] += sum(p.numel() * p.element_size() for p in away)
        # Copies: this device may change its own while another has not come to its turn yet.
        self._turns.put(self._number, self.rank, [p.detach().clone() for p in parts])
        return Handed(self._turns, self._number, self.rank, shapes)


class Handed:
    def __init__(self, turns: Turns, number: int, rank: int, shapes: Sequence[Sequence[int]]) -> None:
        self._turns, self._number, self._rank, self._shapes = turns, number, rank, shapes

    def wait(self) -> list[Tensor]:
        turns, seen = self._turns, -1
        while not turns.ready(self._number):
            if turns.failed or turns.deposits == seen:
                raise OutOfStep(f"device {self._rank} waits for what no other device sends")
            seen = turns.deposits
            self._let_others_run()
        return [p.reshape(tuple(s)) for p, s in zip(turns.get(self._number, self._rank), self._shapes, strict=True)]

    def _let_others_run(self) -> None:
        torchs, pythons = torch.get_rng_state(), random.getstate()
        self._turns.hand_on(self._rank)
        self._turns.take(self._rank)
        torch.set_rng_state(torchs)
        random.setstate(pythons)


def play(ends: Sequence[TakingTurns], turns: Turns, parts: Sequence[Callable[[], T]]) -> list[T]:
    """Run one function for each device, in turns; returns what they return. Raises the first one's error."""
    results: list[Any] = [None] * turns.size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        turns.take(rank)
        try:
            if not turns.failed:
                results[rank] = parts[rank]()
        except BaseException as error:  # noqa: BLE001 - a thread ends here; its error is raised below
            errors.append(error)
            turns.failed = True
        turns.done(rank)

    playing = [turns.threads.submit(run, end.rank) for end in ends]
    turns.start()
    wait(playing)
    if errors:
        raise errors[0]
    return results


def room(size: int) -> tuple[Turns, list[TakingTurns]]:
    """A group of `size` devices."""
    turns = Turns(size)
    return turns, [TakingTurns(turns, rank) for rank in range(size)]
