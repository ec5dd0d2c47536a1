"""Every operation of the OpenAPI document, for everybody: what they get. A new operation needs a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests import factories
from tests.web import rest
from tests.web.rest import Asker, bearer, session
from trainhub import api
from trainhub.models import Artifact, Dataset, Node, Project, Role, Run, RunState, Token

pytestmark = pytest.mark.django_db

EVERYBODY = ("alice", "bob", "vera", "carol", None)
"""An admin who owns the runs, a member, a viewer, a stranger, and somebody who is not signed in."""


@dataclass(frozen=True)
class World:
    """Something of each kind, all of it alice's."""

    run: Run
    ended: Run
    checkpoint: Artifact
    node: Node
    dataset: Dataset
    token: Token


Ask = Callable[[Asker, World], Any]


@dataclass(frozen=True)
class Expected:
    """How to ask, and the status for each of EVERYBODY."""

    ask: Ask
    statuses: tuple[int, int, int, int, int]


def get(path: str, **query: Any) -> Ask:
    return lambda asker, world: asker.get(path.format(w=world), **query)


def post(path: str, body: Any = None) -> Ask:
    return lambda asker, world: asker.post(path.format(w=world), body)


def delete(path: str) -> Ask:
    return lambda asker, world: asker.delete(path.format(w=world))


def compare(asker: Asker, world: World) -> Any:
    return asker.get("compare", run=[world.run.pk, world.ended.pk])


def upload(asker: Asker, world: World) -> Any:
    file = SimpleUploadedFile("flowers.csv", b"height,width,species\n" + b"1.5,2,rose\n2,1,tulip\n" * 20)
    return asker.upload("datasets", file=file, name="flowers", project="vision")


SHARED = (200, 200, 200, 404, 401)
ANYBODY = (200, 200, 200, 200, 401)
DRAFT = {"spec": rest.SPEC, "project": "vision"}

DIGITS = {"spec": rest.SPEC | {"problem": {"kind": "digits"}}, "project": "vision"}

OPERATIONS: dict[str, Expected] = {
    "check_spec": Expected(post("specs/check", DRAFT), (200, 200, 403, 404, 401)),
    "plan_spec": Expected(post("specs/plan", DIGITS), (200, 200, 403, 404, 401)),
    "get_spec_schema": Expected(get("specs/schema"), ANYBODY),
    "list_presets": Expected(get("specs/presets"), ANYBODY),
    "submit_experiment": Expected(post("experiments", DRAFT), (201, 201, 403, 404, 401)),
    "list_experiments": Expected(get("experiments"), ANYBODY),
    "get_experiment": Expected(get("experiments/{w.run.experiment_id}"), SHARED),
    "list_runs": Expected(get("runs"), ANYBODY),
    "get_run": Expected(get("runs/{w.run.pk}/"), SHARED),
    "get_run_spec": Expected(get("runs/{w.run.pk}/spec"), SHARED),
    "act_on_run": Expected(post("runs/{w.run.pk}/actions/cancel"), (202, 202, 403, 404, 401)),
    "get_series": Expected(get("runs/{w.run.pk}/series"), SHARED),
    "get_totals": Expected(get("runs/{w.run.pk}/totals"), SHARED),
    "get_events": Expected(get("runs/{w.run.pk}/events"), SHARED),
    "get_log": Expected(get("runs/{w.run.pk}/log"), SHARED),
    "list_checkpoints": Expected(get("runs/{w.run.pk}/checkpoints"), SHARED),
    "download_checkpoint": Expected(get("runs/{w.run.pk}/checkpoints/{w.checkpoint.pk}"), SHARED),
    "download_bundle": Expected(get("runs/{w.run.pk}/checkpoints/{w.checkpoint.pk}/bundle"), SHARED),
    "compare_runs": Expected(compare, SHARED),
    "list_nodes": Expected(get("nodes"), ANYBODY),
    # Draining is for operators, which being an admin of a project does not make.
    "act_on_node": Expected(post("nodes/{w.node.name}/actions/drain"), (403, 403, 403, 403, 401)),
    "list_datasets": Expected(get("datasets"), ANYBODY),
    "upload_dataset": Expected(upload, (201, 201, 403, 404, 401)),
    "get_dataset": Expected(get("datasets/{w.dataset.pk}"), SHARED),
    "delete_dataset": Expected(delete("datasets/{w.dataset.pk}"), (204, 204, 403, 404, 401)),
    "list_methods": Expected(get("methods"), ANYBODY),
    "list_tokens": Expected(get("tokens"), ANYBODY),
    "make_token": Expected(post("tokens", {"name": "laptop"}), (201, 201, 201, 201, 401)),
    # Tokens are their user's alone.
    "revoke_token": Expected(delete("tokens/{w.token.pk}"), (204, 404, 404, 404, 401)),
    "get_me": Expected(get("me"), ANYBODY),
}


