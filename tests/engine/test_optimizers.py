"""The server's optimizers against torch.optim: same gradients, same weights, over many steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from workers import spec
from workers.layout import Group
from workers.server.optimizers import Optimizer, Tiling, build

STEPS = 200
SIZE = 1000
GROUPS = (Group(1.0, 0.01, 0, 600), Group(0.5, 0.0, 600, SIZE))
TILE_FLOATS = 256  # does not divide the groups


def ours(part: spec.Sgd | spec.AdamW) -> tuple[Optimizer, Tiling, Tensor]:
    tiling = Tiling(GROUPS, TILE_FLOATS)
    weights = torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    return build(part, tiling, weights), tiling, weights


def theirs(
    make: Callable[..., torch.optim.Optimizer], weights: Tensor, rate: float, **options: Any
) -> tuple[list[Tensor], torch.optim.Optimizer]:
    parts = [weights[g.start : g.stop].clone().requires_grad_() for g in GROUPS]
    groups = [
        {"params": [p], "lr": rate * g.learning_rate_scale, "weight_decay": g.weight_decay}
        for p, g in zip(parts, GROUPS, strict=True)
    ]
    return parts, make(groups, lr=rate, **options)


CASES: list[tuple[spec.Sgd | spec.AdamW, Callable[..., torch.optim.Optimizer], dict[str, Any]]] = [
    (spec.Sgd(kind="sgd", learning_rate=0.01), torch.optim.SGD, {}),
    (spec.Sgd(kind="sgd", learning_rate=0.01, momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (
        spec.Sgd(kind="sgd", learning_rate=0.01, momentum=0.9, nesterov=True),
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True},
    ),
    (spec.AdamW(kind="adamw", learning_rate=0.01), torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8}),
]


@pytest.mark.parametrize(("part", "make", "options"), CASES, ids=["sgd", "momentum", "nesterov", "adamw"])
def test_it_steps_as_torch_does(
    part: spec.Sgd | spec.AdamW, make: Callable[..., torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    optimizer, tiling, weights = ours(part)
    parts, reference = theirs(make, weights, 0.01, **options)
    random, out = torch.Generator().manual_seed(1), torch.empty(SIZE)
    for _ in range(STEPS):
        gradient = torch.randn(SIZE, generator=random)
        optimizer.step(tiling.of(gradient), tiling.of(out), 0.01)
        for p, g in zip(parts, GROUPS, strict=True):
            p.grad = gradient[g.start : g.stop].clone()
        reference.step()
    expected = torch.cat([p.detach() for p in parts])
    assert float((weights - expected).norm() / expected.norm()) <= 1e-6
    assert torch.equal(out, weights)


def test_half_the_scale_is_half_the_step_under_adamw_too() -> None:
    # Scaling the gradient would change nothing there: its moments cancel a constant factor.
    moved = []
    for rate in (0.01, 0.005):
        optimizer, tiling, weights = ours(spec.AdamW(kind="adamw", learning_rate=1.0))
        before = weights.clone()
        optimizer.step(tiling.of(torch.ones(SIZE)), tiling.of(torch.empty(SIZE)), rate)
        moved.append(weights - before)
    assert float((moved[0] - 2 * moved[1]).abs().max()) <= 1e-6


def test_moments_do_not_see_the_rate() -> None:
    states = []
    for rate in (0.01, 0.005):
        optimizer, tiling, weights = ours(spec.Sgd(kind="sgd", learning_rate=1.0, momentum=0.9))
        weights.zero_()
        optimizer.step(tiling.of(torch.ones(SIZE)), tiling.of(torch.empty(SIZE)), rate)
        states.append(optimizer.state()["momentum"])
    assert torch.equal(*states)


def test_tiles_do_not_cross_the_bounds_of_groups() -> None:
    sizes = [len(t) for t in Tiling(GROUPS, TILE_FLOATS).of(torch.empty(SIZE))]
    assert sizes == [256, 256, 88, 256, 144]
