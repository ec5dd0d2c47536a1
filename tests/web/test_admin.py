"""The admin: who opens what, and what its pages hold back."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from tests import factories
from tests.web.conftest import client_of
from trainhub.actions import audit, people, tokens
from trainhub.models import AuditEntry, Project, Role, Run
from trainhub.security import ADMIN_POLICY, POLICY

pytestmark = pytest.mark.django_db

LISTS = [
    "trainhub_run",
    "trainhub_member",
    "trainhub_node",
    "trainhub_event",
    "trainhub_logline",
    "trainhub_experiment",
    "trainhub_dataset",
    "trainhub_project",
    "trainhub_token",
    "trainhub_signinlink",
    "trainhub_auditentry",
    "auth_user",
    "auth_group",
]
PEOPLES = {"trainhub_token", "trainhub_signinlink", "auth_user", "auth_group"}


@pytest.fixture(autouse=True)
def root(project: Project) -> User:
    return factories.person("root", is_staff=True, is_superuser=True)


@pytest.fixture
def operator(root: User) -> User:
    made = factories.person("olga")
    people.make_operator(made, by=root)
    return made


def page(name: str, address: str) -> str:
    answer = client_of(name).get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def table(name: str, address: str) -> str:
    """The rows of a list, without the page around them."""
    return page(name, address).split("<tbody", 1)[1].rsplit("</tbody>", 1)[0]


@pytest.mark.parametrize("name", LISTS)
def test_a_superuser_opens_every_list(queued: Run, name: str) -> None:
    factories.gang(queued)
    assert client_of("root").get(reverse(f"admin:{name}_changelist")).status_code == 200


@pytest.mark.parametrize("address", ["/admin/", "/admin/queue/", "/admin/monitoring/", "/admin/trainhub/run/"])
@pytest.mark.parametrize("name", [None, "carol", "alice"])
def test_whoever_is_no_staff_is_sent_to_the_admins_sign_in(address: str, name: str | None) -> None:
    answer = client_of(name).get(address)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/admin/login/?next={address}"


@pytest.mark.parametrize("address", ["/admin/queue/", "/admin/monitoring/", "/admin/trainhub/run/"])
def test_staff_without_permissions_opens_nothing(address: str) -> None:
    factories.person("stan", is_staff=True)
    assert client_of("stan").get(address).status_code == 403


def test_staff_without_permissions_reads_why_there_is_nothing_to_watch() -> None:
    factories.person("stan", is_staff=True)
    assert "Nothing to watch here" in page("stan", "/admin/")


@pytest.mark.parametrize("name", LISTS)
def test_an_operator_looks_at_everything_but_ways_in(operator: User, queued: Run, name: str) -> None:
    factories.gang(queued)
    expected = 403 if name in PEOPLES else 200
    assert client_of("olga").get(reverse(f"admin:{name}_changelist")).status_code == expected


def test_an_operator_watches_the_queue_and_the_board(operator: User, queued: Run) -> None:
    assert queued.name in page("olga", "/admin/queue/")
    assert "Runs that train" in page("olga", "/admin/")


@pytest.mark.parametrize("name", [n for n in LISTS if n not in {"auth_user", "auth_group", "trainhub_project"}])
def test_rows_are_not_added_by_hand_not_even_by_a_superuser(name: str) -> None:
    assert client_of("root").get(reverse(f"admin:{name}_add")).status_code == 403


def test_nothing_that_training_belongs_to_is_deleted_here(queued: Run) -> None:
    client = client_of("root")
    for row in (queued, queued.experiment, queued.experiment.project, queued.experiment.owner):
        address = reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_delete", args=[row.pk])
        assert client.post(address, {"post": "yes"}).status_code == 403
    assert Run.objects.filter(pk=queued.pk).exists()


def test_a_runs_page_shows_its_members_events_and_spec_but_not_its_key(project: Project, alice: User) -> None:
    run, _ = factories.trained_run(owner=alice, within=project, training=factories.Training(updates=1500))
    shown = page("root", reverse("admin:trainhub_run_change", args=[run.pk]))
    for told in ("trainer 3", "Training began", "kind: staleness-inverse", "node-a/cpu:2", "fresh weights"):
        assert told in shown
    assert bytes(run.key).hex() not in shown


def test_a_tokens_page_shows_its_beginning_and_never_its_digest(alice: User) -> None:
    token, secret = tokens.make(alice, name="laptop")
    for address in (
        reverse("admin:trainhub_token_change", args=[token.pk]),
        reverse("admin:trainhub_token_changelist"),
    ):
        shown = page("root", address)
        assert secret[:8] in shown
        assert token.digest not in shown


@pytest.mark.parametrize(
    "question", ["trainhub_token_changelist digest__startswith", "trainhub_run_changelist key__startswith"]
)
def test_nobody_asks_for_a_secret_letter_by_letter(question: str) -> None:
    name, lookup = question.split()
    assert client_of("root").get(reverse(f"admin:{name}"), {lookup: "a"}).status_code == 400


def test_the_queue_is_in_the_order_of_admission(project: Project, alice: User) -> None:
    factories.run(owner=alice, within=project, spec=factories.spec(name="early"))
    factories.run(owner=alice, within=project, spec=factories.spec(name="urgent"), priority=5)
    factories.run(owner=alice, within=project, spec=factories.spec(name="ended"), state="completed")
    shown = table("root", "/admin/queue/")
    assert shown.index("urgent") < shown.index("early")
    assert "ended" not in shown


def test_runs_are_found_by_state_owner_and_name(project: Project, alice: User) -> None:
    factories.run(owner=alice, within=project, spec=factories.spec(name="wanted"), state="failed", cause="oom")
    factories.run(owner=alice, within=project, spec=factories.spec(name="other"))
    shown = table("root", f"/admin/trainhub/run/?state__exact=failed&q=wanted&experiment__owner__id__exact={alice.pk}")
    assert "wanted" in shown
    assert "other" not in shown


@pytest.mark.parametrize(("choice", "found"), [("yes", "virtual"), ("no", "real")])
def test_simulated_runs_are_told_from_real_ones(project: Project, alice: User, choice: str, found: str) -> None:
    simulated = factories.spec(name="virtual", delays=[], execution={"kind": "simulate"})
    factories.run(owner=alice, within=project, spec=simulated)
    factories.run(owner=alice, within=project, spec=factories.spec(name="real"))
    shown = table("root", f"/admin/trainhub/run/?simulated={choice}")
    assert [name for name in ("virtual", "real") if name in shown] == [found]


def test_the_audit_is_neither_changed_nor_deleted_by_a_superuser(root: User) -> None:
    audit.record(root, "drain", "node", "Drained node a")
    entry = AuditEntry.objects.get(action="drain")
    client, one = client_of("root"), f"/admin/trainhub/auditentry/{entry.pk}"
    assert client.post(f"{one}/change/", {"message": "nothing"}).status_code == 403
    assert client.post(f"{one}/delete/", {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": entry.pk, "post": "yes"}
    client.post("/admin/trainhub/auditentry/", chosen)
    assert AuditEntry.objects.get(pk=entry.pk).message == "Drained node a"


def test_the_audit_outlives_whom_it_tells_of(root: User) -> None:
    gone = factories.person("gone")
    audit.record(gone, "drain", "node", "Drained node a")
    gone.delete()
    assert "gone" in page("root", "/admin/trainhub/auditentry/")


def test_the_policy_is_loosened_below_admin_alone(queued: Run) -> None:
    client = client_of("root")
    assert client.get("/runs/").headers["Content-Security-Policy"] == POLICY
    assert client.get("/administration/").headers["Content-Security-Policy"] == POLICY
    assert client.get("/admin/").headers["Content-Security-Policy"] == ADMIN_POLICY


def test_below_admin_scripts_still_come_from_here_alone() -> None:
    loosened = ADMIN_POLICY.replace("script-src 'self' 'unsafe-eval'", "script-src 'self'")
    assert loosened == POLICY
    assert "unsafe-inline" not in POLICY.split("script-src")[1].split(";")[0]


def test_no_page_of_the_admin_has_a_script_written_in_it(queued: Run) -> None:
    for address in (
        "/admin/",
        "/admin/trainhub/run/",
        f"/admin/trainhub/run/{queued.pk}/change/",
        "/admin/auth/user/add/",
    ):
        shown = page("root", address)
        inline = [tag for tag in shown.split("<script")[1:] if " src=" not in tag.split(">")[0]]
        assert [tag for tag in inline if "application/json" not in tag.split(">")[0]] == []


def test_the_admins_sign_in_says_how_to_get_a_link() -> None:
    shown = Client().get("/admin/login/?next=/admin/").content.decode()
    assert "manage.py signin USER" in shown
    assert "TrainHub" in shown


def test_actions_demand_the_tokens_of_their_own_pages(queued: Run) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(factories.person("root"))
    address = reverse("admin:trainhub_run_step", args=[queued.pk, "cancel"])
    assert client.post(address, {"confirmed": "yes"}).status_code == 403
    queued.refresh_from_db()
    assert queued.state == "queued"


def test_an_operator_who_may_edit_users_by_permission_still_edits_none(operator: User) -> None:
    operator.user_permissions.add(*Permission.objects.filter(codename__in=("change_user", "view_user")))
    answer = client_of("olga").post(f"/admin/auth/user/{operator.pk}/change/", {"is_superuser": "on"})
    assert answer.status_code == 403
    operator.refresh_from_db()
    assert not operator.is_superuser


def test_a_project_gets_people_and_the_audit_says_so(root: User, project: Project) -> None:
    carol = factories.person("carol")
    kept = list(project.memberships.order_by("pk"))
    sent = {"name": project.name, "memberships-TOTAL_FORMS": len(kept) + 1, "memberships-INITIAL_FORMS": len(kept)}
    for index, row in enumerate(kept):
        start = f"memberships-{index}"
        sent |= {f"{start}-id": row.pk, f"{start}-project": project.pk, f"{start}-user": row.user_id}
        sent |= {f"{start}-role": row.role}
    new = f"memberships-{len(kept)}"
    sent |= {f"{new}-id": "", f"{new}-project": project.pk, f"{new}-user": carol.pk, f"{new}-role": Role.MEMBER}
    client_of("root").post(f"/admin/trainhub/project/{project.pk}/change/", sent)
    assert project.memberships.get(user=carol).role == Role.MEMBER
    entry = AuditEntry.objects.get(subject="project")
    assert (entry.username, "carol in vision as member" in entry.message) == ("root", True)
