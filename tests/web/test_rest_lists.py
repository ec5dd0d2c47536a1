"""Lists: filters, pages that stay put while rows are added, and few queries however many rows there are."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests import factories
from tests.web import rest
from tests.web.rest import Asker, session
from trainhub.models import Experiment, Node, Project, Role, Run, RunState
from workers.gpus import Gpu

pytestmark = pytest.mark.django_db

LISTS = ["runs", "experiments", "datasets", "nodes", "tokens"]


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200
    return [item["id"] for item in answer.json()["items"]]


def sealed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def walk(asker: Asker, path: str, **query: Any) -> list[int]:
    found: list[int] = []
    page = asker.get(path, **query)
    found += ids(page)
    while page.json()["next"]:
        page = asker.get(path, **query, cursor=page.json()["next"])
        found += ids(page)
    return found


@pytest.fixture
def runs(project: Project, alice: User) -> list[Run]:
    return [factories.run(owner=alice, within=project) for _ in range(7)]


def test_pages_put_together_are_the_list_newest_first(runs: list[Run]) -> None:
    newest_first = [run.pk for run in reversed(runs)]
    assert walk(session("bob"), "runs") == newest_first
    assert walk(session("bob"), "runs", limit=3) == newest_first
    assert walk(session("bob"), "experiments", limit=2) == [run.experiment_id for run in reversed(runs)]


def test_rows_that_come_meanwhile_move_no_page(runs: list[Run], project: Project, alice: User) -> None:
    first = session("bob").get("runs", limit=3).json()
    factories.run(owner=alice, within=project)
    second = session("bob").get("runs", limit=3, cursor=first["next"])
    assert [item["id"] for item in first["items"]] + ids(second) == [run.pk for run in reversed(runs)][:6]


def test_a_row_that_goes_meanwhile_doubles_and_skips_none(runs: list[Run]) -> None:
    first = session("bob").get("runs", limit=3).json()
    runs[4].delete()  # the last of the first page, which the cursor points at
    assert ids(session("bob").get("runs", limit=3, cursor=first["next"])) == [run.pk for run in reversed(runs[1:4])]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", ["", "x", "\x00", sealed("Run:0"), sealed("Run:-1"), sealed(f"Run:{10**25}"), "w4Q"])
def test_a_cursor_of_somewhere_else_is_refused(project: Project, path: str, cursor: str) -> None:
    answer = session("bob").get(path, cursor=cursor)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/query/cursor"


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(("limit", "status"), [("0", 422), ("1", 200), ("200", 200), ("201", 422), ("many", 422)])
def test_a_page_has_1_to_200_rows(project: Project, path: str, limit: str, status: int) -> None:
    assert session("bob").get(path, limit=limit).status_code == status


@pytest.mark.parametrize("path", [*LISTS, "me", "methods", "specs/schema"])
def test_a_parameter_that_is_not_known_is_refused(project: Project, path: str) -> None:
    answer = session("bob").get(path, stat="running")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "stat")


@pytest.fixture
def mixed(project: Project, alice: User) -> dict[str, int]:
    """Runs that differ in what the list can be narrowed by."""
    speech = factories.project("speech", bob=Role.MEMBER)
    bob = factories.person("bob")
    made = {
        "plain": factories.run(owner=alice, within=project, spec=factories.spec(name="plain")),
        "failed": factories.run(owner=alice, within=project, state=RunState.FAILED),
        "speech": factories.run(owner=bob, within=speech),
        "softsync": factories.run(
            owner=alice, within=project, spec=factories.spec(gate={"kind": "softsync", "c": 2}), state=RunState.RUNNING
        ),
    }
    Experiment.objects.filter(pk=made["speech"].experiment_id).update(tags=["loud"])
    return {name: run.pk for name, run in made.items()}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "failed"}, ["failed"]),
        ({"state": ["failed", "running"]}, ["softsync", "failed"]),
        ({"project": "speech"}, ["speech"]),
        ({"project": "nowhere"}, []),
        ({"owner": "bob"}, ["speech"]),
        ({"tag": "loud"}, ["speech"]),
        ({"method": "softsync"}, ["softsync"]),
        ({"method": ["softsync", "staleness-inverse"]}, ["softsync"]),
        ({"search": "plain"}, ["plain"]),
        ({"search": "%"}, []),
        ({"project": ""}, ["softsync", "speech", "failed", "plain"]),
        ({"experiment": 99999999999999999999}, []),
    ],
)
def test_the_list_is_narrowed(mixed: dict[str, int], query: dict[str, Any], found: list[str]) -> None:
    assert ids(session("bob").get("runs", **query)) == [mixed[name] for name in found]


def test_the_runs_of_an_experiment_can_be_listed_all(project: Project, alice: User) -> None:
    study = factories.study(owner=alice, within=project, labels=[{"seed": seed} for seed in range(6)])
    factories.run(owner=alice, within=project)
    listed = session("bob").get("runs", experiment=study[0].experiment_id)
    assert ids(listed) == [run.pk for run in reversed(study)]


def test_a_state_that_there_is_not_is_refused(project: Project) -> None:
    answer = session("bob").get("runs", state="sleeping")
    assert answer.status_code == 422
    assert "queued" in answer.json()["errors"][0]["message"]


def queries_of(path: str, asker: Asker) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert asker.get(path, limit=200).status_code == 200
    return len(captured)


@pytest.mark.parametrize("path", ["runs", "experiments"])
def test_a_list_of_many_takes_no_more_queries_than_a_list_of_few(project: Project, alice: User, path: str) -> None:
    bob = session("bob")
    factories.study(owner=alice, within=project, labels=[{"seed": 0}])
    few = queries_of(path, bob)
    for _ in range(5):
        factories.study(owner=alice, within=project, labels=[{"seed": seed} for seed in range(4)])
    assert queries_of(path, bob) == few <= 6


def test_a_list_parses_no_spec(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project)
    Run.objects.filter(pk=run.pk).update(spec={"problem": {"kind": "of a later version"}})
    assert ids(session("bob").get("runs")) == [run.pk]


def test_a_large_study_is_told_with_its_first_runs(project: Project, alice: User) -> None:
    study = factories.study(owner=alice, within=project, labels=[{"seed": seed} for seed in range(210)])
    told = session("bob").get(f"experiments/{study[0].experiment_id}").json()
    assert (told["total"], len(told["runs"])) == (210, 200)


def test_checkpoints_are_listed_newest_first(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project)
    kept = [factories.checkpoint(run, version) for version in (10, 20, 30)]
    listed = session("vera").get(f"runs/{run.pk}/checkpoints", limit=2)
    assert ids(listed) == [kept[2].pk, kept[1].pk]
    assert listed.json()["items"][0]["url"] == f"{rest.API}/runs/{run.pk}/checkpoints/{kept[2].pk}"


def test_nodes_tell_their_slots(project: Project, queued: Run) -> None:
    factories.gang(queued)
    [node] = session("carol").get("nodes").json()["items"]
    assert node["slots"]["total"] == 5
    assert node["online"]
    assert node["gpus"] == []


def test_nodes_tell_their_gpus(project: Project, queued: Run) -> None:
    factories.gang(queued)
    [node] = Node.objects.all()
    found = asdict(Gpu(1, "GPU-1", "NVIDIA H100", 80 << 30, "580.65", "9.0"))
    node.environment |= {"gpus": [found]}
    node.save()
    [told] = session("carol").get("nodes").json()["items"]
    assert told["gpus"] == [{name: value for name, value in found.items() if name != "uuid"}]


def test_runs_are_compared_in_one_answer(project: Project, alice: User) -> None:
    runs = factories.study(owner=alice, within=project, labels=[{"seed": 0}, {"seed": 1}])
    told = session("bob").get("compare", run=[run.pk for run in runs]).json()
    assert [run["id"] for run in told["runs"]] == [run.pk for run in runs]
    assert all(len(parameter["values"]) == 2 for parameter in told["parameters"])


@pytest.mark.parametrize(("count", "status"), [(0, 422), (1, 422), (13, 422)])
def test_two_to_twelve_runs_are_compared(project: Project, alice: User, count: int, status: int) -> None:
    runs = [factories.run(owner=alice, within=project) for _ in range(count)]
    assert session("bob").get("compare", run=[run.pk for run in runs]).status_code == status


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("runs", {"search": "a " * 1000}),
        ("runs", {"method": ["softsync"] * 21}),
        ("experiments", {"search": "a " * 1000}),
    ],
)
def test_a_list_takes_no_more_conditions_than_anybody_needs(project: Project, path: str, query: dict[str, Any]) -> None:
    assert session("bob").get(path, **query).status_code == 422
