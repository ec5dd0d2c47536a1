"""Batch norm over the whole batch of a machine group: each device has a part of it, and all normalise alike.

    mu_B  = sum_g (b_g / b) mu_g
    var_B = sum_g (b_g / b) (var_g + (mu_g - mu_B)^2)          (Chan et al., 1979, eq. 2.1, of all parts at once)

With statistics of the server beside them (`batch_norm.server`), mu_a and var_a follow from these as there; without,
they are these. The backward needs two sums over the group's batch a channel, which are exchanged like the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from workers.methods.batch_norm.base import BatchNorm, Place
from workers.methods.batch_norm.served_layer import ServedLayer, torchs_own, weight_of
from workers.methods.batch_norm.server import ServerBatchNorm
from workers.methods.batch_norm.statistics import Statistics
from workers.methods.hybrid.base import Collectives, all_gather, all_reduce_sum
from workers.methods.hybrid.base import Slices as Parts


def synchronise(
    model: nn.Module,
    places: Sequence[Place],
    rule: BatchNorm,
    served: Tensor,
    reported: Tensor,
    group: Collectives,
    images: Parts,
) -> None:
    """Have the model's batch-norm layers normalise over the whole group; every device leaves the same statistics in
    `reported`. Raises ValueError for a layer with a forward of its own."""
    for place in places:
        module = model.get_submodule(place.layer)
        if isinstance(rule, ServerBatchNorm):
            known, found = Statistics.of(served).at(place), Statistics.of(reported).at(place)
            module.forward = ServedSynced(module, known, found, rule.n0, group, images)
        else:
            mean, variance = reported.view(2, -1)
            module.forward = LocalSynced(module, place.of(mean), place.of(variance), group, images)


class Pooling:
    """Statistics of the group's batch, and how many values and images they rest on."""

    def __init__(self, group: Collectives, images: Parts) -> None:
        self.group, self.images = group, images

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance over the batches of all devices."""
        # Of 16-bit values in 32 bits, too: they travel, and are summed.
        values = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        own = torch.stack(torch.batch_norm_update_stats(values, None, None, 0.0)).unsqueeze(0)
        every = all_gather(self.group, own, Parts((1,) * self.group.size), "batch norm")
        shares = torch.tensor(self.images.counts, dtype=own.dtype).div_(self.images.total).view(-1, 1).to(x.device)
        means, variances = every[:, 0], every[:, 1]
        mean = (means * shares).sum(0)
        return mean, ((variances + (means - mean).square_()) * shares).sum(0)

    def values(self, x: Tensor) -> int:
        """Of all devices, in one channel."""
        positions = x.numel() // (x.shape[0] * x.shape[1])
        found = self.images.total * positions
        if found <= 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        return found


class LocalSynced:
    """Local batch norm, where the batch is the group's. Leaves its mean and unbiased variance, as torch would."""

    def __init__(self, module: nn.Module, mean: Tensor, variance: Tensor, group: Collectives, images: Parts) -> None:
        self._module = torchs_own(module)
        self._mean, self._variance = mean, variance
        self._pool = Pooling(group, images)

    def __call__(self, x: Tensor) -> Tensor:
        module, values = self._module, self._pool.values(x)
        module._check_input_dim(x)  # type: ignore[no-untyped-call]
        mean, variance = self._pool.statistics(x)
        self._mean.copy_(mean)
        self._variance.copy_(variance * (values / (values - 1)))
        y: Tensor = Normalise.apply(  # type: ignore[no-untyped-call]
            x, module.weight, module.bias, mean, variance, (mean, None), 1.0, module.eps, self._pool.group, values
        )
        return y


class ServedSynced(ServedLayer):
    """Batch norm through the server, where the batch is the group's."""

    def __init__(
        self,
        module: nn.Module,
        known: Statistics,
        found: Statistics,
        n0: int,
        group: Collectives,
        images: Parts,
    ) -> None:
        super().__init__(module, known, found, n0)
        self._pool = Pooling(group, images)

    def __call__(self, x: Tensor) -> Tensor:
        module, pool, known = self._module, self._pool, self._known
        module._check_input_dim(x)  # type: ignore[no-untyped-call]
        values = pool.values(x)
        mean, variance = pool.statistics(x)
        alpha = weight_of(pool.images.total, float(known.samples[0]), self._n0)
        apart = mean - known.mean
        actual_mean = torch.lerp(known.mean, mean, alpha)
        actual = torch.lerp(known.variance, variance, alpha).add_(apart.square(), alpha=alpha * (1.0 - alpha))
        y: Tensor = Normalise.apply(  # type: ignore[no-untyped-call]
            x, module.weight, module.bias, actual_mean, actual, (mean, apart), alpha, module.eps, pool.group, values
        )
        self._pool_into(mean, variance, images=pool.images.total, values=values)
        return y


class Normalise(torch.autograd.Function):
    """As `batch_norm.served_layer` derives it; the two sums that mu_B and var_B bring in go over the whole group."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        batch: tuple[Tensor, Tensor | None],
        alpha: float,
        eps: float,
        group: Collectives,
        values: int,
    ) -> Tensor:
        """`batch`: mu_B, and mu_B - mu_S where the server has statistics."""
        ctx.save_for_backward(x, weight, mean, variance, *batch)
        ctx.alpha, ctx.eps, ctx.group, ctx.values = alpha, eps, group, values
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, batch_mean, apart = ctx.saved_tensors
        alpha, eps = ctx.alpha, ctx.eps
        at_x, at_weight, at_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, eps, [True, True, True]
        )
        sums = all_reduce_sum(ctx.group, torch.cat((at_weight, at_bias)), "batch norm")
        all_weight, all_bias = sums.view(2, -1)
        r = (variance + eps).rsqrt_()
        gamma_r = r if weight is None else weight * r
        at_mean = -gamma_r * all_bias
        at_variance = -0.5 * gamma_r * r * all_weight
        at_batch_mean = alpha * at_mean
        if apart is not None:
            at_batch_mean += 2.0 * alpha * (1.0 - alpha) * apart * at_variance
        slope = at_variance * (2.0 * alpha / ctx.values)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        at_x.addcmul_(x, slope.view(shape)).add_((at_batch_mean / ctx.values - slope * batch_mean).view(shape))
        needed = ctx.needs_input_grad
        return (
            at_x if needed[0] else None,
            at_weight if needed[1] else None,
            at_bias if needed[2] else None,
            *(None,) * 7,
        )
