"""What a specification promises: which charts get a place, what the delays tend to, and how it is told in words."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from tests import factories
from trainhub import expectations, summary, words
from trainhub.models import Project, Run, RunState
from trainhub.views.runs import places

SOFTSYNC = {"kind": "softsync", "c": 4, "waiting": True}


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ({"kind": "async"}, "N/c = 8/1 = 8 versions"),
        ({"kind": "ssp", "bound": 3}, "N/c = 8/1 = 8 versions"),
        (SOFTSYNC, "N/c = 8/4 = 2 versions"),
        (SOFTSYNC | {"c": 3}, "N/c = 8/3 ≈ 2.67 versions"),
        (SOFTSYNC | {"c": 99}, "N/c = 8/8 = 1 version"),
        ({"kind": "sync"}, "N/c = 8/8 = 1 version"),
        ({"kind": "backup", "extra": 3}, "N/c = 8/5 = 1.6 versions"),
    ],
)
def test_the_mean_delay_tends_to_trainers_over_gradients_of_an_update(gate: dict[str, Any], told: str) -> None:
    assert expectations.mean_delay({"workers": {"min": 8, "max": 8}, "gate": gate}).words == told


@pytest.mark.parametrize(
    "spec",
    [
        {"gate": {"kind": "backup", "extra": 1}},
        {"rate": {"kind": "ringmaster"}},
        {"waiting": {"kind": "candidate"}},
    ],
)
def test_it_need_not_where_some_gradients_are_never_applied(spec: dict[str, Any]) -> None:
    assert not expectations.mean_delay({"workers": 4} | spec).claimed
    assert expectations.mean_delay({"workers": 4}).claimed


def test_who_was_placed_counts_where_the_number_of_trainers_is_open(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project, spec=factories.spec(workers={"min": 2, "max": 6}, delays=[]))
    assert summary.read(run)["mean_delay"]["versions"] == 6
    factories.gang(run, trainers=3)
    assert summary.read(run)["mean_delay"]["versions"] == 3


def test_a_run_that_goes_on_keeps_places_for_what_its_method_measures(queued: Run) -> None:
    queued.spec |= {"gate": SOFTSYNC, "rate": {"kind": "window"}, "batch_norm": {"kind": "server"}}
    of_others = {"dropped", "own_steps", "candidates", "groups"}
    assert {name for name, shown in places(queued).items() if not shown} == of_others
    queued.spec |= {"gate": {"kind": "async"}, "rate": {"kind": "constant"}, "batch_norm": {"kind": "local"}}
    assert {name for name, shown in places(queued).items() if shown} == {"mean_delay", "deviations"}


def test_a_run_that_has_ended_shows_what_it_measured_and_no_more(project: Project, alice: User) -> None:
    empty = factories.run(owner=alice, within=project, state=RunState.COMPLETED)
    assert {name for name, shown in places(empty).items() if shown} == {"scale"}
    training = factories.Training(updates=100, group=2, window=4, dropped=True)
    full, _ = factories.trained_run(owner=alice, within=project, training=training, part=1, state=RunState.COMPLETED)
    assert {name for name, shown in places(full).items() if not shown} == {
        "no_barrier",
        "own_steps",
        "candidates",
        "groups",
    }


@pytest.mark.parametrize(
    ("spec", "own"),
    [
        ({"waiting": {"kind": "candidate"}}, {"own_steps", "candidates"}),
        ({"outer": {"kind": "easgd", "steps": 5}}, {"own_steps"}),
    ],
)
def test_trainers_that_step_by_themselves_have_charts_of_their_own(
    queued: Run, spec: dict[str, Any], own: set[str]
) -> None:
    queued.spec |= spec
    assert {name for name in ("own_steps", "candidates") if places(queued)[name]} == own


def test_real_machine_groups_have_charts_of_their_own(queued: Run) -> None:
    queued.spec |= {"layout": {"kind": "hybrid", "shards": 2}}
    assert places(queued)["groups"]
    queued.spec |= {"execution": {"kind": "simulate"}}
    assert not places(queued)["groups"]


SGD = {"optimizer": {"kind": "sgd"}}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"waiting": {"kind": "candidate", "k": 2}}, "Candidate model, 2 at a time, SGD"),
        ({"outer": {"kind": "easgd", "steps": 5}}, "Elastic averaging of 5 steps, SGD"),
        (
            {"optimizer": {"kind": "muon", "nesterov": True}, "averaging": {"kind": "recent"}},
            "Muon, mean of recent weights",
        ),
        (
            {"gate": SOFTSYNC, "rate": {"kind": "balanced"}, "batch_norm": {"kind": "server"}},
            "Softsync of 4, SGD, balanced rate, batch norm through the server",
        ),
        (
            {
                "gate": {"kind": "async"},
                "rate": {"kind": "window"},
                "compensation": {"kind": "none"},
                "batch_norm": {"kind": "local"},
            },
            "Asynchronous, SGD, sliding-window context rate",
        ),
        (
            {"layout": {"kind": "hybrid", "shards": 2}, "rate": {"kind": "mean-staleness"}},
            "SGD, mean staleness rate, hybrid-parallel groups of 2 devices",
        ),
        ({"compensation": {"kind": "dc-asgd-c"}}, "SGD, delay-compensated (constant)"),
        ({"compensation": {"kind": "dana-zero"}}, "SGD, DANA-Zero compensation"),
        ({"rate": {"kind": "of-tomorrow"}}, "SGD, of-tomorrow rate"),
        ({"gate": {"kind": "backup", "extra": 2}}, "Synchronous with backups: 2, SGD"),
        ({"gate": {"kind": "ssp", "bound": 3}}, "Stale synchronous parallel, 3 rounds apart at most, SGD"),
    ],
)
def test_choices_read_as_one_sentence(spec: dict[str, Any], told: str) -> None:
    assert words.method(SGD | spec) == told
