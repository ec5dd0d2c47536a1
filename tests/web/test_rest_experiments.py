"""Submitting: what is written, once, and what is refused."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests import factories
from tests.web import rest
from tests.web.rest import bearer, fields_of, session
from trainhub.models import AuditEntry, Experiment, Project, Role, Run, RunState
from workers.spec import RunSpec


@pytest.mark.django_db
def test_a_submission_is_answered_with_its_queued_runs(project: Project) -> None:
    answer = session("bob").post("experiments", {"yaml": rest.YAML, "seeds": [0, 1]})
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/experiments/{made['id']}"
    assert (made["project"], made["owner"], made["states"]) == ("vision", "bob", {"queued": 2})
    assert [run["labels"] for run in made["runs"]] == [{"seed": 0}, {"seed": 1}]
    assert session("bob").get(f"experiments/{made['id']}").json() == made


@pytest.mark.django_db
def test_a_submission_is_in_the_audit(project: Project) -> None:
    made = bearer("bob").post("experiments", {"spec": rest.SPEC}).json()
    assert AuditEntry.objects.filter(subject="experiment", subject_id=made["id"], username="bob").count() == 1


@pytest.mark.django_db
def test_a_grid_makes_its_product(project: Project) -> None:
    grid = {"optimizer.learning_rate": [0.1, 0.2], "rate.kind": ["constant", "balanced"]}
    made = session("bob").post("experiments", {"spec": rest.SPEC, "grid": grid, "name": "rates"}).json()
    assert (made["name"], made["total"], made["axes"]) == ("rates", 4, ["optimizer.learning_rate", "rate.kind"])


@pytest.mark.django_db
def test_a_bad_spec_writes_nothing_and_names_its_fields(project: Project) -> None:
    answer = session("bob").post("experiments", {"spec": rest.SPEC | {"workers": 0, "batch_size": "many"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-spec")
    assert {"workers.min", "batch_size"} <= set(fields_of(answer))
    assert "/spec/workers/min" in {error["pointer"] for error in answer.json()["errors"]}
    assert not Experiment.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/spec"),
        ({"spec": rest.SPEC, "yaml": rest.YAML}, "/spec"),
        ({"spec": rest.SPEC, "grid": {"optimizer.learning_rate": [0.1, -1]}}, "/grid/optimizer.learning_rate"),
        ({"spec": rest.SPEC, "grid": {"batch_size": 3}}, "/grid/batch_size"),
        ({"spec": rest.SPEC, "seeds": [0, -1]}, "/seeds"),
        ({"spec": rest.SPEC, "seed": 3}, "/seed"),
        ({"spec": rest.SPEC | {"problem": {"kind": "images", "dataset": "none"}}}, "/spec/problem/dataset"),
        ({"spec": rest.SPEC | {"start": {"kind": "checkpoint", "run": 999}}}, "/spec/start/run"),
        ({"spec": rest.SPEC | {"notes": "zero \x00"}}, "/spec/notes"),
        ({"yaml": rest.YAML + 'notes: "half \\ud800"\n'}, "/spec/notes"),
        ({"yaml": rest.YAML + "delays: &all [*all]\n"}, "/spec"),
        ({"yaml": "[" * 5000}, "/spec"),
    ],
)
def test_each_thing_that_is_wrong_has_its_place(project: Project, body: Any, pointer: str) -> None:
    answer = session("bob").post("experiments", body)
    assert answer.status_code == 422
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}


@pytest.mark.django_db
def test_code_of_one_s_own_takes_the_right_to_run_it(project: Project) -> None:
    body = {"spec": rest.SPEC | {"problem": {"kind": "python", "target": "os:system"}}}
    answer = session("bob").post("experiments", body)
    assert (answer.status_code, answer.json()["code"]) == (403, "may-not-run-code")
    assert set(fields_of(answer)) == {"problem.kind"}


@pytest.mark.django_db
def test_without_a_project_it_goes_to_the_first_one_that_may_be_changed(project: Project) -> None:
    factories.project("speech", bob=Role.ADMIN)
    assert session("bob").post("experiments", {"spec": rest.SPEC}).json()["project"] == "vision"
    assert session("vera").post("experiments", {"spec": rest.SPEC}).status_code == 403


@pytest.mark.django_db
def test_the_same_key_finds_what_it_made(project: Project) -> None:
    first = session("bob").post("experiments", {"spec": rest.SPEC}, Idempotency_Key="once")
    again = session("bob").post("experiments", {"spec": rest.SPEC}, Idempotency_Key="once")
    assert (first.status_code, again.status_code) == (201, 200)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()


@pytest.mark.django_db
def test_the_same_key_with_something_else_is_refused(project: Project) -> None:
    session("bob").post("experiments", {"spec": rest.SPEC}, Idempotency_Key="once")
    other = session("bob").post("experiments", {"spec": rest.SPEC | {"seed": 3}}, Idempotency_Key="once")
    assert (other.status_code, other.json()["code"]) == (409, "key-reused")
    assert Experiment.objects.count() == 1


@pytest.mark.django_db
def test_a_key_is_its_sender_s_alone(project: Project) -> None:
    for name in ("alice", "bob"):
        assert session(name).post("experiments", {"spec": rest.SPEC}, Idempotency_Key="once").status_code == 201


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 201, "tab\there"])
def test_a_key_that_cannot_be_is_named(project: Project, key: str) -> None:
    answer = session("bob").post("experiments", {"spec": rest.SPEC}, Idempotency_Key=key)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/header/Idempotency-Key"]


@pytest.mark.django_db(transaction=True)
def test_two_submissions_at_once_under_one_key_make_one_experiment(project: Project) -> None:
    bob = bearer("bob")
    together = threading.Barrier(2)
    statuses: list[int] = []

    def send() -> None:
        together.wait(10)
        try:
            statuses.append(bob.post("experiments", {"spec": rest.SPEC}, Idempotency_Key="once").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [200, 201]
    assert (Experiment.objects.count(), Run.objects.count()) == (1, 1)


@pytest.mark.django_db
def test_a_failed_run_is_queued_again(project: Project, alice: User) -> None:
    failed = factories.run(owner=alice, within=project, state=RunState.FAILED)
    assert session("bob").post(f"runs/{failed.pk}/actions/requeue").json()["state"] == "queued"
    assert session("bob").post(f"runs/{failed.pk}/actions/requeue").json()["code"] == "wrong-state"


@pytest.mark.django_db
def test_a_run_s_spec_makes_the_same_run_again(project: Project) -> None:
    run = session("bob").post("experiments", {"yaml": rest.YAML}).json()["runs"][0]
    whole = session("bob").get(f"runs/{run['id']}/spec")
    brief = session("bob").get(f"runs/{run['id']}/spec", format="yaml")
    assert brief.headers["Content-Type"].startswith("application/yaml")
    assert "batch_size" not in brief.content.decode()
    assert RunSpec.parse_yaml(brief.content.decode()) == RunSpec.parse(whole.json()) == RunSpec.parse_yaml(rest.YAML)
