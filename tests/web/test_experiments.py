"""The page of an experiment, and what the list shows of one with many runs."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests import factories
from tests.web.conftest import client_of
from trainhub import experiments
from trainhub.models import Project, Run, RunState

pytestmark = pytest.mark.django_db

LABELS: list[dict[str, Any]] = [
    {"seed": seed, "rate": rate, "workers": workers}
    for workers in (16, 2)
    for rate in ("window", "balanced")
    for seed in (1, 0)
]


@pytest.fixture
def study(project: Project, alice: User) -> list[Run]:
    return factories.study(owner=alice, within=project, labels=LABELS)


def address(runs: list[Run]) -> str:
    return runs[0].experiment.get_absolute_url()


def shown(name: str, path: str) -> str:
    return client_of(name).get(path).content.decode()


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 200), ("vera", 200), ("carol", 404)])
def test_whoever_sees_its_runs_sees_the_experiment(study: list[Run], name: str, status: int) -> None:
    assert client_of(name).get(address(study)).status_code == status


def test_a_stranger_gets_the_same_answer_as_for_an_experiment_that_does_not_exist(study: list[Run]) -> None:
    for path in (address(study), "/experiments/999999/"):
        answer = client_of("carol").get(path)
        assert answer.status_code == 404
        assert "There is nothing here" in answer.content.decode()
        assert "rates and gates" not in answer.content.decode()


def test_nobody_is_sent_to_sign_in_and_an_experiment_is_only_read(study: list[Run]) -> None:
    assert Client().get(address(study)).headers["Location"] == f"/sign-in/?next={address(study)}"
    assert client_of("alice").post(address(study)).status_code == 405


def test_runs_are_sorted_by_their_labels_with_the_seed_last(study: list[Run]) -> None:
    overview = experiments.overview(study[0].experiment)
    assert overview.axes == ["rate", "workers", "seed"]
    rows = [line.labels for cell in overview.cells for line in overview.group(cell).lines]
    assert rows[:4] == [
        ["balanced", "2", "0"],
        ["balanced", "2", "1"],
        ["balanced", "16", "0"],
        ["balanced", "16", "1"],
    ]
    assert [len(cell) for cell in overview.cells] == [2, 2, 2, 2]


def test_seeds_of_a_cell_are_told_by_mean_and_deviation(study: list[Run]) -> None:
    # 0.96 and 0.98: mean 0.97, deviation of the sample sqrt(2 * 0.01^2 / 1) = 0.01414
    factories.ended(study[0], 0.96)
    factories.ended(study[1], 0.98)
    page = shown("alice", address(study))
    assert "<strong>0.97</strong> ± 0.014" in page
    assert "2 of 2 runs" in page
    assert "2 of 8</strong> runs ended" in page
    assert "2 completed" in page
    assert "6 queued" in page


def test_one_completed_seed_has_no_deviation_and_a_run_under_way_does_not_count(study: list[Run]) -> None:
    factories.ended(study[0], 0.96)
    study[1].state = RunState.RUNNING
    study[1].save()
    factories.evaluated(study[1], 3, accuracy=0.2, loss=1.0)
    overview = experiments.overview(study[0].experiment)
    [group] = [g for g in map(overview.group, overview.cells) if g.mean is not None]
    assert (group.mean, group.deviation, group.completed) == (0.96, None, 1)


def test_it_is_looked_at_again_until_the_last_run_has_ended(study: list[Run]) -> None:
    assert "every 3s" in shown("alice", address(study))
    for run in study:
        factories.ended(run, 0.9)
    assert "every 3s" not in shown("alice", address(study))


def test_htmx_gets_the_table_alone(study: list[Run]) -> None:
    part = client_of("alice").get(address(study), headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="runs"')


def test_an_experiment_without_runs_says_so(study: list[Run]) -> None:
    Run.objects.all().delete()
    assert "runs were deleted" in shown("alice", address(study))


def test_a_long_experiment_has_pages(project: Project, alice: User) -> None:
    runs = factories.study(owner=alice, within=project, labels=[{"rate": n / 8} for n in range(201)])
    assert "Page 1 of 2" in shown("alice", address(runs))
    last = shown("alice", f"{address(runs)}?page=2")
    assert "<td>25</td>" in last
    assert "<td>24.875</td>" not in last


def test_labels_are_shown_as_text(project: Project, alice: User) -> None:
    runs = factories.study(owner=alice, within=project, labels=[{"<script>alert(1)": "<script>alert(2)"}])
    for path in (address(runs), runs[0].get_absolute_url(), "/runs/"):
        assert "<script>alert" not in shown("alice", path)


def test_the_list_folds_an_experiment_of_many_runs_and_names_it(study: list[Run], queued: Run) -> None:
    page = shown("alice", "/runs/")
    assert page.count('class="experiment"') == 5
    assert f'href="{address(study)}">rates and gates</a>' in page
    assert "1 of 8 in" in page
    assert "seed 1, rate window, workers 16" in page
    assert queued.name in page


def test_a_run_s_page_leads_to_its_experiment_if_it_has_company(study: list[Run], queued: Run) -> None:
    assert f'href="{address(study)}"' in shown("alice", study[3].get_absolute_url())
    assert address([queued]) not in shown("alice", queued.get_absolute_url())


def test_a_simulated_run_is_told_so(project: Project, alice: User) -> None:
    [run] = factories.study(owner=alice, within=project, labels=[{}], execution={"kind": "simulate"})
    page = shown("alice", run.get_absolute_url())
    for told in ("4 simulated trainers", "Virtual time", "per virtual second", "One member simulates"):
        assert told in page
    assert "4 simulated trainers" in shown("alice", "/runs/")
