"""Runs side by side: what differs, means over seeds by numbers that anyone can redo, and who may look."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.web.conftest import client_of
from trainhub import comparison
from trainhub.models import Project, Run, RunState
from workers import events

pytestmark = pytest.mark.django_db


@pytest.fixture
def seeds(project: Project, alice: User) -> list[Run]:
    """Three completed seeds of one specification, and one run at another rate."""
    return [
        ended(project, alice, seed=2, accuracy=0.98),
        ended(project, alice, seed=0, accuracy=0.94),
        ended(project, alice, seed=1, accuracy=0.96),
        ended(project, alice, seed=0, accuracy=0.5, rate={"kind": "constant"}),
    ]


def ended(project: Project, owner: User, *, accuracy: float, **changes: Any) -> Run:
    made = factories.run(owner=owner, within=project, spec=factories.spec(delays=[], **changes))
    factories.ended(made, accuracy)
    return made


def address(*runs: Run) -> str:
    return "/compare/?" + "&".join(f"run={run.pk}" for run in runs)


def measured(run: Run, key: str, worker: int, values: list[float]) -> None:
    """Store a series of a run that has a server."""
    server = run.attempts.get(number=1).members.get(rank=0)
    x = np.arange(1, len(values) + 1)
    points = events.Points(worker, key, x.astype("<i8").tobytes(), x.astype("<f8").tobytes(), floats(values))
    factories.store(server, events.Batch(sequence=server.spool_sequence + 1, points=[points], progress=None))


def floats(values: list[float]) -> bytes:
    return np.array(values, "<f8").tobytes()


def test_seeds_stand_together_with_their_mean_and_deviation(seeds: list[Run]) -> None:
    # (0.94 + 0.96 + 0.98) / 3 = 0.96; deviation of the sample sqrt((0.02^2 + 0 + 0.02^2) / 2) = 0.02
    compared = comparison.compare([seeds[0], seeds[3], seeds[1], seeds[2]])
    together, alone = compared.groups
    assert together.seeds == [0, 1, 2]
    assert together.completed == 3
    assert together.means["accuracy"].count == 3
    assert together.means["accuracy"].mean == pytest.approx(0.96)
    assert together.means["accuracy"].deviation == pytest.approx(0.02)
    assert alone.runs == [seeds[3].pk]
    assert alone.means["accuracy"].deviation is None


def test_a_run_that_has_not_completed_is_marked_and_not_in_the_mean(seeds: list[Run]) -> None:
    Run.objects.filter(pk=seeds[0].pk).update(state=RunState.RUNNING)
    [group] = comparison.compare(list(Run.objects.filter(pk__in=[run.pk for run in seeds[:3]]))).groups
    assert (len(group.runs), group.completed) == (3, 2)
    assert group.means["accuracy"].mean == pytest.approx(0.95)
    page = client_of("alice").get(address(*seeds[:3])).content.decode()
    assert "Mean ± sd of 2 seeds; 1 run has not completed" in page
    assert "not in the mean" in page
    assert page.count("uncounted") == 1


def test_a_name_or_a_priority_makes_no_other_group_but_a_parameter_does(project: Project, alice: User) -> None:
    one = ended(project, alice, accuracy=0.9, name="one", priority=3, tags=["x"], notes="first")
    two = ended(project, alice, accuracy=0.9, name="two", seed=4)
    three = ended(project, alice, accuracy=0.9, name="two", seed=4, batch_size=64)
    assert [group.runs for group in comparison.compare([one, two, three]).groups] == [[one.pk, two.pk], [three.pk]]


def test_what_differs_comes_first_and_the_rest_is_folded(seeds: list[Run]) -> None:
    compared = comparison.compare([seeds[1], seeds[3]])
    assert [p.field for p in compared.differing] == ["rate.kind"]
    assert compared.differing[0].values == ["staleness-inverse", "constant"]
    assert "seed" in [p.field for p in compared.equal]
    assert compared.parameters[: len(compared.differing)] == compared.differing
    assert not {"name", "notes", "tags", "version"} & {p.field for p in compared.parameters}


def test_fields_are_dotted_and_a_missing_one_is_told(project: Project, alice: User) -> None:
    delay = [{"kind": "factor", "factor": 3, "workers": [3, 1]}]
    slowed = factories.run(owner=alice, within=project, spec=factories.spec(delays=delay))
    plain = factories.run(owner=alice, within=project, spec=factories.spec(delays=[]))
    told = {p.field: p.values for p in comparison.compare([slowed, plain]).differing}
    assert told["delays.0.factor"] == ["3", "–"]
    assert told["delays.0.workers"] == ["3, 1", "–"]


def test_results_are_means_over_all_points(project: Project, alice: User) -> None:
    run = ended(project, alice, accuracy=0.9)
    factories.gang(run, trainers=2)
    measured(run, "staleness", 0, [0, 1, 2])
    measured(run, "staleness", 1, [5])
    measured(run, "updates_per_second", -1, [10, 30])
    result = comparison.compare([run, ended(project, alice, accuracy=0.8)]).results[0]
    assert result.mean_staleness == 2  # (0 + 1 + 2 + 5) / 4
    assert result.updates_per_second == 20
    assert result.metrics == {"accuracy": 0.9, "loss": 0.1}
    assert result.virtual_seconds is None


def test_a_metric_that_is_no_number_is_in_no_mean(seeds: list[Run]) -> None:
    Run.objects.filter(pk=seeds[0].pk).update(metrics={"accuracy": "NaN", "loss": 1.0, "version": 7})
    [group] = comparison.compare(list(Run.objects.filter(pk__in=[run.pk for run in seeds[:3]]))).groups
    assert group.means["accuracy"].count == 2
    assert group.means["loss"].count == 3


def test_as_data_has_everything_in_the_order_of_its_runs(seeds: list[Run]) -> None:
    data = comparison.compare(seeds).as_data()
    ids = [run["id"] for run in data["runs"]]
    assert ids == [result["run"] for result in data["results"]]
    assert ids == [pk for group in data["groups"] for pk in group["runs"]]
    assert all(len(p["values"]) == 4 for p in data["parameters"])
    assert data["groups"][0]["means"]["accuracy"]["mean"] == pytest.approx(0.96)


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 200), ("vera", 200), ("carol", 404)])
def test_whoever_sees_the_runs_may_compare_them(seeds: list[Run], name: str, status: int) -> None:
    assert client_of(name).get(address(*seeds)).status_code == status
    assert client_of(name).get(f"/compare/?experiment={seeds[0].experiment_id}").status_code == status


def test_one_run_that_may_not_be_seen_hides_the_comparison(seeds: list[Run]) -> None:
    secret = factories.run(owner=factories.person("carol"), within=factories.project("secret"))
    hidden = client_of("alice").get(address(*seeds, secret))
    missing = client_of("alice").get(f"{address(*seeds)}&run=999999")
    assert hidden.status_code == missing.status_code == 404


@pytest.mark.parametrize("given", ["run=x", "run=1&run=", "run=-1", "experiment=x", "run=99999999999999999999"])
def test_what_is_no_number_is_nothing(project: Project, given: str) -> None:
    assert client_of("alice").get(f"/compare/?{given}").status_code == 404


def test_nobody_is_sent_to_sign_in_and_the_page_is_only_read(seeds: list[Run]) -> None:
    assert Client().get("/compare/?run=1").headers["Location"].startswith("/sign-in/?next=/compare/")
    assert client_of("alice").post(address(*seeds)).status_code == 405


def test_fewer_than_two_runs_or_more_than_twelve_say_what_to_do(project: Project, alice: User) -> None:
    runs = [factories.run(owner=alice, within=project) for _ in range(13)]
    few, many = client_of("alice").get(address(runs[0])), client_of("alice").get(address(*runs))
    assert "Tick 2 to 12 runs" in few.content.decode()
    assert many.status_code == 400
    assert "13 runs are too many" in many.content.decode()
    assert client_of("alice").get(address(*runs[:12])).status_code == 200


def test_a_run_given_twice_is_one(seeds: list[Run]) -> None:
    page = client_of("alice").get(address(seeds[0], seeds[1], seeds[0])).content.decode()
    assert "2 runs compared" in page


def test_of_a_large_experiment_one_run_stands_for_each_cell(project: Project, alice: User) -> None:
    labels = [{"rate": rate, "seed": seed} for rate in ("balanced", "window") for seed in range(7)]
    runs = factories.study(owner=alice, within=project, labels=labels)
    factories.ended(runs[3], 0.9)
    chosen = comparison.of_experiment(runs[0].experiment)
    assert [run.pk for run in chosen] == [runs[3].pk, runs[7].pk]
    page = client_of("alice").get(f"/compare/?experiment={runs[0].experiment_id}").content.decode()
    assert "12 more are on the" in page


def test_all_runs_of_a_small_experiment_are_compared(project: Project, alice: User) -> None:
    runs = factories.study(owner=alice, within=project, labels=[{"seed": seed} for seed in range(3)])
    assert comparison.of_experiment(runs[0].experiment) == runs
    assert "/compare/?experiment=" in client_of("alice").get(runs[0].experiment.get_absolute_url()).content.decode()


def test_names_tell_runs_apart(seeds: list[Run]) -> None:
    page = client_of("alice").get(address(*seeds)).content.decode()
    for told in ("· seed 1<", "· seed 2<", f"· seed 0 · run {seeds[1].pk}<", f"· seed 0 · run {seeds[3].pk}<"):
        assert told in page


def test_htmx_gets_the_results_alone_and_only_while_a_run_goes_on(seeds: list[Run], project: Project) -> None:
    client = client_of("alice")
    part = client.get(address(*seeds), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "Mean ± sd of 3 seeds" in part
    assert "hx-trigger" not in client.get(address(*seeds)).content.decode()
    Run.objects.filter(pk=seeds[0].pk).update(state=RunState.RUNNING, started_at=timezone.now())
    assert "hx-trigger" in client.get(address(*seeds)).content.decode()


def test_a_name_is_shown_as_text(project: Project, alice: User) -> None:
    runs = [factories.run(owner=alice, within=project, name="</script><script>alert(1)</script>") for _ in range(2)]
    assert "<script>alert" not in client_of("alice").get(address(*runs)).content.decode()


def test_a_course_is_the_mean_of_all_trainers_at_the_same_versions(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project)
    factories.gang(run, trainers=2)
    measured(run, "staleness", 0, [0, 1, float("nan"), 3])
    measured(run, "staleness", 1, [2, 3, 4])
    course = comparison.courses(run)["staleness"]
    assert course.x == [1, 2, 3, 4]
    assert course.y == [1, 2, 4, 3]  # (0 + 2) / 2, (1 + 3) / 2, 4, 3


def test_a_long_course_is_as_many_means_as_fit_a_chart_and_no_extreme_bends_them(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project)
    factories.gang(run, trainers=1)
    measured(run, "loss", 0, [0, 0, 0, 4] * 4000)
    course = comparison.courses(run)["loss"]
    assert len(course.x) == comparison.STRETCHES
    assert course.y == [pytest.approx(1, abs=0.02)] * comparison.STRETCHES


def test_a_course_leaves_out_what_a_later_attempt_made_void(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project)
    factories.gang(run, trainers=1)
    measured(run, "loss", 0, [1, 1, 9, 9])
    factories.gang(run, trainers=1, number=2, restored=2)
    assert comparison.courses(run)["loss"].y == [1, 1]


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 200), ("vera", 200), ("carol", 404)])
def test_whoever_sees_the_run_gets_its_courses(seeds: list[Run], name: str, status: int) -> None:
    address = f"/compare/runs/{seeds[0].pk}/courses"
    assert client_of(name).get(address).status_code == status
    assert Client().get(address).status_code == 302
    assert client_of(name).post(address).status_code == 405
