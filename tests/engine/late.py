"""A device in the place of a GPU: its vectors are not the host's, and copies are as late as they may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.devices import HOST, Feed, Lane, Pairs


class LateLane:
    """Copies as late as a GPU might: not before somebody waits for them."""

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Tensor]] = []

    def copy(self, pairs: Pairs) -> None:
        self._pending += pairs

    def wait(self) -> None:
        for target, source in self._pending:
            target.copy_(source)
        self._pending = []

    join = wait


class LateDevice:
    """A CPU that behaves like a GPU towards host memory: its vectors are others, and copies take until waited for."""

    where = torch.device("cpu", 0)
    """Not what torch calls host memory, so that nobody takes it for that."""
    gpu = ""
    name = "a late device"

    def __init__(self) -> None:
        self.pinned: list[int] = []

    def seed(self, number: int) -> None:
        HOST.seed(number)

    def settle(self) -> None:
        pass

    def stamp(self) -> float:
        return HOST.stamp()

    def seconds(self, stamps: Sequence[float]) -> list[float]:
        return HOST.seconds(stamps)

    def pin(self, host: Tensor) -> Callable[[], object]:
        self.pinned.append(host.data_ptr())
        return lambda: self.pinned.remove(host.data_ptr())

    def lane(self) -> Lane:
        return LateLane()

    def feed(self, batches: Iterator[Any]) -> Feed:
        return HOST.feed(batches)
