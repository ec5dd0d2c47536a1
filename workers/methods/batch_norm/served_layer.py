"""A trainer's batch norm under the server's statistics: the forward and backward of `server.py`'s formulas."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from workers.methods.batch_norm.statistics import Statistics


class ServedLayer:
    """What a BatchNorm1d, 2d or 3d calls as its forward. `known` is the server's, `found` what goes back to it."""

    def __init__(self, module: nn.Module, known: Statistics, found: Statistics, n0: int) -> None:
        self._module = torchs_own(module)
        self._known = known
        self._found = found
        self._n0 = n0

    def __call__(self, x: Tensor) -> Tensor:
        module = self._module
        module._check_input_dim(x)  # type: ignore[no-untyped-call]
        if not module.training:
            return functional.batch_norm(
                x, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps
            )
        alpha = weight_of(x.shape[0], float(self._known.samples[0]), self._n0)
        y, mean, variance = normalise(
            x, module.weight, module.bias, self._known.mean, self._known.variance, alpha=alpha, eps=module.eps
        )
        self._pool_into(mean, variance, images=x.shape[0], values=x.numel() // x.shape[1])
        return y

    def _pool_into(self, mean: Tensor, variance: Tensor, *, images: int, values: int) -> None:
        """Batches of one push are pooled: their values together (Chan et al., 1979, eq. 2.1)."""
        found = self._found
        before = float(found.number[0])
        if before:
            share = values / (before + values)
            found.variance.lerp_(variance, share).add_((mean - found.mean).square_(), alpha=share * (1.0 - share))
            found.mean.lerp_(mean, share)
        else:
            found.mean.copy_(mean)
            found.variance.copy_(variance)
        found.samples.add_(images)
        found.number.add_(values)


def torchs_own(module: nn.Module) -> _BatchNorm:
    """The module, where its forward is torch's. Raises ValueError for one that brings its own."""
    if isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward:
        return module
    name = type(module).__name__
    raise ValueError(f"no other batch norm can stand in for {name}, which has a forward of its own")


def weight_of(batch_size: int, seen: float, n0: int) -> float:
    """alpha: the batch's weight beside the server's statistics, which count as `n0` samples at most."""
    return batch_size / (batch_size + min(n0, seen))


def normalise(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    server_mean: Tensor,
    server_variance: Tensor,
    *,
    alpha: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x (n, channels, ...) by the actual statistic; returns y, mu_B and the biased var_B.

    The server's statistics are constants to the gradient. Raises ValueError for one value a channel, as torch does.
    At alpha 1 and 0 this is torch's own batch norm, of training and of evaluation.
    """
    values = x.numel() // x.shape[1]
    if values <= 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    if alpha == 1.0:
        mean, variance = torch.zeros_like(server_mean), torch.zeros_like(server_variance)
        y = functional.batch_norm(x, mean, variance, weight, bias, True, 1.0, eps)
        return y, mean, variance * ((values - 1) / values)  # torch's is unbiased, and saved for the backward
    # Mean and biased variance; var_mean says the same 3 to 10 times more slowly. Of 16-bit values in 32 bits, too.
    mean, variance = torch.batch_norm_update_stats(x.detach().to(server_mean.dtype), None, None, 0.0)
    if alpha == 0.0:
        return functional.batch_norm(x, server_mean, server_variance, weight, bias, False, 0.0, eps), mean, variance
    return actual(x, weight, bias, (server_mean, server_variance), (mean, variance), alpha, eps), mean, variance


def actual(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    server: tuple[Tensor, Tensor],
    batch: tuple[Tensor, Tensor],
    alpha: float,
    eps: float,
) -> Tensor:
    """The general formula, for any alpha. `server` and `batch` are means and variances."""
    apart = batch[0] - server[0]
    mean = torch.lerp(server[0], batch[0], alpha)
    variance = torch.lerp(server[1], batch[1], alpha).add_(apart.square(), alpha=alpha * (1.0 - alpha))
    y: Tensor = _Normalise.apply(x, weight, bias, mean, variance, batch[0], apart, alpha, eps)  # type: ignore[no-untyped-call]
    return y


class _Normalise(torch.autograd.Function):
    """y = gamma (x - mu_a) / sqrt(var_a + eps) + beta, where mu_a and var_a depend on x through mu_B and var_B.

    With G_mu, G_var the gradients at mu_a and var_a, and r = 1 / sqrt(var_a + eps):

        dL/dmu_B  = alpha G_mu + 2 alpha (1 - alpha) (mu_B - mu_S) G_var
        dL/dvar_B = alpha G_var
        dL/dx_n   = g_n gamma r + dL/dmu_B / m + dL/dvar_B 2 (x_n - mu_B) / m
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        batch_mean: Tensor,
        apart: Tensor,
        alpha: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, batch_mean, apart)
        ctx.alpha, ctx.eps = alpha, eps
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, batch_mean, apart = ctx.saved_tensors
        alpha, eps, values = ctx.alpha, ctx.eps, x.numel() // x.shape[1]
        # torch's gradient at constant mu_a and var_a: g gamma r, and the sums of g (x - mu_a) r and of g.
        at_x, at_weight, at_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, eps, [True, True, True]
        )
        r = (variance + eps).rsqrt_()
        gamma_r = r if weight is None else weight * r
        at_mean = -gamma_r * at_bias
        at_variance = -0.5 * gamma_r * r * at_weight
        at_batch_mean = alpha * at_mean + 2.0 * alpha * (1.0 - alpha) * apart * at_variance
        slope = at_variance * (2.0 * alpha / values)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        at_x.addcmul_(x, slope.view(shape)).add_((at_batch_mean / values - slope * batch_mean).view(shape))
        needed = ctx.needs_input_grad
        return (
            at_x if needed[0] else None,
            at_weight if needed[1] else None,
            at_bias if needed[2] else None,
            *(None,) * 6,
        )
