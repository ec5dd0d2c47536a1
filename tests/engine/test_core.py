"""The pure parameter server: versions, staleness, steps and what it refuses."""

import pytest
import torch

from workers import spec
from workers.layout import Group
from workers.methods.batch_norm.local import LocalBatchNorm
from workers.methods.gates.asynchronous import Asynchronous
from workers.methods.rates.staleness_inverse import StalenessInverse
from workers.server.core import ParameterServer, Rules
from workers.server.optimizers import Tiling, build
from workers.server.passes import HandOver
from workers.server.pushes import Applied, Push, Reaction, Skip, Stale

SIZE = 16


def server(workers: int = 2) -> ParameterServer:
    tiling, weights = Tiling([Group(1.0, 0.0, 0, SIZE)]), torch.zeros(SIZE)
    optimizer = build(spec.Sgd(kind="sgd", learning_rate=1.0), tiling, weights)
    rules = Rules(optimizer, StalenessInverse(), Asynchronous(), LocalBatchNorm(rho=0.5), lambda gradients: 1.0)
    return ParameterServer(weights, torch.zeros(2), tiling, rules, workers=workers)


def place(core: ParameterServer, gradient: float = -1.0, statistic: float = 0.0) -> HandOver:
    return HandOver.of(
        core.tiling,
        gradient=torch.full((SIZE,), gradient),
        weights=torch.empty(SIZE),
        buffers=torch.full((2,), statistic),
    )


def test_a_push_makes_a_version_and_leaves_the_new_weights() -> None:
    core = server()
    here = place(core)
    assert core.receive(Push(0, here, 0, 0)) == ([Applied(0, 0, 0, 1.0, 1.0)], [0], [], [Skip(0, 1, 0)])
    assert core.version == 1
    assert torch.equal(here.weights[0], torch.ones(SIZE))


def test_a_late_gradient_takes_a_smaller_step() -> None:
    core = server()
    for step in range(2):
        core.receive(Push(0, place(core), step, step))
    [applied] = core.receive(Push(1, place(core), 0, 0)).applied
    assert (applied.staleness, applied.scale, applied.learning_rate) == (2, 0.5, 0.5)
    assert float(core.weights[0]) == 2.5


def test_statistics_are_averaged() -> None:
    core = server()
    core.receive(Push(0, place(core, statistic=4.0), 0, 0))
    core.receive(Push(1, place(core, statistic=2.0), 0, 0))
    assert core.buffers.tolist() == [3.0, 3.0]


def test_a_refused_gradient_leaves_no_trace_but_its_step_is_over() -> None:
    core = server()
    here = place(core, gradient=float("nan"))
    core.refuse(Push(0, here, 0, 0))
    assert (core.version, core.clocks.refused, core.clocks.steps) == (0, 1, [1, 0])
    assert torch.equal(here.weights[0], torch.zeros(SIZE))


@pytest.mark.parametrize(("base_version", "step"), [(1, 0), (0, 1)])
def test_a_push_of_a_version_or_step_it_was_not_given_is_refused(base_version: int, step: int) -> None:
    core = server()
    with pytest.raises(Stale):
        core.receive(Push(0, place(core), base_version, step))
    assert core.version == 0


def test_gradients_taken_in_together_come_to_what_they_come_to_one_by_one() -> None:
    apart, together = server(3), server(3)
    for core in (apart, together):
        for worker in range(3):
            core.join(worker)
    gradients = (-1.0, 2.0, -4.0)
    for worker, gradient in enumerate(gradients):
        apart.receive(Push(worker, place(apart, gradient, statistic=gradient), 0, 0))
    places = [place(together, gradient, statistic=gradient) for gradient in gradients]
    reactions = together.receive_together([Push(worker, here, 0, 0) for worker, here in enumerate(places)])
    assert torch.equal(together.weights, apart.weights)
    assert torch.equal(together.buffers, apart.buffers)
    assert vars(together.clocks) == vars(apart.clocks)
    # Each has a version of its own; all read the last.
    assert [r.applied[0].staleness for r in reactions if isinstance(r, Reaction)] == [0, 1, 2]
    assert [r.skips for r in reactions if isinstance(r, Reaction)] == [
        [Skip(0, 1, 2)],
        [Skip(1, 2, 1)],
        [Skip(2, 3, 0)],
    ]
    assert all(torch.equal(here.weights[0], together.weights) for here in places)


def test_one_that_does_not_fit_leaves_the_others_alone() -> None:
    core = server(2)
    good, bad = place(core), place(core)
    first, second = core.receive_together([Push(0, bad, 7, 0), Push(1, good, 0, 0)])
    assert isinstance(first, Stale)
    assert isinstance(second, Reaction)
    assert second.applied == [Applied(1, 0, 0, 1.0, 1.0)]
    assert core.version == 1
