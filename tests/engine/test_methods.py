"""The published rules, on numbers anyone can redo."""

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from workers.methods.batch_norm.base import Place
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.gates.asynchronous import Asynchronous
from workers.methods.rates.constant import Constant
from workers.methods.rates.staleness_inverse import StalenessInverse


def test_plain_asgd_takes_a_full_step_however_late_the_gradient() -> None:
    assert Constant().scales([7], [0]) == [1.0]


def test_plain_asgd_shares_the_step_among_the_gradients_of_an_update() -> None:
    assert Constant().scales([0, 3, 9, 1], [0, 1, 2, 3]) == [0.25] * 4


@pytest.mark.parametrize(("staleness", "scale"), [(0, 1.0), (1, 1.0), (2, 0.5), (4, 0.25), (10, 0.1)])
def test_a_gradient_d_versions_late_takes_a_dth_of_a_step(staleness: int, scale: float) -> None:
    assert StalenessInverse().scales([staleness], [0]) == [scale]


def test_each_of_c_gradients_is_scaled_by_its_own_staleness() -> None:
    # 1 / (2 * max(1, 0)) and 1 / (2 * 5)
    assert StalenessInverse().scales([0, 5], [0, 1]) == [0.5, 0.1]


def test_the_asynchronous_gate_lets_one_gradient_through_at_a_time() -> None:
    assert [Asynchronous().group(waiting) for waiting in ([], [2], [2, 0, 1])] == [0, 1, 1]


def test_the_first_batch_statistic_sets_the_aggregate() -> None:
    aggregate = tensor([0.0, 1.0])
    LocalBatchNorm(rho=0.1).merge(aggregate, tensor([3.0, 5.0]), 0)
    assert_close(aggregate, tensor([3.0, 5.0]))


def test_later_ones_move_it_by_rho() -> None:
    aggregate = tensor([3.0, 5.0])
    LocalBatchNorm(rho=0.25).merge(aggregate, tensor([7.0, 1.0]), 4)
    # 0.75 * 3 + 0.25 * 7 = 4;  0.75 * 5 + 0.25 * 1 = 4
    assert_close(aggregate, tensor([4.0, 4.0]))


def test_a_prepared_model_leaves_the_raw_batch_statistics_in_its_buffers() -> None:
    model = nn.BatchNorm1d(1)
    LocalBatchNorm(rho=0.1).prepare(model, [Place("", 0, 1)], torch.empty(0), torch.empty(2))
    model(tensor([[1.0], [3.0]]))
    assert model.running_mean is not None
    assert model.running_var is not None
    # mean 2; unbiased variance ((1 - 2)² + (3 - 2)²) / (2 - 1) = 2
    assert_close(torch.stack([model.running_mean, model.running_var]), tensor([[2.0], [2.0]]))
