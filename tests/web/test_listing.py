"""The list of runs: each filter, each order, and what a page of it costs."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from tests import factories
from tests.web.conftest import client_of
from trainhub import access, listing
from trainhub.models import Experiment, Project, Role, Run, RunState

pytestmark = pytest.mark.django_db

Changes = dict[str, Any]
TRIES = 3


def filters(address: str) -> listing.Filters:
    return listing.Filters.parse(QueryDict(address))


def found(user: User, address: str) -> list[str]:
    """Names of the runs the user finds at this address, in their order."""
    runs = listing.listed(access.visible_runs(user), filters(address), me=user.get_username())
    return [run.name for run in runs]


@pytest.fixture
def runs(project: Project, alice: User) -> dict[str, Run]:
    """Alice's balanced and softsync runs, and bob's in a project of his own that alice may look into."""
    other = factories.project("language", bob=Role.ADMIN, alice=Role.VIEWER)
    softsync: Changes = {"gate": {"kind": "softsync", "c": 2}, "rate": {"kind": "balanced"}}
    compensated: Changes = {"compensation": {"kind": "dc-asgd-c"}, "rate": {"kind": "constant"}}
    waiting: Changes = {"waiting": {"kind": "candidate"}, "rate": {"kind": "constant"}, "delays": []}
    return {
        "async": run("async", alice, project, tags=["paper"], rate={"kind": "balanced"}),
        "softsync": run("softsync", alice, project, state=RunState.RUNNING, fraction=0.5, **softsync),
        "compensated": run("compensated", factories.person("bob"), project, state=RunState.FAILED, **compensated),
        "candidate": run("candidate", factories.person("bob"), other, tags=["paper", "night: 2"], **waiting),
    }


def run(name: str, owner: User, within: Project, *, tags: list[str] | None = None, **changes: Any) -> Run:
    of_run = {key: changes.pop(key) for key in ("state", "fraction") if key in changes}
    made = factories.run(owner=owner, within=within, spec=factories.spec(name=name, **changes), **of_run)
    Experiment.objects.filter(pk=made.experiment_id).update(tags=tags or [])
    return made


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("", ["candidate", "compensated", "softsync", "async"]),
        ("state=running", ["softsync"]),
        ("state=running&state=failed", ["compensated", "softsync"]),
        ("state=nonsense", ["candidate", "compensated", "softsync", "async"]),
        ("project=language", ["candidate"]),
        ("owner=bob", ["candidate", "compensated"]),
        ("owner=bob&mine=1", []),
        ("mine=1", ["softsync", "async"]),
        ("tag=paper", ["candidate", "async"]),
        ("tag=night%3A+2", ["candidate"]),
        ("tag=pap", []),
        ("method=balanced", ["softsync", "async"]),
        ("method=Balanced", ["softsync", "async"]),
        ("method=balanced&method=softsync", ["softsync"]),
        ("method=dc-asgd-c", ["compensated"]),
        ("method=delay-compensated", ["compensated"]),
        ("method=candidate", ["candidate"]),
        ("method=sgd", ["candidate", "compensated", "softsync", "async"]),
        ("method=adamw", []),
        ("search=SYNC", ["softsync", "async"]),
        ("search=soft+nc", ["softsync"]),
        ("search=soft+compensated", []),
        ("search=%25", []),
        ("search=a%00sync", ["async"]),
        ("sort=name", ["async", "candidate", "compensated", "softsync"]),
        ("sort=progress", ["softsync", "candidate", "compensated", "async"]),
        ("sort=nonsense", ["candidate", "compensated", "softsync", "async"]),
    ],
)
def test_the_address_tells_which_runs_and_in_which_order(
    runs: dict[str, Run], alice: User, address: str, names: list[str]
) -> None:
    assert found(alice, address) == names


def test_a_number_finds_the_run_that_has_it(runs: dict[str, Run], alice: User) -> None:
    assert found(alice, f"search={runs['compensated'].pk}") == ["compensated"]


def test_filters_show_a_stranger_nothing_more(runs: dict[str, Run]) -> None:
    carol = factories.person("carol")
    for address in ("", "project=vision", "owner=alice", f"search={runs['async'].pk}"):
        assert found(carol, address) == []


def test_the_best_result_comes_first_and_what_came_to_no_number_last(project: Project, alice: User) -> None:
    for name, metrics in {
        "nothing": {},
        "worse": {"accuracy": 0.9, "loss": 0.1},
        "diverged": {"accuracy": "NaN", "loss": "NaN"},
        "best": {"accuracy": 0.98, "loss": 0.3},
        "ledger": {"loss": 0.2},
    }.items():
        factories.run(owner=alice, within=project, name=name, metrics=metrics)
    assert found(alice, "sort=metric")[:3] == ["best", "worse", "ledger"]
    assert set(found(alice, "sort=metric")[3:]) == {"nothing", "diverged"}


def test_an_experiment_of_many_runs_unfolds_for_whoever_looks_for_something(project: Project, alice: User) -> None:
    factories.study(owner=alice, within=project, labels=[{"seed": seed} for seed in range(8)])
    assert len(found(alice, "")) == 5
    assert len(found(alice, "state=queued")) == 8
    assert len(found(alice, "sort=metric")) == 8


def test_an_address_is_as_short_as_what_it_asks_for() -> None:
    asked = "state=queued&state=failed&owner=&search=&mine=1&method=balanced&sort=newest&page=7"
    assert filters(asked).address() == "state=queued&state=failed&method=balanced&mine=1"
    assert filters("").address(page=2) == "page=2"
    assert not filters("sort=name").narrows
    assert filters("mine=1").narrows


def test_the_form_shows_what_was_asked_for(runs: dict[str, Run]) -> None:
    asked = "/runs/?state=failed&owner=bob&tag=paper&method=softsync&search=a%22b&mine=1&sort=name&project=language"
    page = client_of("alice").get(asked).content.decode()
    for told in (
        'value="failed" checked',
        "<option selected>bob</option>",
        "<option selected>paper</option>",
        "<option selected>language</option>",
        'value="softsync" selected',
        'value="a&quot;b"',
        'name="mine" value="1" checked',
        'value="name" selected',
        "No run matches these filters",
    ):
        assert told in page
    assert 'value="queued" checked' not in page


def test_what_is_offered_are_the_projects_owners_and_tags_of_runs_one_may_see(
    runs: dict[str, Run], alice: User
) -> None:
    offered = listing.choices(access.visible_runs(alice))
    assert offered.projects == ["language", "vision"]
    assert offered.owners == ["alice", "bob"]
    assert offered.tags == ["night: 2", "paper"]
    assert {"softsync", "balanced", "dc-asgd-c", "candidate", "server"} <= offered.kinds
    nothing = listing.choices(access.visible_runs(factories.person("carol")))
    assert (nothing.projects, nothing.owners, nothing.tags) == ([], [], [])


def test_pages_keep_the_filters(project: Project, alice: User) -> None:
    for _ in range(101):
        factories.run(owner=alice, within=project)
    page = client_of("alice").get("/runs/?state=queued&page=2").content.decode()
    assert 'href="?state=queued"' in page
    assert 'href="?state=queued&amp;page=3"' in page
    assert "101 runs match" in page


def test_a_thousand_runs_cost_a_few_queries(project: Project, alice: User) -> None:
    spec = factories.spec()
    experiments = Experiment.objects.bulk_create(
        Experiment(project=project, owner=alice, name=f"e {i}", tags=["paper"]) for i in range(1000)
    )
    Run.objects.bulk_create(
        Run(experiment=each, number=1, name=each.name, spec=spec, queued_at=each.created_at) for each in experiments
    )
    client = client_of("alice")
    client.get("/runs/")
    for address, most in (("/runs/?page=3", 9), ("/runs/?method=staleness-inverse&search=e&tag=paper&sort=metric", 9)):
        with CaptureQueriesContext(connection) as asked:
            answer = client.get(address)
        assert len(answer.context["rows"]) == 50
        assert len(asked) <= most


def test_a_refresh_asks_for_no_choices(project: Project, alice: User) -> None:
    for _ in range(60):
        factories.run(owner=alice, within=project)
    client = client_of("alice")
    with CaptureQueriesContext(connection) as asked:
        client.get("/runs/", headers={"HX-Request": "true"})
    assert len(asked) <= 5  # session, user, count, page, siblings
