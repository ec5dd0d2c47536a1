"""The vectors that server batch norm exchanges."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from workers.methods.batch_norm.base import Place


class Statistics(NamedTuple):
    """A flat vector of statistics, in its four parts: each holds a value for every channel of every layer.

    `samples` are images. `number` is messages in what the server keeps, and values (m) in what a trainer reports.
    """

    mean: Tensor
    variance: Tensor
    samples: Tensor
    number: Tensor

    @classmethod
    def of(cls, flat: Tensor) -> Statistics:
        return cls(*flat.view(len(cls._fields), -1))

    def at(self, place: Place) -> Statistics:
        return Statistics(*(place.of(part) for part in self))
