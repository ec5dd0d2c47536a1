"""Batch norm over a group's whole batch: what one device finds in all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workers.methods.batch_norm.base import Place
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.batch_norm.server import ServerBatchNorm
from workers.methods.hybrid.base import Slices, all_reduce_sum
from workers.methods.hybrid.synced_layer import synchronise
from workers.trainer.group.in_process import TakingTurns, play, room

CHANNELS = 3
IMAGES = Slices((2, 3, 1))
Rule = LocalBatchNorm | ServerBatchNorm


def layer(kind: type[nn.Module], seen: Tensor, rule: Rule) -> tuple[nn.Module, Tensor, Tensor]:
    """A model of one layer, and where it finds the server's statistics and leaves its own."""
    module = nn.Sequential(kind(CHANNELS)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([0.5, 1.5, -1.0]))  # type: ignore[operator]
        module[0].bias.copy_(torch.tensor([0.1, -0.2, 0.3]))  # type: ignore[operator]
    reported = torch.zeros(rule.parts * CHANNELS, dtype=torch.float64)
    served = seen if rule.serves else torch.zeros(0)
    bound = (served if rule.serves else reported).view(rule.parts, -1)
    module[0]._buffers["running_mean"], module[0]._buffers["running_var"] = bound[0], bound[1]
    return module, served, reported


SEEN = torch.tensor([0.3, -0.1, 0.2, 1.5, 0.7, 2.0, 9.0, 9.0, 9.0, 5.0, 5.0, 5.0], dtype=torch.float64)
"""Means, variances, samples and messages that the server knows."""


@pytest.mark.parametrize("make", [lambda: LocalBatchNorm(rho=0.1), lambda: ServerBatchNorm(rho=0.1, n0=4)])
@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, ()), (nn.BatchNorm2d, (4, 5))])
def test_outputs_gradients_and_statistics_are_those_of_the_whole_batch(
    make: Callable[[], Rule], kind: type[nn.Module], shape: tuple[int, ...]
) -> None:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(IMAGES.total, CHANNELS, *shape, generator=random, dtype=torch.float64) * 2 + 1
    slope = torch.randn(x.shape, generator=random, dtype=torch.float64)

    rule = make()
    module, served, reported = layer(kind, SEEN.clone(), rule)
    rule.prepare(module, [Place("0", 0, CHANNELS)], served, reported)
    whole = x.clone().requires_grad_()
    y = module.train()(whole)
    y.backward(slope)

    def device(end: TakingTurns) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own_rule = make()
        own, own_served, own_reported = layer(kind, SEEN.clone(), own_rule)
        synchronise(own, [Place("0", 0, CHANNELS)], own_rule, own_served, own_reported, end, IMAGES)
        part = x[IMAGES.of(end.rank)].clone().requires_grad_()
        out = own.train()(part)
        out.backward(slope[IMAGES.of(end.rank)])
        gradients = torch.cat([own[0].weight.grad, own[0].bias.grad])  # type: ignore[index]
        assert part.grad is not None
        return out.detach(), part.grad, all_reduce_sum(end, gradients, "sum"), own_reported

    turns, ends = room(len(IMAGES.counts))
    parts = play(ends, turns, [lambda end=end: device(end) for end in ends])  # type: ignore[misc]
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), y.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), whole.grad, rtol=0, atol=1e-10)
    expected = torch.cat([module[0].weight.grad, module[0].bias.grad])  # type: ignore[index]
    for _, _, gradients, told in parts:
        torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(told, reported, rtol=0, atol=1e-10)


def test_one_value_a_channel_in_the_whole_group_is_refused() -> None:
    rule = LocalBatchNorm(rho=0.1)

    def device(end: TakingTurns) -> None:
        module, served, reported = layer(nn.BatchNorm1d, SEEN, rule)
        synchronise(module, [Place("0", 0, CHANNELS)], rule, served, reported, end, Slices((1,)))
        module.train()(torch.ones(1, CHANNELS, dtype=torch.float64))

    turns, ends = room(1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        play(ends, turns, [lambda: device(ends[0])])
