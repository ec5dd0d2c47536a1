"""Nodes: who has which slot, who waits for one, and what of it a person may know."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import factories
from tests.web.conftest import client_of
from trainhub import access, machines, places
from trainhub.models import Member, Node, Project, Role, Run, RunState, Slot

pytestmark = pytest.mark.django_db


def node(name: str, slots: int, **more: Any) -> Node:
    now = timezone.now()
    values = {"cores": 16, "memory_bytes": 64 << 30, "registered_at": now, "seen_at": now}
    made = Node.objects.create(name=name, agent=uuid.uuid4(), **(values | more))
    Slot.objects.bulk_create(Slot(node=made, index=index) for index in range(slots))
    return made


def hold(members: list[Member]) -> None:
    """Let members have the slots they were placed on."""
    for member in members:
        assert member.slot is not None
        member.slot.member = member
        member.slot.save()


@pytest.fixture
def training(project: Project, alice: User) -> Run:
    run = factories.run(owner=alice, within=project, state=RunState.RUNNING, name="visible run")
    hold(factories.gang(run, trainers=2))
    return run


@pytest.fixture
def secret() -> Run:
    """A queued run that only carol may see."""
    within = factories.project("secret", carol=Role.ADMIN)
    return factories.run(owner=factories.person("carol"), within=within, name="secret run", priority=5)


def shown(name: str, **headers: str) -> str:
    return client_of(name).get("/nodes/", headers=headers).content.decode()


def overview(user: User) -> machines.Overview:
    return machines.overview(access.visible_runs(user), names_all=access.is_operator(user))


def test_slots_tell_who_has_them_and_the_sum_counts_them(training: Run, alice: User) -> None:
    Slot.objects.create(node=Node.objects.get(), index=9)
    found = overview(alice)
    assert [place.title for place in found.machines[0].places] == ["cpu:0", "cpu:1", "cpu:2", "cpu:9"]
    roles = [place.holder.role if place.holder else None for place in found.machines[0].places]
    assert roles == ["parameter server", "trainer 0", "trainer 1", None]
    assert (found.busy, found.slots, found.idle) == (3, 4, 1)
    assert f'href="{training.get_absolute_url()}">visible run</a>' in shown("alice")


@pytest.mark.parametrize("name", ["alice", "bob", "vera"])
def test_whoever_sees_the_run_finds_it_in_its_slots(training: Run, name: str) -> None:
    assert "visible run" in shown(name)


def test_a_stranger_learns_that_a_slot_is_taken_and_no_more(training: Run, secret: Run) -> None:
    page = shown("carol")
    assert "visible run" not in page
    assert page.count("a run of another project") == 3
    assert "secret run" in page
    assert "secret run" not in shown("bob")
    assert "a run of another project" in shown("bob")


def test_an_operator_sees_names_without_a_way_in_and_the_buttons(training: Run, secret: Run) -> None:
    factories.operator("olga")
    page = shown("olga")
    assert "visible run" in page
    assert "secret run" in page
    assert training.get_absolute_url() not in page
    assert 'data-act="drain" data-node="node-a"' in page
    assert "data-act" not in shown("alice")


def test_nobody_is_sent_to_sign_in_and_the_page_is_only_read(project: Project) -> None:
    assert Client().get("/nodes/").headers["Location"] == "/sign-in/?next=/nodes/"
    assert client_of("alice").post("/nodes/").status_code == 405


@pytest.mark.parametrize(
    ("changes", "states", "idle"),
    [
        ({}, ["online"], 2),
        ({"online": False}, ["offline"], 0),
        ({"drained": True}, ["online", "drained"], 0),
        ({"online": False, "drained": True}, ["offline", "drained"], 0),
    ],
)
def test_a_node_s_state_is_words_and_only_a_usable_one_has_idle_slots(
    alice: User, changes: dict[str, bool], states: list[str], idle: int
) -> None:
    node("a", 2, **changes)
    found = overview(alice)
    assert found.machines[0].states == states
    assert found.idle == idle
    page = shown("alice")
    assert all(f'node-{state}">{state}</span>' in page for state in states)


def test_a_slot_that_is_no_longer_offered_is_shown_only_while_it_is_held(training: Run, alice: User) -> None:
    Slot.objects.filter(index__gte=2).update(retired=True)
    Slot.objects.create(node=Node.objects.get(), index=7, retired=True)
    places = overview(alice).machines[0].places
    assert [(place.title, place.retired) for place in places] == [("cpu:0", False), ("cpu:1", False), ("cpu:2", True)]


def test_the_queue_stands_by_priority_then_age_and_says_why_each_waits(
    project: Project, alice: User, secret: Run
) -> None:
    node("a", 3)
    first = factories.run(owner=alice, within=project, name="first", waiting_reason="needs 5 slots, 3 idle")
    second = factories.run(owner=alice, within=project, name="second")
    found = overview(alice)
    assert [waiting.run for waiting in found.queue] == [secret.pk, first.pk, second.pk]
    assert [waiting.name for waiting in found.queue] == [None, "first", "second"]
    page = shown("alice")
    assert "needs 5 slots, 3 idle" in page
    assert "the scheduler has not looked at it yet" in page
    assert "3 runs waiting" in page


def test_an_installation_without_nodes_says_how_to_start_one(project: Project) -> None:
    page = shown("alice")
    assert "No node is registered" in page
    assert "manage.py up" in page
    assert "Nothing waits" in page


def test_the_environment_is_told_as_far_as_it_is_known(alice: User) -> None:
    node("a", 1, environment={"python": "3.11.9", "packages": {"torch": "2.9.0"}, "commit": None})
    node("b", 1)
    found = overview(alice)
    assert found.machines[0].facts == [("Python", "3.11.9"), ("torch", "2.9.0")]
    assert found.machines[1].facts == []


def test_htmx_gets_the_part_alone(training: Run) -> None:
    part = shown("alice", **{"HX-Request": "true"})
    assert "visible run" in part
    assert "<html" not in part


def test_more_nodes_and_runs_cost_no_more_queries(project: Project, alice: User, training: Run) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as found:
            client.get("/nodes/")
        return len(found)

    client = client_of("alice")
    client.get("/nodes/")
    before = asked()
    for index in range(8):
        node(f"more-{index}", 8)
        factories.run(owner=alice, within=project)
    assert asked() == before <= 8


def test_a_node_among_others_says_where_it_is_reached_and_what_it_is(alice: User) -> None:
    ours = places.identity(settings.HOME)
    node("a", 1, address="10.7.0.3", labels={"gpu": "h200", "rack": "7"}, home=ours)
    node("b", 1, home=ours)
    first, second = overview(alice).machines
    assert (first.reach, first.labels) == ("reached by other nodes at 10.7.0.3", ("gpu=h200", "rack=7"))
    assert second.reach == "takes whole runs only: no other node can reach it"
    page = shown("alice")
    assert "Reached by other nodes at 10.7.0.3" in page
    assert "gpu=h200" in page
    assert "It sees other files" not in page


def test_a_node_alone_is_not_told_that_nobody_can_reach_it(alice: User) -> None:
    node("a", 1, home=places.identity(settings.HOME))
    assert overview(alice).machines[0].reach == ""


def test_a_node_with_a_home_of_its_own_says_what_that_means(alice: User) -> None:
    node("a", 1, home="another")
    assert "It sees other files than this service" in shown("alice")


def test_rest_and_the_admin_tell_the_same(alice: User) -> None:
    node("a", 1, address="10.7.0.3", labels={"rack": "7"}, home="another")
    [told] = client_of("alice").get("/api/v1/nodes").json()["items"]
    assert (told["address"], told["labels"], told["shares_home"]) == ("10.7.0.3", {"rack": "7"}, False)
    factories.person("root", is_staff=True, is_superuser=True)
    page = client_of("root").get(f"/admin/trainhub/node/{Node.objects.get().pk}/change/").content.decode()
    assert "10.7.0.3" in page
    assert "rack=7" in page
    assert "it trains, but serves no run" in page
