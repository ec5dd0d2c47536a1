"""Experiments of many runs: all or none, in order; and a tick costs no more for a queue of thousands."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.control.conftest import make_node, spec
from trainhub import scheduling
from trainhub.actions import members, placement, runs
from trainhub.actions.errors import NoCheckpoint, WrongExperiment
from trainhub.models import Event, Experiment, Project, Run, RunState
from trainhub.topology import Free, Host
from workers.spec import RunSpec

SIMULATED = {"execution": {"kind": "simulate"}}
ONE = [Host("one", {"cpu": 3})]


class Cell(NamedTuple):
    spec: RunSpec
    labels: dict[str, Any]


def idle(count: int) -> list[Free]:
    return [Free(index, "one", "cpu", index) for index in range(count)]


def cells(count: int, **changes: Any) -> list[Cell]:
    return [Cell(spec(seed=seed, **changes), {"workers": 2, "seed": seed}) for seed in range(count)]


def submit(project: Project, owner: User, given: list[Cell], name: str = "a study") -> Experiment:
    return runs.submit_many(project=project, owner=owner, name=name, cells=given, tags=["night"])


def test_each_cell_is_a_queued_run_with_its_own_spec_and_labels(project: Project, alice: User) -> None:
    made = submit(project, alice, cells(3))
    found = list(made.runs.order_by("number"))
    assert [(r.number, r.state, r.run_spec.seed, r.labels["seed"]) for r in found] == [
        (n + 1, RunState.QUEUED, n, n) for n in range(3)
    ]
    assert (made.axes, made.tags) == (["workers", "seed"], ["night"])
    assert len({bytes(r.key) for r in found}) == 3
    assert Event.objects.filter(kind="submitted").count() == 3


def test_one_cell_that_can_not_be_leaves_none(project: Project, alice: User) -> None:
    wrong = Cell(spec(start={"kind": "checkpoint", "run": 99}), {})
    with pytest.raises(NoCheckpoint):
        submit(project, alice, [*cells(2), wrong])
    assert not Experiment.objects.exists()
    assert not Run.objects.exists()


@pytest.mark.parametrize(("count", "name"), [(0, "a"), (runs.MOST_RUNS + 1, "a"), (1, ""), (1, "a" * 121)])
def test_an_experiment_has_bounds(project: Project, alice: User, count: int, name: str) -> None:
    with pytest.raises(WrongExperiment, match="an experiment"):
        submit(project, alice, cells(1) * count, name)


@pytest.fixture
def thousands(project: Project, alice: User) -> Experiment:
    make_node("one", 3)
    return submit(project, alice, cells(1, **SIMULATED) * 2000)


def test_a_tick_looks_at_the_head_of_a_long_queue_in_few_queries(thousands: Experiment) -> None:
    with CaptureQueriesContext(connection) as asked:
        queue = placement.queue(idle(3), ONE)
    assert len(queue.waiting) == 3 + placement.LOOKED_AHEAD
    assert [w.run for w in queue.waiting] == list(
        thousands.runs.order_by("pk").values_list("pk", flat=True)[: 3 + placement.LOOKED_AHEAD]
    )
    assert len(asked) <= 4
    assert not any("spec" in q["sql"] for q in asked)


def test_those_far_behind_are_told_so_some_at_a_tick(thousands: Experiment) -> None:
    queue = placement.queue([], ONE)
    placement.explain_the_rest(but=queue.told)
    told = Run.objects.exclude(waiting_reason="")
    assert told.count() == placement.TOLD_AT_ONCE
    assert set(told.values_list("waiting_reason", flat=True)) == {"more than 50 runs are ahead"}
    assert not told.filter(pk__in=queue.told).exists()


def test_a_run_that_fits_is_seen_behind_many_that_do_not(project: Project, alice: User) -> None:
    submit(project, alice, cells(1, workers=2) * (placement.LOOKED_AHEAD + 5))
    small = runs.submit(project=project, owner=alice, spec=spec(**SIMULATED))
    queue = placement.queue(idle(1), ONE)
    assert list(scheduling.plan(queue.waiting, idle(1), ONE, now=small.queued_at).admitted) == [small.pk]
    assert small.pk not in queue.told, "what is ahead of it was not all counted"


def test_runs_that_can_never_fit_do_not_hide_the_others(project: Project, alice: User) -> None:
    submit(project, alice, cells(1, workers=9) * (placement.LOOKED_AHEAD + 5))
    small = runs.submit(project=project, owner=alice, spec=spec(**SIMULATED))
    queue = placement.queue([], ONE)
    assert small.pk in queue.told
    assert len(queue.waiting) == 1 + placement.LOOKED_AHEAD


def test_a_simulation_under_way_lacks_no_trainers(project: Project, alice: User) -> None:
    make_node("one", 4)
    run = runs.submit(project=project, owner=alice, spec=spec(**SIMULATED))
    [member] = placement.admit(run.pk, placement.idle_slots()[:1])
    taken = members.take(member.pk, "one")
    assert taken is not None
    assert members.claim(taken) == 1
    simulation = members.get(member.pk)
    assert (simulation.role, simulation.leads, simulation.title) == ("simulation", True, "simulation")
    members.training(simulation)
    Run.objects.update(fraction=0.5)
    assert Run.objects.get(pk=run.pk).state == RunState.RUNNING
    assert placement.missing_trainers() == []


def test_runs_of_before_are_told_how_many_slots_they_take(queued: Run) -> None:
    Run.objects.update(least_slots=1, most_slots=1)
    import_module("trainhub.migrations.0002_experiments_of_many_runs").count_slots(apps, None)
    queued.refresh_from_db()
    assert (queued.least_slots, queued.most_slots) == (3, 3)
