"""Local batch norm: trainers normalise by their own batch (Ioffe & Szegedy, 2015, arXiv:1502.03167, section 3.1).

The server keeps the running average that evaluation uses, over what all trainers report:

    aggregate = (1 - rho_t) * aggregate + rho_t * batch,     rho_t = max(rho, 1 / (t + 1))

t counts the batches before this one: the first sets it, the early ones are averaged, later ones fade.

Statistics are raw batch means and unbiased variances. A trainer's running buffers hold exactly these when torch's
momentum is 1, so they cost no pass of their own.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class LocalBatchNorm:
    def __init__(self, *, rho: float) -> None:
        self.rho = rho

    def prepare(self, model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 1.0

    def merge(self, aggregate: Tensor, reported: Tensor, messages: int) -> None:
        aggregate.lerp_(reported, max(self.rho, 1.0 / (messages + 1)))
