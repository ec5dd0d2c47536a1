"""Outer optimizers against plain references, and by numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, tensor

from workers.methods.outer.base import Outer
from workers.methods.outer.delayed_nesterov import DelayedNesterov
from workers.methods.outer.diloco import DiLoCo
from workers.methods.outer.easgd import Easgd
from workers.methods.outer.local_sgd import LocalSgd
from workers.methods.space import Space

SIZE = 12


def prepared(outer: Outer, weights: Tensor, workers: int) -> Outer:
    """An outer optimizer over two tiles."""

    def cut(flat: Tensor) -> tuple[Tensor, ...]:
        half = (flat.numel() + 1) // 2
        return flat[:half], flat[half:]

    outer.prepare(Space(cut(weights), cut, (0.0, 0.0), (1.0, 1.0), weights.numel(), workers))
    return outer


def pushed(outer: Outer, value: Tensor) -> Tensor:
    """Push once; returns what is answered."""
    answer, half = torch.empty_like(value), (value.numel() + 1) // 2
    outer.step((value[:half], value[half:]), (answer[:half], answer[half:]), 1.0)
    return answer


def random_pushes(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SIZE, generator=generator) for _ in range(count)]


def test_local_sgd_leaves_the_mean_of_the_trainers_weights() -> None:
    # Both read 10; one reached 8, the other 6: the mean displacement is 3.
    w = tensor([10.0, 10.0])
    assert torch.equal(pushed(prepared(LocalSgd(), w, 2), tensor([3.0, 3.0])), tensor([7.0, 7.0]))


def test_diloco_is_torchs_nesterov_on_the_mean_displacement() -> None:
    ours, theirs = torch.ones(SIZE), torch.nn.Parameter(torch.ones(SIZE))
    outer = prepared(DiLoCo(learning_rate=0.7, momentum=0.9), ours, 4)
    reference = torch.optim.SGD([theirs], lr=0.7, momentum=0.9, nesterov=True)
    for delta in random_pushes(20):
        theirs.grad = delta.clone()
        reference.step()
        answer = pushed(outer, delta)
        torch.testing.assert_close(ours, theirs.detach())
        assert torch.equal(answer, ours)


def test_easgd_draws_a_trainer_and_the_centre_together() -> None:
    # N = 3: alpha = .3;  x = 10, w = 0: e = 3, so the trainer goes on from 7 and the centre is 3.
    w = tensor([0.0, 0.0])
    answer = pushed(prepared(Easgd(beta=0.9), w, 3), tensor([10.0, 20.0]))
    torch.testing.assert_close((answer, w), (tensor([7.0, 14.0]), tensor([3.0, 6.0])))


def test_easgd_is_the_papers_algorithm_over_many_rounds_of_three_trainers() -> None:
    centre, x = torch.zeros(SIZE), [torch.zeros(SIZE) for _ in range(3)]
    ours, read = torch.zeros(SIZE), [torch.zeros(SIZE) for _ in range(3)]
    outer, alpha = prepared(Easgd(beta=0.9), ours, 3), 0.9 / 3
    for turn, move in enumerate(random_pushes(60)):
        i = turn % 3
        x[i] = x[i] - 0.1 * move
        elastic = alpha * (x[i] - centre)
        x[i], centre = x[i] - elastic, centre + elastic
        read[i] = pushed(outer, read[i] - 0.1 * move)
        torch.testing.assert_close((ours, read[i]), (centre, x[i]))


def delayed_nesterov(deltas: list[Tensor], n: int, rate: float, beta: float) -> Tensor:
    """As the algorithm is written down: one vector of gradients for n arrivals."""
    w, m, gathered = torch.ones(SIZE), torch.zeros(SIZE), torch.zeros(SIZE)
    for k, delta in enumerate(deltas, start=1):
        gathered = gathered + delta
        if k % n == 0:
            m = beta * m + gathered / n
            w = w - rate * (beta * m + delta / n)
            gathered = torch.zeros(SIZE)
        else:
            w = w - rate * delta / n
    return w


@pytest.mark.parametrize("n", [1, 4])
def test_delayed_nesterov_moves_its_momentum_once_in_n_arrivals(n: int) -> None:
    ours, deltas = torch.ones(SIZE), random_pushes(43)
    outer = prepared(DelayedNesterov(learning_rate=0.7, momentum=0.9), ours, n)
    for delta in deltas:
        pushed(outer, delta)
    torch.testing.assert_close(ours, delayed_nesterov(deltas, n, 0.7, 0.9))


def test_delayed_nesterov_of_one_trainer_is_diloco() -> None:
    one, other = torch.ones(SIZE), torch.ones(SIZE)
    delayed = prepared(DelayedNesterov(learning_rate=0.7, momentum=0.9), one, 1)
    diloco = prepared(DiLoCo(learning_rate=0.7, momentum=0.9), other, 1)
    for delta in random_pushes(10):
        pushed(delayed, delta)
        pushed(diloco, delta)
    torch.testing.assert_close(one, other)
