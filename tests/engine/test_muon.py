"""Muon against torch's own, and by what its steps must be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from workers import spec
from workers.layout import Layout
from workers.server.muon import Muon, orthogonal
from workers.server.optimizers import AdamW, Tiling

RATE = 0.02


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(24, 5))


def server(part: spec.Muon, net: nn.Module) -> tuple[Muon, Tiling, Tensor, Layout]:
    """A server's optimizer over the model, in tiles that cut through its matrices."""
    layout = Layout.of(net, part)
    weights = torch.zeros(layout.size)
    layout.collect(net, weights, torch.zeros(0))
    tiling = Tiling(layout.groups, 48)
    return Muon(part, tiling, weights, layout.segments), tiling, weights, layout


def gradients(count: int, size: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    return [torch.randn(size, generator=random) for _ in range(count)]


def stepped(part: spec.Muon, count: int) -> tuple[nn.Module, Tensor, Layout, list[Tensor]]:
    net = model()
    optimizer, tiling, weights, layout = server(part, net)
    pushed, out = gradients(count, layout.size), torch.empty(layout.size)
    for gradient in pushed:
        optimizer.step(tiling.of(gradient), tiling.of(out), RATE)
    torch.testing.assert_close(out, weights)
    return net, weights, layout, pushed


@pytest.mark.parametrize("shape", [(6, 18), (18, 6), (5, 5)])
def test_orthogonal_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


@pytest.mark.parametrize("nesterov", [True, False])
def test_matrices_step_as_torchs_muon(nesterov: bool) -> None:
    part = spec.Muon(kind="muon", learning_rate=RATE, momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    net, weights, layout, pushed = stepped(part, 8)
    segment = next(s for s in layout.segments if s.name == "2.weight")
    theirs = nn.Parameter(dict(net.named_parameters())["2.weight"].detach().clone())
    reference = torch.optim.Muon(
        [theirs], lr=RATE, momentum=0.9, nesterov=nesterov, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for gradient in pushed:
        theirs.grad = segment.of(gradient).clone()
        reference.step()  # type: ignore[no-untyped-call]
    moved = float((theirs.detach() - dict(net.named_parameters())["2.weight"].detach()).norm())
    # torch makes its matrices orthogonal in bfloat16.
    assert float((segment.of(weights) - theirs.detach()).norm()) < 0.02 * moved


def test_biases_step_as_adamw() -> None:
    part = spec.Muon(kind="muon", learning_rate=RATE, momentum=0.9)
    net, weights, layout, pushed = stepped(part, 8)
    adam = spec.AdamW(kind="adamw", learning_rate=RATE, betas=(0.9, 0.99))
    other = torch.zeros(layout.size)
    layout.collect(net, other, torch.zeros(0))
    tiling = Tiling(layout.groups)
    reference, out = AdamW(adam, tiling, other), torch.empty(layout.size)
    for gradient in pushed:
        reference.step(tiling.of(gradient), tiling.of(out), RATE)
    bias = next(s for s in layout.segments if s.name == "2.bias")
    torch.testing.assert_close(bias.of(weights), bias.of(other))


def test_a_step_is_as_long_however_large_the_gradient_is() -> None:
    part = spec.Muon(kind="muon", learning_rate=RATE, momentum=0.0, nesterov=False)
    net = model()
    optimizer, tiling, weights, layout = server(part, net)
    before, out = weights.clone(), torch.empty(layout.size)
    optimizer.step(tiling.of(1000.0 * gradients(1, layout.size)[0]), tiling.of(out), RATE)
    convolution = next(s for s in layout.segments if s.name == "0.weight")
    step = (convolution.of(weights) - convolution.of(before)).flatten(1)
    # 6 singular values near 1, times 0.2 sqrt(18), times the rate.
    assert float(step.norm()) == pytest.approx(RATE * 0.2 * math.sqrt(18) * math.sqrt(6), rel=0.15)
