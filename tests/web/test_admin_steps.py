"""What the admin does to rows: asked first, done through the actions, told to the audit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from tests import factories
from tests.web.conftest import client_of
from trainhub.actions import people, tokens
from trainhub.models import AuditEntry, Event, Node, Project, Run, RunState, SignInLink, Wish

pytestmark = pytest.mark.django_db

RUNS, NODES, USERS = "/admin/trainhub/run/", "/admin/trainhub/node/", "/admin/auth/user/"


@pytest.fixture(autouse=True)
def root(project: Project) -> User:
    return factories.person("root", is_staff=True, is_superuser=True)


@pytest.fixture
def running(project: Project, alice: User) -> Run:
    made = factories.run(owner=alice, within=project, state=RunState.RUNNING)
    factories.gang(made)
    return made


@pytest.fixture
def node(running: Run) -> Node:
    return Node.objects.get()


def choose(address: str, step: str, *rows: Any, name: str = "root", **more: str) -> HttpResponse:
    """Choose rows in a list and a step for them. `confirmed="yes"`: on the page that asks."""
    sent = {"action": step, "_selected_action": [row.pk for row in rows], **more}
    answer: Any = client_of(name).post(address, sent, follow=True)
    return answer  # type: ignore[no-any-return]


def entries(subject: str) -> list[tuple[str, str, int | None]]:
    found = AuditEntry.objects.filter(subject=subject).order_by("pk")
    return list(found.values_list("username", "action", "subject_id"))


@pytest.mark.parametrize("step", ["cancel", "kill", "pause"])
def test_a_step_without_its_confirmation_changes_nothing(running: Run, step: str) -> None:
    asked = choose(RUNS, step, running).content.decode()
    assert f"run {running.pk} {running.name}" in asked
    running.refresh_from_db()
    assert running.wish == Wish.NONE
    assert entries("run") == []
    assert not Event.objects.filter(run=running, kind__startswith="asked-to").exists()


@pytest.mark.parametrize("step", ["cancel", "kill", "pause"])
def test_a_confirmed_step_is_a_wish_and_an_audit_entry(running: Run, step: str) -> None:
    choose(RUNS, step, running, confirmed="yes")
    running.refresh_from_db()
    assert running.wish == step
    assert entries("run") == [("root", step, running.pk)]


def test_a_failed_run_is_queued_again(project: Project, alice: User) -> None:
    failed = factories.run(owner=alice, within=project, state=RunState.FAILED, cause="oom", ended_at=timezone.now())
    choose(RUNS, "requeue", failed, confirmed="yes")
    failed.refresh_from_db()
    assert (failed.state, failed.cause) == (RunState.QUEUED, "")
    assert entries("run") == [("root", "requeue", failed.pk)]


def test_a_paused_run_is_resumed(project: Project, alice: User) -> None:
    paused = factories.run(owner=alice, within=project, state=RunState.PAUSED)
    choose(RUNS, "resume", paused, confirmed="yes")
    paused.refresh_from_db()
    assert paused.state == RunState.QUEUED
    assert entries("run") == [("root", "resume", paused.pk)]


def test_the_question_says_which_runs_cant_and_why(running: Run, project: Project, alice: User) -> None:
    done = factories.run(owner=alice, within=project, state=RunState.COMPLETED)
    asked = choose(RUNS, "kill", running, done).content.decode()
    assert "It will be done to 1" in asked
    assert "this run has already ended: it is completed" in asked
    assert re.findall(r'name="_selected_action" value="(\d+)"', asked) == [str(running.pk)]


def test_where_nothing_can_be_done_there_is_nothing_to_confirm(project: Project, alice: User) -> None:
    done = factories.run(owner=alice, within=project, state=RunState.COMPLETED)
    asked = choose(RUNS, "cancel", done).content.decode()
    assert 'type="submit">Cancel' not in asked


def test_each_run_is_steered_by_itself_and_told_by_itself(running: Run, project: Project, alice: User) -> None:
    other = factories.run(owner=alice, within=project)
    done = factories.run(owner=alice, within=project, state=RunState.COMPLETED)
    answered = choose(RUNS, "cancel", running, other, done, confirmed="yes").content.decode()
    assert {e[2] for e in entries("run")} == {running.pk, other.pk}
    assert "this run has already ended" in answered


def test_a_runs_own_page_leads_through_the_same_question(running: Run) -> None:
    address = reverse("admin:trainhub_run_step", args=[running.pk, "kill"])
    client = client_of("root")
    assert address in client.get(reverse("admin:trainhub_run_change", args=[running.pk])).content.decode()
    assert "is lost" in client.get(address).content.decode()
    assert entries("run") == []
    client.post(address, {"confirmed": "yes"})
    assert entries("run") == [("root", "kill", running.pk)]


def test_the_way_back_leads_where_one_came_from(running: Run) -> None:
    asked = choose(f"{RUNS}?state__exact=running", "kill", running).content.decode()
    assert f'href="{RUNS}?state__exact=running"' in asked
    one = client_of("root").get(reverse("admin:trainhub_run_step", args=[running.pk, "kill"])).content.decode()
    assert f'href="{RUNS}{running.pk}/change/">No, go back' in one


def test_a_runs_page_offers_only_what_can_be_done_to_it(project: Project, alice: User) -> None:
    done = factories.run(owner=alice, within=project, state=RunState.COMPLETED)
    assert "/step/" not in client_of("root").get(reverse("admin:trainhub_run_change", args=[done.pk])).content.decode()


def test_an_operator_drains_a_node_and_takes_it_back(root: User, node: Node) -> None:
    people.make_operator(factories.person("olga"), by=root)
    choose(NODES, "drain", node, name="olga", confirmed="yes")
    node.refresh_from_db()
    assert node.drained
    choose(NODES, "undrain", node, name="olga", confirmed="yes")
    assert entries("node") == [("olga", "drain", node.pk), ("olga", "undrain", node.pk)]


def test_a_node_is_not_drained_before_the_confirmation(node: Node) -> None:
    assert "nothing that trains is lost" in choose(NODES, "drain", node).content.decode()
    node.refresh_from_db()
    assert not node.drained


@pytest.mark.parametrize("step", ["cancel", "kill", "requeue", "pause", "resume", "priority"])
def test_an_operator_steers_no_run(root: User, running: Run, step: str) -> None:
    people.make_operator(factories.person("olga"), by=root)
    choose(RUNS, step, running, name="olga", confirmed="yes", priority="1")
    one = client_of("olga").post(reverse("admin:trainhub_run_step", args=[running.pk, step]), {"confirmed": "yes"})
    assert one.status_code == 403
    assert entries("run") == []


def test_staff_who_may_only_look_at_nodes_drains_none(node: Node) -> None:
    stan = factories.person("stan", is_staff=True)
    stan.user_permissions.add(people.operators().permissions.get(codename="view_node"))
    client = client_of("stan")
    assert client.get(NODES).status_code == 200
    assert client.post(reverse("admin:trainhub_node_step", args=[node.pk, "drain"])).status_code == 403


def test_the_queue_is_reordered_through_a_priority(queued: Run) -> None:
    asked = choose("/admin/queue/", "priority", queued).content.decode()
    assert 'name="priority"' in asked
    choose("/admin/queue/", "priority", queued, confirmed="yes", priority="7")
    queued.refresh_from_db()
    assert queued.priority == 7
    assert entries("run") == [("root", "priority", queued.pk)]


def test_a_priority_out_of_range_is_asked_for_again(queued: Run) -> None:
    asked = choose("/admin/queue/", "priority", queued, confirmed="yes", priority="101").content.decode()
    assert "less than or equal to 100" in asked
    assert entries("run") == []


def test_a_run_that_trains_has_no_place_in_the_queue_to_change(running: Run) -> None:
    assert "only a queued run has a place in the queue" in choose(RUNS, "priority", running).content.decode()


def test_a_sign_in_link_is_shown_once_and_signs_in_once(alice: User) -> None:
    answer = choose(USERS, "sign-in-link", alice, confirmed="yes")
    [address] = re.findall(r'value="http://testserver(/sign-in/[^"]+)"', answer.content.decode())
    assert "no-store" in answer.headers["Cache-Control"]
    client = client_of(None)
    assert client.get(address).status_code == 302
    assert client_of(None).get(address).status_code == 410
    assert address not in client_of("root").get("/admin/trainhub/signinlink/").content.decode()


def test_a_link_is_not_made_before_the_confirmation(alice: User) -> None:
    choose(USERS, "sign-in-link", alice)
    assert not SignInLink.objects.exists()
    choose(USERS, "sign-in-link", alice, confirmed="yes")
    assert entries("sign-in-link") == [("root", "make", alice.pk)]


def test_someone_deactivated_is_out_at_once_and_back_when_reactivated(alice: User) -> None:
    client = client_of("alice")
    choose(USERS, "deactivate", alice, confirmed="yes")
    assert client.get("/runs/").status_code == 302
    choose(USERS, "reactivate", alice, confirmed="yes")
    assert client_of("alice").get("/runs/").status_code == 200
    assert [action for _, action, _ in entries("user")] == ["deactivate", "reactivate"]


def test_nobody_shuts_himself_out(root: User) -> None:
    assert "you can&#x27;t deactivate yourself" in choose(USERS, "deactivate", root).content.decode()


def test_the_right_to_run_code_is_given_and_taken_back(alice: User) -> None:
    choose(USERS, "let-run-code", alice, confirmed="yes")
    assert User.objects.get(pk=alice.pk).has_perm("trainhub.run_code")
    choose(USERS, "stop-running-code", alice, confirmed="yes")
    assert not User.objects.get(pk=alice.pk).has_perm("trainhub.run_code")
    assert [action for _, action, _ in entries("user")] == ["let-run-code", "stop-running-code"]


def test_a_new_user_has_no_password() -> None:
    client_of("root").post(f"{USERS}add/", {"username": "nora", "first_name": "", "last_name": "", "email": ""})
    assert not User.objects.get(username="nora").has_usable_password()
    assert AuditEntry.objects.filter(subject="user", message="Added user nora").exists()


def test_the_audit_tells_which_rights_a_form_gave(alice: User) -> None:
    sent = {"username": "alice", "is_staff": "on", "groups": [people.operators().pk]}
    client_of("root").post(f"{USERS}{alice.pk}/change/", sent)
    [told] = AuditEntry.objects.filter(action="rights").values_list("message", flat=True)
    assert told == "Rights of alice: gave group Operators, gave staff"


def test_the_last_superuser_stays_one(root: User) -> None:
    answer = client_of("root").post(f"{USERS}{root.pk}/change/", {"username": "root", "is_staff": "on"})
    assert "last active superuser" in answer.content.decode()
    root.refresh_from_db()
    assert root.is_superuser


def test_a_password_that_an_admin_sets_is_told_to_the_audit(alice: User) -> None:
    sent = {"password1": "a long one, 4 words", "password2": "a long one, 4 words", "usable_password": "true"}
    client_of("root").post(f"{USERS}{alice.pk}/password/", sent)
    assert User.objects.get(pk=alice.pk).has_usable_password()
    assert AuditEntry.objects.filter(subject="user", message="Changed user alice: Changed password.").exists()


def test_more_rows_than_can_be_looked_through_are_not_taken_at_once(
    project: Project, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainhub.admin.steps.MOST", 2)
    many = [factories.run(owner=alice, within=project) for _ in range(3)]
    assert "Choose at most 2 at once" in choose(RUNS, "cancel", *many, confirmed="yes").content.decode()
    assert entries("run") == []


def test_a_question_leaves_no_trace_of_its_rehearsal(running: Run, node: Node, alice: User) -> None:
    for address, step, row in ((RUNS, "cancel", running), (NODES, "drain", node), (USERS, "deactivate", alice)):
        before = (AuditEntry.objects.count(), Event.objects.count())
        choose(address, step, row)
        assert (AuditEntry.objects.count(), Event.objects.count()) == before
    alice.refresh_from_db()
    assert alice.is_active


def test_a_revoked_token_opens_nothing_any_more(alice: User) -> None:
    token, secret = tokens.make(alice, name="laptop")
    choose("/admin/trainhub/token/", "revoke", token)
    assert tokens.find(secret) is not None
    choose("/admin/trainhub/token/", "revoke", token, confirmed="yes")
    assert tokens.find(secret) is None
    assert entries("token")[-1] == ("root", "revoke", token.pk)
