"""The candidate model: the state machine against sequential SGD, and by numbers worked by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, tensor

from workers import spec
from workers.layout import Group
from workers.methods.waiting.candidate import Candidate, Mode
from workers.trainer import own_steps

SIZE = 7
PERIODS = 60


def rate(period: int) -> float:
    """Warm-up, then two steps down."""
    return 0.02 * min(1.0, (period + 1) / 10) * 0.1 ** ((period >= 30) + (period >= 45))


def slope(w: Tensor, period: int) -> Tensor:
    """The gradient of a loss that no two periods share."""
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(period), dtype=torch.float64)
    return torch.sin(w) + 0.5 * w + noise


def first_weights() -> Tensor:
    return torch.linspace(-1.0, 1.0, SIZE, dtype=torch.float64)


def sequential(momentum: float, nesterov: bool, decay: float) -> Iterator[Tensor]:
    """Plain SGD, as torch.optim writes it (but for the last step: w - p); the weights after each period."""
    w, m = first_weights(), torch.zeros(SIZE, dtype=torch.float64)
    for period in range(PERIODS):
        d = slope(w, period) + decay * w
        m = momentum * m + d
        w = w - rate(period) * (d.add(m, alpha=momentum) if nesterov else m)
        yield w


def candidate_of_one(latency: int, part: spec.Sgd, mode: Mode = "compensate") -> Iterator[Tensor]:
    """One trainer and its server, whose replies arrive `latency` periods after the next one has begun."""
    server = first_weights()
    trainer = Candidate(torch.empty_like(server), torch.empty_like(server), mode=mode)
    trainer.start(server)
    groups = [Group(1.0, part.weight_decay, 0, SIZE)]
    optimizer = own_steps.build(part, groups, server)
    replies: deque[tuple[int, Tensor]] = deque()
    for period in range(PERIODS):
        p = optimizer.displacement(slope(trainer.weights, period), trainer.weights, rate(period))
        arrived = bool(replies) and replies[0][0] <= period
        if trainer.end_period(p, replies.popleft()[1] if arrived else None):
            server -= trainer.in_flight
            replies.append((period + 1 + latency, server.clone()))
        yield trainer.weights.clone()


SGD = [
    spec.Sgd(kind="sgd", learning_rate=1.0),
    spec.Sgd(kind="sgd", learning_rate=1.0, momentum=0.9, weight_decay=1e-2),
    spec.Sgd(kind="sgd", learning_rate=1.0, momentum=0.9, nesterov=True, weight_decay=1e-2),
]


@pytest.mark.parametrize("part", SGD, ids=["plain", "momentum", "nesterov"])
@pytest.mark.parametrize("latency", [0, 1, 5])
def test_one_trainer_equals_sequential_sgd_at_any_latency(part: spec.Sgd, latency: int) -> None:
    expected = list(sequential(part.momentum, part.nesterov, part.weight_decay))
    found = list(candidate_of_one(latency, part))
    assert max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)) <= 1e-12


@pytest.mark.parametrize("part", SGD, ids=["plain", "momentum", "nesterov"])
def test_one_trainer_equals_it_to_the_bit_without_latency(part: spec.Sgd) -> None:
    expected = sequential(part.momentum, part.nesterov, part.weight_decay)
    assert all(torch.equal(a, b) for a, b in zip(expected, candidate_of_one(0, part), strict=True))


def test_overwriting_loses_what_is_in_flight() -> None:
    expected = list(sequential(0.0, False, 0.0))
    found = list(candidate_of_one(5, SGD[0], mode="overwrite"))
    assert max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True)) > 1e-3


def started(mode: Mode = "compensate") -> Candidate:
    candidate = Candidate(torch.zeros(1), torch.zeros(1), mode=mode)
    candidate.start(tensor([10.0]))
    return candidate


def test_it_pushes_its_first_displacement_and_goes_on_from_a_candidate() -> None:
    candidate = started()
    assert candidate.end_period(tensor([1.0]), None)
    assert (candidate.in_flight.item(), candidate.weights.item(), candidate.flying) == (1.0, 9.0, 1)


def test_it_adds_up_what_it_does_while_a_push_is_in_flight() -> None:
    candidate = started()
    pushes = [candidate.end_period(tensor([p]), None) for p in (1.0, 2.0, 4.0)]
    assert pushes == [True, False, False]
    assert (candidate.in_flight.item(), candidate.since.item(), candidate.weights.item()) == (1.0, 6.0, 3.0)
    assert candidate.unacknowledged == 3


def test_a_reply_empties_the_line_and_what_was_added_is_pushed_at_once() -> None:
    # Somebody else took 5 off: 10 - 1 - 5 = 4. What the server has not seen is 2 + 4 + 8 = 14.
    candidate = started()
    for p in (1.0, 2.0, 4.0):
        candidate.end_period(tensor([p]), None)
    assert candidate.end_period(tensor([8.0]), tensor([4.0]))
    assert (candidate.in_flight.item(), candidate.weights.item()) == (14.0, -10.0)
    assert (candidate.flying, candidate.added) == (3, 0)


def test_overwrite_takes_the_servers_weights_as_they_are() -> None:
    candidate = started("overwrite")
    candidate.end_period(tensor([1.0]), None)
    assert candidate.end_period(tensor([2.0]), tensor([4.0]))
    assert (candidate.in_flight.item(), candidate.weights.item()) == (2.0, 4.0)


def test_adamw_displacements_are_the_steps_of_torch() -> None:
    part = spec.AdamW(kind="adamw", learning_rate=1.0, weight_decay=0.1)
    w = torch.nn.Parameter(first_weights())
    theirs = torch.optim.AdamW([w], lr=0.01, weight_decay=0.1)
    ours, own = first_weights(), own_steps.build(part, [Group(1.0, 0.1, 0, SIZE)], first_weights())
    for period in range(20):
        w.grad = slope(w.detach(), period)
        theirs.step()
        ours -= own.displacement(slope(ours, period), ours, 0.01)
    torch.testing.assert_close(ours, w.detach(), rtol=0, atol=1e-12)
