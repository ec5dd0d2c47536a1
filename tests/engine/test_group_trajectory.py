"""One machine group against one device with the whole batch, in double precision: every step, not only the first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.engine.test_sharded_softmax import together
from workers.methods.batch_norm.base import Place
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.hybrid.base import NoPhases, Slices, all_gather, all_reduce_sum
from workers.methods.hybrid.head import ShardedLinear
from workers.methods.hybrid.softmax import Cut
from workers.methods.hybrid.synced_layer import synchronise
from workers.trainer.group.in_process import TakingTurns

STEPS, BATCH, CLASSES, CHANNELS = 40, 24, 11, 3


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.Flatten(), nn.Linear(CHANNELS * 16, CLASSES)
    ).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(step)
    images = torch.randn(BATCH, 1, 6, 6, dtype=torch.float64, generator=random)
    return images, torch.randint(CLASSES, (BATCH,), generator=random)


def stepper(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def whole() -> list[list[Tensor]]:
    """The weights after each step."""
    model = network().train()
    optimizer, path = stepper(model), []
    for step in range(STEPS):
        images, labels = batch(step)
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        path.append([p.detach().clone() for p in model.parameters()])
    return path


def device(end: TakingTurns, cut: Cut) -> list[list[Tensor]]:
    """What one device's weights are after each step, the whole last layer put together."""
    model, mine = network(), cut.images.of(end.rank)
    head = model[4]
    assert isinstance(head, nn.Linear)
    layer = model[4] = ShardedLinear.of(head, cut)
    reported = torch.zeros(2 * CHANNELS, dtype=torch.float64)
    place = Place("1", 0, CHANNELS)
    synchronise(model, [place], LocalBatchNorm(rho=0.1), torch.zeros(0), reported, end, cut.images)
    assert layer.bias is not None
    optimizer, path = stepper(model), []
    below = [p for name, p in model.named_parameters() if not name.startswith("4.")]
    for step in range(STEPS):
        images, labels = batch(step)
        optimizer.zero_grad()
        functional.cross_entropy(model(images[mine]), labels[mine]).backward()  # type: ignore[no-untyped-call]
        for parameter in below:
            assert parameter.grad is not None
            parameter.grad = all_reduce_sum(end, parameter.grad.reshape(-1), "convolutions").view_as(parameter)
        optimizer.step()
        slices = [all_gather(end, p.detach(), cut.classes, "weights") for p in (layer.weight, layer.bias)]
        path.append([*(p.detach().clone() for p in below), *slices])
    return path


@pytest.mark.parametrize("images", [(6, 6, 6, 6), (3, 9, 4, 8)], ids=["even", "uneven"])
def test_four_devices_go_the_way_of_one_with_the_whole_batch(images: tuple[int, ...]) -> None:
    classes = Slices.even(CLASSES, 4)
    expected = whole()
    for path in together(4, lambda end: device(end, Cut(end, Slices(images), classes, NoPhases()))):
        assert isinstance(path, list)
        for step, (reference, weights) in enumerate(zip(expected, path, strict=True)):
            for a, b in zip(reference, weights, strict=True):
                assert (a - b).abs().max() <= 1e-10, step
