"""What a batch-norm rule is.

Statistics travel as flat vectors of a few values a channel, all layers side by side: all means first, then all
variances, then what the rule keeps beside them. A layer lies at the same place in each of these parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor, nn

VARIANCE_FLOOR = 1e-5
"""torch's eps: a channel that is constant over a batch has variance 0, and no logarithm."""


class Place(NamedTuple):
    """One layer's channels within each part of a vector of statistics."""

    layer: str
    """Its name in the model, as `get_submodule` takes it."""
    offset: int
    size: int

    def of(self, part: Tensor) -> Tensor:
        return part[self.offset : self.offset + self.size]


class BatchNorm(Protocol):
    parts: int
    """Values for each channel, in what trainers report and in what the server keeps."""
    serves: bool
    """Whether trainers read the server's aggregate, with the weights and under their version."""

    def prepare(self, model: nn.Module, places: Sequence[Place], served: Tensor, reported: Tensor) -> None:
        """Make a trainer's model leave its batch statistics in `reported`.

        Its running buffers are views of the first two parts of `served` if the rule serves, else of `reported`.
        """
        ...

    def begin(self, reported: Tensor) -> None:
        """Called before the first batch of each push."""
        ...

    def merge(self, aggregate: Tensor, reported: Tensor, messages: int) -> None:
        """Take what one trainer reported into the server's aggregate, in place. `messages` came before this one."""
        ...

    def deviations(self, served: Tensor, reported: Tensor) -> tuple[Tensor, Tensor] | None:
        """|mu_a - mu_S| and |log(var_B / var_S)| of every channel; `served` is the aggregate the batch was held
        against. None: the server knew no statistics yet."""
        ...


def log_ratio(variance: Tensor, other: Tensor) -> Tensor:
    """|log(variance / other)| of every channel."""
    return (variance + VARIANCE_FLOOR).div_(other + VARIANCE_FLOOR).log_().abs_()
