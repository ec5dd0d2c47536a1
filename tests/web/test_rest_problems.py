"""What is refused, and in which words: problem+json whatever goes wrong."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from tests.web import rest
from tests.web.conftest import client_of
from tests.web.rest import session
from trainhub.models import Project, Run

pytestmark = pytest.mark.django_db


def refused(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem, after a look at what all of them have."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["code"], told["type"]) == (status, code, f"{rest.API}/docs#{code}")
    assert told["title"]
    assert told["detail"]
    return told


@pytest.mark.parametrize("path", ["nothing", "runs/x/", "runs/-1/", f"runs/{10**30}/", "runs/1/nothing", "nodes/a/b/c"])
def test_an_address_that_leads_nowhere_is_not_found(project: Project, path: str) -> None:
    refused(session("bob").get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("put", "runs", "GET"),
        ("delete", "experiments", "GET, POST"),
        ("get", "specs/check", "POST"),
        ("head", "me", "GET"),
    ],
)
def test_a_verb_that_does_nothing_is_refused_with_those_that_do(
    project: Project, verb: str, path: str, allowed: str
) -> None:
    answer = getattr(client_of("bob"), verb)(f"{rest.API}/{path}")
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_a_body_that_is_no_json_is_refused(project: Project, body: bytes) -> None:
    answer = client_of("bob").post(f"{rest.API}/experiments", body, content_type="application/json")
    refused(answer, 400, "bad-request")


def test_a_multipart_body_that_is_none_is_refused(project: Project) -> None:
    answer = client_of("bob").post(f"{rest.API}/datasets", b"nonsense", content_type="multipart/form-data")
    refused(answer, 400, "bad-request")


def test_a_body_of_more_than_two_megabytes_is_refused(project: Project) -> None:
    answer = session("bob").post("experiments", {"yaml": "x" * (2 * 1024 * 1024)})
    refused(answer, 413, "too-large")


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"name": "x"}, "file", "bad-request"),
        ({"file": b"1,2\n", "name": "not a name!"}, "name", "wrong-dataset"),
        ({"file": b"1,2\n", "name": "x", "format": "docx"}, "format", "wrong-dataset"),
        ({"file": b"1,2\n", "name": "x", "options": "[]"}, "options", "wrong-dataset"),
        ({"file": b"1,2\n", "name": "x\x00"}, "name", "bad-request"),
        ({"file": b"", "name": "x"}, "file", "wrong-dataset"),
    ],
)
def test_an_upload_that_cannot_be_names_its_field(
    project: Project, fields: dict[str, Any], field: str, code: str
) -> None:
    if "file" in fields:
        fields = fields | {"file": SimpleUploadedFile("data.csv", fields["file"])}
    told = refused(session("bob").upload("datasets", **fields), 422, code)
    assert [(error["field"], error["pointer"]) for error in told["errors"]] == [(field, f"/{field}")]


def test_a_surprise_tells_the_log_and_nobody_else(
    project: Project, alice: User, queued: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE trainhub_logline RENAME TO elsewhere")  # undone with the test's transaction
    with caplog.at_level(logging.ERROR, "trainhub.api"):
        told = refused(session("bob").get(f"runs/{queued.pk}/log"), 500, "server-error")
    assert "trainhub_logline" not in str(told)
    assert "trainhub_logline" in caplog.text


def test_answers_are_kept_nowhere(project: Project) -> None:
    assert session("bob").get("me").headers["Cache-Control"] == "no-store"
    assert session("bob").get("nothing").status_code == 404
