"""Local batch norm: trainers normalise by their own batch (Ioffe & Szegedy, 2015, arXiv:1502.03167, section 3.1).

The server keeps the running average that evaluation uses, over what all trainers report:

    aggregate = (1 - rho_t) * aggregate + rho_t * batch,     rho_t = max(rho, 1 / (t + 1))

t counts the batches before this one: the first sets it, the early ones are averaged, later ones fade.

Statistics are raw batch means and unbiased variances, as in the paper. A trainer's running buffers hold exactly these
when torch's momentum is 1, so they cost no pass of their own.

We differ: the paper leaves open how the moving average is made, and knows one trainer.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from workers.methods.batch_norm.base import Place, log_ratio


class LocalBatchNorm:
    parts = 2
    serves = False

    def __init__(self, *, rho: float) -> None:
        self.rho = rho

    def prepare(self, model: nn.Module, places: Sequence[Place], served: Tensor, reported: Tensor) -> None:
        for place in places:
            model.get_submodule(place.layer).momentum = 1.0  # type: ignore[assignment]

    def begin(self, reported: Tensor) -> None:
        """torch overwrites the running buffers by itself."""

    def merge(self, aggregate: Tensor, reported: Tensor, messages: int) -> None:
        aggregate.lerp_(reported, max(self.rho, 1.0 / (messages + 1)))

    def deviations(self, served: Tensor, reported: Tensor) -> tuple[Tensor, Tensor] | None:
        """A trainer normalises by its batch alone: mu_a is mu_B."""
        mean, variance = served.view(self.parts, -1)
        batch_mean, batch_variance = reported.view(self.parts, -1)
        return (batch_mean - mean).abs_(), log_ratio(batch_variance, variance)
