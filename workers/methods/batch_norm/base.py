"""What a batch-norm rule is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class BatchNorm(Protocol):
    def prepare(self, model: nn.Module) -> None:
        """Make a trainer's model leave the batch statistics to report in its running buffers."""
        ...

    def merge(self, aggregate: Tensor, reported: Tensor, messages: int) -> None:
        """Take what one trainer reported into the server's aggregate, in place.

        Both are flat: each layer's means, then its variances (unbiased). `messages` came before this one.
        """
        ...
