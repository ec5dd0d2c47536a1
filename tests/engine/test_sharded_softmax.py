"""The last layer cut over devices: loss and gradients as those of the whole layer, worked by hand and against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.methods.hybrid.base import (
    NoPhases,
    Slices,
    all_gather,
    all_reduce_max,
    all_reduce_sum,
    reduce_scatter,
    spread,
)
from workers.methods.hybrid.head import ShardedLinear, ShardedLogits, Unsupported
from workers.methods.hybrid.softmax import Cut
from workers.trainer.group.in_process import OutOfStep, TakingTurns, play, room

WHOLE = [(2, (3, 5)), (3, (2, 2, 7)), (4, (1, 4, 2, 6))]
"""Devices, and how many classes each of them has."""


def together(size: int, function: Callable[[TakingTurns], object]) -> list[object]:
    turns, ends = room(size)
    return play(ends, turns, [lambda end=end: function(end) for end in ends])  # type: ignore[misc]


class Outcome(NamedTuple):
    loss: Tensor
    features: Tensor
    weight: Tensor
    bias: Tensor
    best: Tensor
    top: Tensor
    convolution: Tensor


class Case(NamedTuple):
    inputs: Tensor
    labels: Tensor
    convolution: Tensor
    linear: nn.Linear


def case(images: int, classes: int, dtype: torch.dtype) -> Case:
    random = torch.Generator().manual_seed(classes * 100 + images)
    inputs = torch.randn(images, 6, generator=random, dtype=torch.float64).to(dtype)
    labels = torch.randint(classes, (images,), generator=random)
    convolution = torch.randn(6, 5, generator=random, dtype=torch.float64).to(dtype)
    linear = nn.Linear(5, classes).to(dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(classes, 5, generator=random))
        linear.bias.copy_(torch.randn(classes, generator=random))
    return Case(inputs, labels, convolution, linear)


def gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad.clone()


def whole(one: Case) -> Outcome:
    below = one.convolution.clone().requires_grad_()
    features = torch.tanh(one.inputs @ below)
    features.retain_grad()
    logits = one.linear(features)
    loss = functional.cross_entropy(logits, one.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [gradient(t) for t in (features, one.linear.weight, one.linear.bias)]
    one.linear.zero_grad()
    return Outcome(loss.detach(), grads[0], grads[1], grads[2], logits.argmax(1), logits.topk(3, 1)[1], gradient(below))


def device(one: Case, images: Slices, classes: Slices, end: TakingTurns) -> Outcome:
    mine = images.of(end.rank)
    head = ShardedLinear.of(one.linear, Cut(end, images, classes, NoPhases()))
    below = one.convolution.clone().requires_grad_()
    features = torch.tanh(one.inputs[mine] @ below)
    features.retain_grad()
    logits = head(features)
    loss = functional.cross_entropy(logits, one.labels[mine])
    loss.backward()  # type: ignore[no-untyped-call]
    assert head.bias is not None
    total = all_reduce_sum(end, gradient(below).reshape(-1), "convolutions").reshape(below.shape)
    best, top = logits.argmax(1), logits.detach().topk(3, 1)[1]
    return Outcome(loss.detach(), gradient(features), gradient(head.weight), gradient(head.bias), best, top, total)


def cut(one: Case, images: Slices, classes: Slices) -> Outcome:
    found = together(len(images.counts), lambda end: device(one, images, classes, end))
    parts = [p for p in found if isinstance(p, Outcome)]
    assert all(torch.equal(p.loss, parts[0].loss) for p in parts)
    assert all(torch.equal(p.convolution, parts[0].convolution) for p in parts)
    joined = {n: torch.cat([getattr(p, n) for p in parts]) for n in ("features", "weight", "bias", "best", "top")}
    return parts[0]._replace(**joined)


@pytest.mark.parametrize(("size", "slices"), WHOLE)
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_loss_and_gradients_are_those_of_the_whole_layer(size: int, slices: tuple[int, ...], uneven: bool) -> None:
    one = case(13, sum(slices), torch.float64)
    classes = Slices(slices) if uneven else Slices.even(sum(slices), size)
    images = Slices((*range(1, size), 13 - sum(range(1, size)))) if uneven else Slices.even(13, size)
    expected, found = whole(one), cut(one, images, classes)
    assert torch.equal(found.best, expected.best)
    assert torch.equal(found.top, expected.top)
    for name in ("loss", "features", "weight", "bias", "convolution"):
        difference = (getattr(found, name) - getattr(expected, name)).abs().max()
        assert difference <= 1e-10, name


@pytest.mark.parametrize(("size", "slices"), WHOLE)
def test_in_single_precision_they_agree_to_a_hundred_thousandth(size: int, slices: tuple[int, ...]) -> None:
    one = case(16, sum(slices), torch.float32)
    expected, found = whole(one), cut(one, Slices.even(16, size), Slices(slices))
    for name in ("loss", "features", "weight", "bias", "convolution"):
        reference = getattr(expected, name)
        assert (getattr(found, name) - reference).abs().max() <= 1e-5 * reference.abs().max(), name


def test_two_images_two_classes_by_hand() -> None:
    # Features 1 and 2, one class a device: W = (0, ln 2). z = (0, ln 2) and (0, 2 ln 2), so that the second class has
    # 2/3 and 4/5. Labels 1 (of the other device's) and 0: L = (-ln 2/3 - ln 1/5) / 2.
    linear = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0], [2.0]]).log())
    one = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    labels = torch.tensor([1, 0])

    def act(end: TakingTurns) -> tuple[float, float]:
        head = ShardedLinear.of(linear, Cut(end, Slices((1, 1)), Slices((1, 1)), NoPhases()))
        loss = functional.cross_entropy(head(one[end.rank : end.rank + 1]), labels[end.rank : end.rank + 1])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), gradient(head.weight).item()

    (loss, first), (again, second) = (pair for pair in together(2, act) if isinstance(pair, tuple))
    assert loss == again == pytest.approx((torch.tensor([3 / 2, 5.0]).double().log().sum() / 2).item(), rel=1e-7)
    # dW of class 0: ((1/3) 1 + (1/5 - 1) 2) / 2;  of class 1 the opposite, since the shares of an image sum to 1.
    assert first == pytest.approx((1 / 3 - 8 / 5) / 2)
    assert second == pytest.approx(-first)


def test_scores_far_apart_neither_overflow_nor_vanish() -> None:
    one = case(8, 6, torch.float32)
    with torch.no_grad():
        one.linear.weight.mul_(300)
    expected, found = whole(one), cut(one, Slices.even(8, 3), Slices((1, 4, 1)))
    assert found.loss.isfinite()
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-4, atol=1e-5)


def test_of_equal_scores_the_first_class_has_it() -> None:
    linear = nn.Linear(2, 6)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0]))

    def act(end: TakingTurns) -> list[int]:
        head = ShardedLinear.of(linear, Cut(end, Slices((1, 1, 1)), Slices((1, 2, 3)), NoPhases()))
        best: list[int] = head(torch.ones(1, 2)).argmax(1).tolist()
        return best

    assert together(3, act) == [[1], [1], [1]]


def test_fewer_classes_than_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="3 classes can't be cut into 4 slices: each device needs at least one"):
        Slices.even(3, 4, "classes")


def test_slices_are_as_equal_as_can_be() -> None:
    assert Slices.even(10, 4).counts == (3, 3, 2, 2)
    assert Slices.even(10, 4).of(2) == slice(6, 8)
    assert spread(2, 4) == (1, 1, 0, 0)


# ---------------------------------------------------------------- what goes around


@pytest.mark.parametrize("size", [2, 3, 4])
def test_sums_and_maxima_over_devices_move_what_the_formula_says(size: int) -> None:
    rows = 12
    values = torch.arange(float(size * rows)).reshape(size, rows).sin()

    def act(end: TakingTurns) -> dict[str, int]:
        slices = Slices.even(rows, size)
        own = values[end.rank]
        torch.testing.assert_close(all_reduce_sum(end, own, "sum"), values.sum(0))
        assert torch.equal(all_reduce_max(end, own, "max"), values.amax(0))
        assert len(all_gather(end, own[slices.of(end.rank)], slices, "gather")) == rows
        part = reduce_scatter(end, own, slices, "scatter").wait()
        torch.testing.assert_close(part, values.sum(0)[slices.of(end.rank)])
        return dict(end.sent_bytes)

    for sent in together(size, act):
        assert sent == {
            "sum": 4 * 2 * (size - 1) * rows // size,
            "max": 4 * 2 * (size - 1) * rows // size,
            "gather": 4 * (size - 1) * rows // size,
            "scatter": 4 * (size - 1) * rows // size,
        }


def test_a_step_moves_what_the_formula_says() -> None:
    size, each, features, classes = 4, 8, 5, 40
    one = case(size * each, classes, torch.float32)

    def act(end: TakingTurns) -> dict[str, int]:
        device(one, Slices.even(size * each, size), Slices.even(classes, size), end)
        return dict(end.sent_bytes)

    for sent in together(size, act):
        assert isinstance(sent, dict)
        # 2 (G - 1) B D + 4 (G - 1) B floats, (G - 1) B labels of 32 bits, a loss to each of the others.
        assert sent["features"] + sent["feature gradients"] == 4 * 2 * (size - 1) * each * features
        assert sent["softmax"] == 4 * 4 * (size - 1) * each
        assert sent["labels"] == 4 * (size - 1) * each
        assert sent["loss"] == 4 * (size - 1)


def test_devices_out_of_step_are_found_out() -> None:
    def act(end: TakingTurns) -> None:
        if end.rank:
            all_reduce_sum(end, torch.ones(4), "sum")

    with pytest.raises(OutOfStep, match="waits for what no other device sends"):
        together(3, act)


def test_random_numbers_are_each_device_s_own() -> None:
    def act(end: TakingTurns) -> list[float]:
        torch.manual_seed(end.rank)
        drawn = []
        for _ in range(3):
            drawn.append(float(torch.rand(())))
            all_reduce_sum(end, torch.ones(2), "sum")
        return drawn

    expected = []
    for rank in range(2):
        torch.manual_seed(rank)
        expected.append([float(torch.rand(())) for _ in range(3)])
    assert together(2, act) == expected


# ---------------------------------------------------------------- what stands for logits


def alone(function: Callable[[ShardedLogits], object]) -> None:
    def act(end: TakingTurns) -> None:
        head = ShardedLinear.of(nn.Linear(3, 4), Cut(end, Slices((2, 2)), Slices((2, 2)), NoPhases()))
        function(head(torch.ones(2, 3)))

    together(2, act)


LABELS = torch.tensor([0, 3])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (lambda z: functional.softmax(z, 1), "cross_entropy, argmax and topk, but not softmax"),
        (lambda z: functional.cross_entropy(z, LABELS, label_smoothing=0.1), "does not take label_smoothing"),
        (lambda z: functional.cross_entropy(z, torch.rand(2, 4)), "targets that are not one class an image"),
        (lambda z: z.argmax(0), "goes over the classes: dim 1, got 0"),
    ],
)
def test_what_can_t_be_answered_is_refused_in_words(asked: Callable[[ShardedLogits], object], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        alone(asked)


def test_they_look_like_logits() -> None:
    def look(z: ShardedLogits) -> None:
        assert tuple(z.shape) == (2, 4)
        assert (len(z), z.size(1), z.dim()) == (2, 4, 2)
        assert torch.argmax(z.detach(), 1).tolist() == z.argmax(-1).tolist()  # type: ignore[arg-type]

    alone(look)
