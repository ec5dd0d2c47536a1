"""Pages: who sees what, how one signs in, and what the errors look like."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tests import factories
from tests.web.conftest import client_of
from trainhub.actions.access import make_sign_in_link
from trainhub.models import Project, Run, RunState

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["alice", "bob", "vera"])
def test_whoever_shares_the_project_sees_the_run_and_finds_it_in_the_list(queued: Run, name: str) -> None:
    client = client_of(name)
    assert client.get(queued.get_absolute_url()).status_code == 200
    assert queued.name in client.get(reverse("runs")).content.decode()


def test_a_stranger_gets_the_same_answer_as_for_a_run_that_does_not_exist(queued: Run) -> None:
    client = client_of("carol")
    hidden, missing = client.get(queued.get_absolute_url()), client.get("/runs/999999/")
    assert hidden.status_code == missing.status_code == 404
    assert "There is nothing here" in hidden.content.decode()
    assert queued.name not in client.get(reverse("runs")).content.decode()


@pytest.mark.parametrize("path", ["/runs/", "/runs/1/"])
def test_nobody_is_sent_to_sign_in_and_back_again(db: None, path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/sign-in/?next={path}"


@pytest.mark.parametrize("path", ["/runs/", "/runs/1/"])
def test_pages_are_only_read(queued: Run, path: str) -> None:
    assert client_of("alice").post(path).status_code == 405


def test_an_administrator_sees_every_run(queued: Run) -> None:
    factories.person("root", is_superuser=True)
    assert client_of("root").get(queued.get_absolute_url()).status_code == 200


def test_someone_deactivated_sees_nothing(queued: Run) -> None:
    client = client_of("bob")
    User.objects.filter(username="bob").update(is_active=False)
    assert client.get(queued.get_absolute_url()).status_code == 302


@pytest.mark.parametrize(("name", "buttons"), [("alice", True), ("bob", True), ("vera", False)])
def test_only_those_who_may_change_a_run_get_its_buttons(queued: Run, name: str, buttons: bool) -> None:
    page = client_of(name).get(queued.get_absolute_url()).content.decode()
    assert ('data-action="cancel"' in page) is buttons


def test_an_empty_list_says_what_to_do_next(project: Project) -> None:
    assert "make demo" in client_of("alice").get("/runs/").content.decode()


def test_htmx_gets_the_table_alone(queued: Run) -> None:
    part = client_of("alice").get("/runs/", headers={"HX-Request": "true"}).content.decode()
    assert "<table" in part
    assert "<html" not in part


def test_the_list_tells_state_reason_metric_and_method(project: Project, alice: User) -> None:
    factories.run(owner=alice, within=project, waiting_reason="needs 5 slots, 3 idle")
    done = factories.run(owner=alice, within=project, state=RunState.COMPLETED, fraction=1.0)
    factories.evaluated(done, 7, accuracy=0.97654, loss=0.1)
    page = client_of("alice").get("/runs/").content.decode()
    for told in ("needs 5 slots, 3 idle", "completed", "0.9765", "staleness-inverse", "100 %"):
        assert told in page


def test_a_long_list_has_pages(project: Project, alice: User) -> None:
    for _ in range(51):
        factories.run(owner=alice, within=project)
    assert "Page 1 of 2" in client_of("alice").get("/runs/").content.decode()


def test_a_name_is_shown_as_text(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project, name="</script><script>alert(1)</script>")
    for path in ("/runs/", run.get_absolute_url()):
        assert "<script>alert" not in client_of("alice").get(path).content.decode()


def test_no_page_has_a_script_of_its_own(queued: Run) -> None:
    answer = client_of("alice").get(queued.get_absolute_url())
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    for tag in answer.content.decode().split("<script")[1:]:
        assert 'src="/static/' in tag.split(">")[0] or 'type="application/json"' in tag.split(">")[0]


def test_a_link_signs_in_once_and_leads_on(queued: Run, alice: User) -> None:
    token = make_sign_in_link(alice)
    client = Client()
    answer = client.get(f"/sign-in/{token}/", {"next": queued.get_absolute_url()})
    assert answer.headers["Location"] == queued.get_absolute_url()
    assert client.get(queued.get_absolute_url()).status_code == 200
    again = Client().get(f"/sign-in/{token}/")
    assert again.status_code == 410
    assert "manage.py signin" in again.content.decode()


def test_a_preview_does_not_use_a_link_up(alice: User) -> None:
    token = make_sign_in_link(alice)
    assert Client().head(f"/sign-in/{token}/").status_code == 405
    assert Client().get(f"/sign-in/{token}/").status_code == 302


@pytest.mark.parametrize("away", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_a_link_leads_nowhere_else(alice: User, away: str) -> None:
    answer = Client().get(f"/sign-in/{make_sign_in_link(alice)}/", {"next": away})
    assert answer.headers["Location"] == "/"


def test_a_password_signs_in_and_a_wrong_one_says_so(alice: User) -> None:
    alice.set_password("a-long-pass-phrase")
    alice.save()
    wrong = Client().post("/sign-in/", {"username": "alice", "password": "x"})
    assert "correct username and password" in wrong.content.decode()
    right = Client().post("/sign-in/", {"username": "alice", "password": "a-long-pass-phrase", "next": "/runs/"})
    assert right.headers["Location"] == "/runs/"


def test_signing_out_takes_a_post(alice: User) -> None:
    client = client_of("alice")
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").status_code == 302
    assert client.get("/runs/").status_code == 302


def test_a_form_without_its_token_is_refused_in_words(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    answer = strict.post("/sign-in/", {"username": "alice", "password": "x"})
    assert answer.status_code == 403
    assert "form is too old" in answer.content.decode()


PAGES = ("/runs/", "/compare/", "/nodes/", "/datasets/", "/tokens/", "/methods/")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("name", ["alice", "bob", "vera", "carol"])
def test_whoever_is_signed_in_gets_every_page_and_its_place_in_the_navigation(
    queued: Run, name: str, path: str
) -> None:
    answer = client_of(name).get(path)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert all(f'href="{place}"' in page for place in PAGES if place != "/compare/")
    assert "aria-current" in page
    assert (queued.name in page) is (name != "carol" and path in {"/runs/", "/nodes/"})


@pytest.mark.parametrize("path", PAGES)
def test_nobody_gets_no_page(queued: Run, path: str) -> None:
    assert Client().get(path).headers["Location"] == f"/sign-in/?next={path}"


def test_the_admin_is_offered_to_staff_alone(project: Project) -> None:
    factories.person("olga", is_staff=True)
    assert 'href="/admin/"' in client_of("olga").get("/runs/").content.decode()
    assert 'href="/admin/"' not in client_of("alice").get("/runs/").content.decode()


@pytest.mark.parametrize(("name", "may"), [("alice", True), ("bob", True), ("vera", False)])
def test_a_run_is_begun_again_by_whoever_may_submit(queued: Run, name: str, may: bool) -> None:
    page = client_of(name).get(queued.get_absolute_url()).content.decode()
    assert (f"/experiments/new/?clone={queued.pk}" in page) is may
    assert (f"/experiments/new/?continue={queued.pk}" in page) is may
    assert ('data-action="requeue"' in page) is may
    assert f"/runs/?choose={queued.pk}" in page
