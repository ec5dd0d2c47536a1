"""Machine groups under the virtual clock: the same training as one device's, cut in another way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.harness import spec_of
from workers.failures import Failure
from workers.simulator.replay import threads
from workers.simulator.simulation import Simulation
from workers.spec_errors import SpecError


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


CNN: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
    "batch_size": 12,
    "budget": {"updates": 25},
    "execution": {"kind": "simulate"},
}
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "uneven-batch": {"batch_size": 10},
    "adamw": {"optimizer": {"kind": "adamw", "learning_rate": 0.003}},
    "server-batch-norm": {"batch_norm": {"kind": "server"}},
    "accumulated-and-clipped": {"accumulation": 3, "clip_norm": 0.5},
    "mlp": {"problem": {"kind": "digits", "model": {"kind": "mlp", "batch_norm": True}}},
}


def weights(**changes: Any) -> tuple[Tensor, Tensor, float]:
    simulation = Simulation(spec_of(**CNN | changes))
    result = simulation.run()
    assert result.version == 25
    return simulation.core.weights.clone(), simulation.core.buffers.clone(), result.evaluations[-1].metrics["accuracy"]


def hybrid(shards: int) -> dict[str, Any]:
    return {"layout": {"kind": "hybrid", "shards": shards}}


@pytest.mark.parametrize("shards", [2, 4])
@pytest.mark.parametrize("kind", CHANGES)
def test_one_group_learns_what_one_device_learns_from_the_whole_batch(kind: str, shards: int) -> None:
    whole, statistics, accuracy = weights(**CHANGES[kind])
    cut, cut_statistics, cut_accuracy = weights(**CHANGES[kind], **hybrid(shards))
    assert not torch.equal(cut, whole)  # it did go another way
    torch.testing.assert_close(cut, whole, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(cut_statistics, statistics, rtol=1e-3, atol=1e-3)
    assert cut_accuracy == pytest.approx(accuracy, abs=0.02)


def test_a_first_step_is_the_same_to_a_hundred_thousandth() -> None:
    moved = []
    for layout in ({}, hybrid(3)):
        changes: dict[str, Any] = {"budget": {"updates": 1}, "optimizer": {"kind": "sgd", "learning_rate": 1.0}}
        simulation = Simulation(spec_of(**CNN | changes | layout))
        before = simulation.core.weights.clone()
        simulation.run()
        moved.append(simulation.core.weights - before)
    assert (moved[1] - moved[0]).abs().max() <= 1e-5 * moved[0].abs().max()


def test_three_groups_go_with_rates_compensations_and_gates() -> None:
    for changes in (
        {"rate": {"kind": "balanced"}, "gate": {"kind": "softsync", "c": 2}},
        {"compensation": {"kind": "dc-asgd-a"}},
        {"rate": {"kind": "window"}, "batch_norm": {"kind": "server"}},
    ):
        simulation = Simulation(spec_of(**CNN | hybrid(2) | changes, workers=3))
        assert simulation.run().version == 25


def test_the_same_seed_gives_the_same_weights() -> None:
    assert len({Simulation(spec_of(**CNN | hybrid(3), workers=2)).run().weights_hash for _ in range(2)}) == 1


# ---------------------------------------------------------------- what can't be cut


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": {"kind": "hybrid", "shards": 12}}, "10 classes can't be cut into 12 slices"),
        ({"problem": {"kind": "ledger"}} | hybrid(2), "the model has no Linear layer to cut"),
    ],
)
def test_a_model_that_can_t_be_cut_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Simulation(spec_of(**CNN | changes))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("Scaled", "what the model gives is not what its last Linear, linear, gives"),
        ("Tied", "the weight of its last Linear, last, is another layer's too"),
        ("Frozen", "its last Linear, linear, is frozen"),
    ],
)
def test_a_last_layer_that_is_not_the_output_is_refused(model: str, words: str) -> None:
    problem = {"kind": "python", "target": "tests.engine.headed:Headed", "parameters": {"model": model}}
    with pytest.raises(SpecError, match=words):
        Simulation(spec_of(**CNN | hybrid(2) | {"problem": problem}))


def test_a_loss_with_a_term_of_its_own_is_refused() -> None:
    problem = {"kind": "python", "target": "tests.engine.headed:Headed", "parameters": {"model": "Plain", "term": 0.1}}
    with pytest.raises(Failure, match="cross_entropy of the model's output, as it is"):
        Simulation(spec_of(**CNN | hybrid(2) | {"problem": problem})).run()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"waiting": {"kind": "candidate"}}, "waiting.kind"),
        ({"outer": {"kind": "easgd"}}, "outer.kind"),
        ({"batch_size": 1}, "layout.shards"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(**CNN | hybrid(2) | changes)
    assert field in [finding.field for finding in caught.value.findings]


def test_a_group_takes_a_slot_for_each_device() -> None:
    live = {"execution": {"kind": "live"}}
    spec = spec_of(**CNN | hybrid(2) | live, workers={"min": 2, "max": 3})
    assert (spec.slots, spec.least_slots) == (7, 5)
    assert spec_of(**CNN | hybrid(2), workers=3).slots == 1