@pytest.fixture
def world(project: Project, queued: Run) -> World:
    factories.gang(queued)
    queued.state = RunState.RUNNING
    queued.save()
    owner = queued.experiment.owner
    rest.secret_of("alice")
    return World(
        run=queued,
        ended=factories.run(owner=owner, within=project, state=RunState.COMPLETED),
        checkpoint=factories.checkpoint(queued, 40),
        node=Node.objects.get(),
        dataset=Dataset.objects.create(
            project=project, owner=owner, name="digits", kind="images", size_bytes=1, examples=1, path="datasets/none"
        ),
        token=Token.objects.get(),
    )


def described() -> dict[str, tuple[str, str]]:
    """Operation → its verb and path, from the document."""
    paths = api.document()["paths"]
    return {told["operationId"]: (verb, path) for path, verbs in paths.items() for verb, told in verbs.items()}


def test_every_operation_has_its_line() -> None:
    assert set(described()) == set(OPERATIONS)


@pytest.mark.parametrize("by", ["session", "token"])
@pytest.mark.parametrize("who", EVERYBODY, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_everybody_gets_what_is_theirs(world: World, operation: str, who: str | None, by: str) -> None:
    expected = OPERATIONS[operation]
    asker = bearer(who) if by == "token" and who else session(who)
    answer = expected.ask(asker, world)
    assert answer.status_code == expected.statuses[EVERYBODY.index(who)]
    assert str(answer.status_code) in responses_of(operation)
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def responses_of(operation: str) -> set[str]:
    verb, path = described()[operation]
    return set(api.document()["paths"][path][verb]["responses"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_token_that_may_only_read_changes_nothing(world: World, operation: str) -> None:
    answer = OPERATIONS[operation].ask(bearer("alice", "read"), world)
    reads = described()[operation][0] == "get" or operation in ("check_spec", "plan_spec")
    assert answer.status_code == (200 if reads else 403)
    assert reads or answer.json()["code"] == "token-may-only-read"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_stranger_learns_nothing_of_what_there_is(world: World, operation: str) -> None:
    answer = OPERATIONS[operation].ask(session("carol"), world)
    if answer.headers["Content-Type"].startswith("application/json"):
        assert "four trainers, one slow" not in answer.content.decode()


def test_operators_drain_nodes(world: World) -> None:
    factories.operator("olga")
    answer = session("olga").post(f"nodes/{world.node.name}/actions/drain")
    assert (answer.status_code, answer.json()["drained"], answer.json()["slots"]["idle"]) == (202, True, 0)
    assert session("olga").post("nodes/nowhere/actions/drain").status_code == 404
    assert session("olga").post(f"nodes/{world.node.name}/actions/explode").status_code == 404


def test_staff_without_the_right_to_drain_are_no_operators(world: World) -> None:
    factories.person("stan", is_staff=True)
    assert session("stan").post(f"nodes/{world.node.name}/actions/drain").status_code == 403
    assert not session("stan").get("me").json()["is_operator"]


def test_an_administrator_sees_every_project(world: World) -> None:
    factories.person("root", is_superuser=True)
    assert session("root").get(f"runs/{world.run.pk}/").status_code == 200
    assert session("root").get("me").json()["projects"] == [{"name": "vision", "role": "admin"}]


def test_me_tells_roles_and_rights(project: Project) -> None:
    factories.project("speech", bob=Role.VIEWER)
    told = session("bob").get("me").json()
    assert told["projects"] == [{"name": "speech", "role": "viewer"}, {"name": "vision", "role": "member"}]
    assert (told["is_admin"], told["may_run_code"]) == (False, False)
