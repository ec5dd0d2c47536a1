"""Batch-norm statistics through the server: the formulas on numbers anyone can redo, and the gradient."""

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.nn import functional
from torch.testing import assert_close

from benchmarks.batch_norm import MODELS, Bench
from workers.methods.batch_norm.base import Place
from workers.methods.batch_norm.served_layer import actual, normalise, weight_of
from workers.methods.batch_norm.server import ServerBatchNorm

EPS = 1e-5
SHAPES = [(6, 3), (4, 3, 5), (3, 3, 4, 2)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """x, weight, bias and the server's mean and variance: nothing of them near 0 or 1."""
    x = (2.0 + 3.0 * random(*shape)).requires_grad_()
    weight, bias = (1.5 + 0.3 * random(3, seed=1)).requires_grad_(), random(3, seed=2).requires_grad_()
    return x, weight, bias, (1.0 + random(3, seed=3), 4.0 + random(3, seed=4).square())


def of_batch(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x.detach(), (0, *range(2, x.dim())), correction=0)
    return mean, variance


def formula(x: Tensor, weight: Tensor, bias: Tensor, server: tuple[Tensor, Tensor], alpha: float) -> Tensor:
    """The formulas as they are written, for autograd to differentiate."""
    dims, shape = (0, *range(2, x.dim())), (1, -1) + (1,) * (x.dim() - 2)
    variance, mean = torch.var_mean(x, dims, correction=0)
    mu = (1 - alpha) * server[0] + alpha * mean
    var = (1 - alpha) * server[1] + alpha * variance + alpha * (1 - alpha) * (mean - server[0]).square()
    scaled = (x - mu.view(shape)) / (var + EPS).sqrt().view(shape)
    return weight.view(shape) * scaled + bias.view(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_its_gradient_is_that_of_its_formula(shape: tuple[int, ...], alpha: float) -> None:
    x, weight, bias, server = inputs(shape)

    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return normalise(x, weight, bias, *server, alpha=alpha, eps=EPS)[0]

    assert torch.autograd.gradcheck(OfBatch(server, alpha), (x, weight, bias))
    seed = random(*shape, seed=5)
    expected = torch.autograd.grad(formula(x, weight, bias, server, alpha), (x, weight, bias), seed)
    assert_close(torch.autograd.grad(forward(x, weight, bias), (x, weight, bias), seed), expected)
    assert_close(forward(x, weight, bias), formula(x, weight, bias, server, alpha))


class OfBatch:
    """The general formula with the batch's own statistics, taken anew for each point that gradcheck tries."""

    def __init__(self, server: tuple[Tensor, Tensor], alpha: float) -> None:
        self.server, self.alpha = server, alpha

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return actual(x, weight, bias, self.server, of_batch(x), self.alpha, EPS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_at_both_ends_the_general_formula_agrees_with_torch(shape: tuple[int, ...], alpha: float) -> None:
    x, weight, bias, server = inputs(shape)
    theirs, mean, variance = normalise(x, weight, bias, *server, alpha=alpha, eps=EPS)
    ours = actual(x, weight, bias, server, of_batch(x), alpha, EPS)
    assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert_close((mean, variance), of_batch(x))
    seed = random(*shape, seed=5)
    for ours_at, theirs_at in zip(
        torch.autograd.grad(ours, (x, weight, bias), seed),
        torch.autograd.grad(theirs, (x, weight, bias), seed),
        strict=True,
    ):
        assert_close(ours_at, theirs_at, atol=1e-5, rtol=0)


def test_a_layer_without_weights_and_an_input_without_gradient_are_fine() -> None:
    x, _, _, server = inputs((6, 3))
    actual(x, None, None, server, of_batch(x), 0.3, EPS).square().sum().backward()  # type: ignore[no-untyped-call]
    one = torch.ones(3, dtype=torch.float64)
    expected = torch.autograd.grad(formula(x, one, 0 * one, server, 0.3).square().sum(), x)[0]
    assert x.grad is not None
    assert_close(x.grad, expected)
    weight = one.clone().requires_grad_()
    actual(x.detach(), weight, None, server, of_batch(x), 0.3, EPS).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None


def test_a_single_value_a_channel_is_refused_as_torch_does() -> None:
    one = torch.ones(2)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalise(torch.zeros(1, 2), one, one, one, one, alpha=0.5, eps=EPS)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        functional.batch_norm(torch.zeros(1, 2), None, None, training=True)


@pytest.mark.parametrize(("batch", "seen", "alpha"), [(2, 0, 1.0), (2, 2, 0.5), (2, 900, 1 / 3), (4, 4, 0.5)])
def test_a_batch_weighs_by_its_images_against_n0_at_most(batch: int, seen: int, alpha: float) -> None:
    assert weight_of(batch, seen, 4) == alpha


# ---------------------------------------------------------------- the server


def report(mean: float, variance: float, *, samples: float = 2.0, values: float = 2.0) -> Tensor:
    return tensor([mean, variance, samples, values])


def told(*reports: Tensor, rho: float = 0.02) -> list[float]:
    """What a server of one channel makes of these messages: mean, variance, samples, messages."""
    aggregate = tensor([0.0, 1.0, 0.0, 0.0])
    for t, message in enumerate(reports):
        ServerBatchNorm(rho=rho, n0=4).merge(aggregate, message, t)
    known: list[float] = aggregate.tolist()
    return known


def test_the_first_message_sets_mean_and_unbiased_variance() -> None:
    # values 1 and 5: mean 3, biased variance 4, unbiased 4 * 2 / (2 - 1) = 8
    assert told(report(3.0, 4.0)) == [3.0, 8.0, 2.0, 1.0]


def test_early_messages_are_averaged_and_what_lies_between_them_counts() -> None:
    # rho_1 = 1/2: variance 8/2 + 6/2 + (7 - 3)² / 4 = 11, with the old mean 3; mean 3 + (7 - 3)/2 = 5
    assert told(report(3.0, 4.0), report(7.0, 6.0)) == [5.0, 11.0, 4.0, 2.0]


def test_later_ones_move_it_by_rho() -> None:
    # rho = 0.75 from the second message on: variance 0.25·8 + 0.75·4 + 0.75·0.25·(-1 - 3)² = 8; mean 3 - 0.75·4 = 0
    assert told(report(3.0, 4.0), report(-1.0, 4.0), rho=0.75) == [0.0, 8.0, 4.0, 2.0]


def test_a_layer_that_a_batch_did_not_pass_through_has_sent_no_message() -> None:
    assert told(report(0.0, 0.0, samples=0.0, values=0.0), report(3.0, 4.0)) == [3.0, 8.0, 2.0, 1.0]


def test_convolutions_of_small_batches_keep_their_whole_variance() -> None:
    # Two images, each of one value 50 times over: N(0, 1) between images, nothing within. The true variance is 1.
    generator = torch.Generator().manual_seed(0)
    rule, aggregate, naive = ServerBatchNorm(rho=0.002, n0=4), tensor([0.0, 1.0, 0.0, 0.0]), []
    for t in range(4000):
        images = torch.randn(2, generator=generator).repeat_interleave(50)
        rule.merge(aggregate, report(float(images.mean()), float(images.var(correction=0)), values=100.0), t)
        naive.append(float(images.var()))
    assert float(aggregate[1]) == pytest.approx(1.0, abs=0.1)
    assert sum(naive) / len(naive) == pytest.approx(0.5, abs=0.05)


# ---------------------------------------------------------------- a trainer's model


def prepared(model: nn.Module, name: str = "", channels: int = 1) -> tuple[Tensor, Tensor]:
    """Swap the batch norm in; returns what is served to it and what it reports, 4 parts each."""
    served, reported = torch.zeros(4, channels), torch.zeros(4, channels)
    served[1] = 1.0
    layer = model.get_submodule(name)
    layer._buffers["running_mean"], layer._buffers["running_var"] = served[0], served[1]
    ServerBatchNorm(rho=0.02, n0=4).prepare(model, [Place(name, 0, channels)], served.view(-1), reported.view(-1))
    return served, reported


def test_a_trainer_normalises_by_both_and_reports_the_batch_alone() -> None:
    model = nn.BatchNorm1d(1)
    served, reported = prepared(model)
    served.copy_(tensor([[1.0], [2.0], [4.0], [2.0]]))
    y = model(tensor([[1.0], [5.0]]))
    # alpha = 2 / (2 + 4); mu_a = (2·1 + 3)/3 = 5/3; var_a = (2·2 + 4)/3 + (1/3)(2/3)(3 - 1)² = 32/9
    assert_close(y.flatten(), (tensor([1.0, 5.0]) - 5 / 3) / (32 / 9 + EPS) ** 0.5)
    assert reported.flatten().tolist() == [3.0, 4.0, 2.0, 2.0]
    assert served.flatten().tolist() == [1.0, 2.0, 4.0, 2.0]


def test_batches_of_one_push_are_pooled() -> None:
    model = nn.BatchNorm1d(1)
    _, reported = prepared(model)
    for batch in ([[1.0], [5.0]], [[2.0], [3.0], [4.0]]):
        model(tensor(batch))
    # 1, 5, 2, 3, 4: mean 3, variance 2
    assert_close(reported.flatten(), tensor([3.0, 2.0, 5.0, 5.0]))
    ServerBatchNorm(rho=0.02, n0=4).begin(reported)
    model(tensor([[0.0], [2.0]]))
    assert_close(reported.flatten(), tensor([1.0, 1.0, 2.0, 2.0]))


def test_before_the_server_knows_anything_it_is_torch_s_batch_norm() -> None:
    x = random(4, 2, 3, 3).float()
    model, plain = nn.Sequential(nn.BatchNorm2d(2)), nn.Sequential(nn.BatchNorm2d(2))
    _, reported = prepared(model, "0", 2)
    assert torch.equal(model(x), plain(x))
    assert_close(reported[0], x.mean((0, 2, 3)))
    assert reported[2:].tolist() == [[4.0, 4.0], [36.0, 36.0]]


def test_in_evaluation_it_is_torch_s_with_the_server_s_statistics() -> None:
    model = nn.BatchNorm1d(1).eval()
    served, reported = prepared(model)
    served.copy_(tensor([[3.0], [4.0], [8.0], [4.0]]))
    assert_close(model(tensor([[5.0]])), tensor([[2.0 / (4.0 + EPS) ** 0.5]]))
    assert not reported.any()


def test_the_state_of_a_model_stays_that_of_an_ordinary_one() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    names = list(model.state_dict())
    prepared(model, "1", 3)
    assert list(model.state_dict()) == names
    nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).load_state_dict(model.state_dict(), strict=True)


class Own(nn.BatchNorm1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1.0


def test_a_layer_with_a_forward_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="Own"):
        prepared(Own(1))


def test_its_deviations_are_those_of_the_actual_statistics() -> None:
    rule = ServerBatchNorm(rho=0.02, n0=4)
    # alpha = 2 / (2 + 4): the actual mean lies (3 - 1)/3 from the server's; log(8 / 2)
    shift, ratio = rule.deviations(tensor([1.0, 2.0, 6.0, 3.0]), report(3.0, 8.0)) or (None, None)
    assert shift is not None
    assert ratio is not None
    assert_close(torch.cat([shift, ratio]), tensor([2 / 3, 1.3862944]), atol=1e-4, rtol=0)
    assert rule.deviations(tensor([0.0, 1.0, 0.0, 0.0]), report(3.0, 8.0)) is None


@pytest.mark.parametrize(("batch_size", "least"), [(2, 3.0), (4, 2.5)])
def test_small_batches_normalise_closer_to_the_true_statistics_than_local_ones(batch_size: int, least: float) -> None:
    bench = Bench(MODELS["mlp"], batch_size=batch_size, learning_rate=0.005, seed=0)
    gains = bench.gains(400)
    assert len(gains) == 3
    assert min(gains.values()) >= least
