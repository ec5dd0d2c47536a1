"""Batch-norm statistics through the server (CN112016699A/B, WO2022042741A1). The formulas are a reconstruction.

The patent states the method: the server derives a *first* statistic of a layer from its history and sends it; a worker
measures its batch's *target* statistic, derives the *actual* one from both, normalises with that, and sends the target
statistic back. Nobody waits for anybody's statistics. Its own formulas are not publicly readable; ours take both
statistics as samples of one distribution and mix them by how many samples each rests on (the law of total variance):

    alpha = b / (b + min(n0, samples the server has seen))
    mu_a  = (1 - alpha) mu_S + alpha mu_B
    var_a = (1 - alpha) var_S + alpha var_B + alpha (1 - alpha) (mu_B - mu_S)^2
    y     = gamma (x - mu_a) / sqrt(var_a + eps) + beta

    server, message t = 0, 1, ... of this layer, rho_t = max(rho, 1 / (t + 1)):
    var_S = (1 - rho_t) var_S + rho_t var_B + rho_t (1 - rho_t) (mu_B - mu_S)^2
    mu_S  = mu_S + rho_t (mu_B - mu_S)

b counts images, of convolutions too (values within an image are correlated); var_B is the biased variance of the
m = b x positions values, but the first message sets var_S to the unbiased one. Averaging unbiased variances instead
would come out too small for convolutions of small batches: what lies between the batches is missing in each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workers.methods.batch_norm.base import Place, log_ratio
from workers.methods.batch_norm.served_layer import ServedLayer
from workers.methods.batch_norm.statistics import Statistics


class ServerBatchNorm:
    parts = len(Statistics._fields)
    serves = True

    def __init__(self, *, rho: float, n0: int) -> None:
        self.rho = rho
        self.n0 = n0

    def prepare(self, model: nn.Module, places: Sequence[Place], served: Tensor, reported: Tensor) -> None:
        """Replace the forward of each layer. Raises ValueError for a layer with a forward of its own."""
        known, found = Statistics.of(served), Statistics.of(reported)
        for place in places:
            module = model.get_submodule(place.layer)
            # Parameters, buffers, hooks and names stay the module's, so that checkpoints are of the ordinary model.
            module.forward = ServedLayer(module, known.at(place), found.at(place), self.n0)

    def begin(self, reported: Tensor) -> None:
        reported.zero_()

    def merge(self, aggregate: Tensor, reported: Tensor, messages: int) -> None:
        """Each layer counts its own messages: one that a batch did not pass through has sent none (b = 0)."""
        known, found = Statistics.of(aggregate), Statistics.of(reported)
        told = found.samples > 0
        rho = (1.0 / (known.number + 1.0)).clamp_(min=self.rho).mul_(told)
        apart = found.mean - known.mean
        total = torch.lerp(known.variance, found.variance, rho).addcmul_(rho * (1.0 - rho), apart.square_())
        unbiased = found.variance * (found.number / (found.number - 1.0))
        known.variance.copy_(torch.where(told & (known.number == 0), unbiased, total))
        known.mean.lerp_(found.mean, rho)
        known.samples.add_(found.samples)
        known.number.add_(told)

    def deviations(self, served: Tensor, reported: Tensor) -> tuple[Tensor, Tensor] | None:
        known, found = Statistics.of(served), Statistics.of(reported)
        if not bool(known.samples.any()):
            return None
        alpha = found.samples / (found.samples + known.samples.clamp(max=self.n0)).clamp_(min=1.0)
        return (found.mean - known.mean).mul_(alpha).abs_(), log_ratio(found.variance, known.variance)
