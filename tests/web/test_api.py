"""The endpoints: for whom, by which verb, and what they say."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from tests import factories
from tests.web.conftest import client_of
from trainhub import summary
from trainhub.models import Artifact, Run, RunState, Wish

pytestmark = pytest.mark.django_db

READS = ["", "series", "totals", "events", "log"]


def address(run: Run, rest: str = "") -> str:
    return f"/api/v1/runs/{run.pk}/{rest}"


@pytest.fixture
def running(queued: Run) -> Run:
    factories.gang(queued)
    queued.state = RunState.RUNNING
    queued.save()
    return queued


@pytest.fixture
def kept(running: Run) -> Artifact:
    return factories.checkpoint(running, 40, content=b"forty")


@pytest.mark.parametrize("rest", READS)
@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 200), ("vera", 200), ("carol", 404), (None, 401)])
def test_reading_is_for_those_who_share_the_project(queued: Run, rest: str, name: str | None, status: int) -> None:
    assert client_of(name).get(address(queued, rest)).status_code == status


@pytest.mark.parametrize("rest", READS)
@pytest.mark.parametrize("verb", ["post", "put", "patch", "delete"])
def test_reading_goes_by_get_only(queued: Run, rest: str, verb: str) -> None:
    answer = getattr(client_of("alice"), verb)(address(queued, rest))
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 200), ("vera", 200), ("carol", 404), (None, 401)])
def test_a_checkpoint_is_downloaded_by_those_who_share_the_project(
    kept: Artifact, name: str | None, status: int
) -> None:
    answer = client_of(name).get(address(kept.run, f"checkpoints/{kept.pk}"))
    assert answer.status_code == status
    if status == 200:
        assert body_of(answer) == b"forty"
        assert answer.headers["X-Checksum-Sha256"] == kept.sha256
        assert f"-{kept.run_id}-v40.safetensors" in answer.headers["Content-Disposition"]


def body_of(answer: Any) -> bytes:
    async def gather() -> bytes:
        return b"".join([piece async for piece in answer])

    return async_to_sync(gather)()


def test_a_checkpoint_of_another_run_is_not_given_away_by_its_number(kept: Artifact) -> None:
    carol = factories.person("carol")
    other = factories.run(owner=carol, within=factories.project("elsewhere"))
    assert client_of("carol").get(address(other, f"checkpoints/{kept.pk}")).status_code == 404


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/nowhere.safetensors"])
def test_a_row_that_points_out_of_the_home_gives_no_file(kept: Artifact, path: str) -> None:
    Artifact.objects.filter(pk=kept.pk).update(path=path)
    assert client_of("alice").get(address(kept.run, f"checkpoints/{kept.pk}")).status_code == 404


def test_a_bundle_holds_the_checkpoint_and_what_loads_it(kept: Artifact) -> None:
    answer = client_of("vera").get(address(kept.run, f"checkpoints/{kept.pk}/bundle"))
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(body_of(answer))) as archive:
        assert {"load.py", "model.py"} <= set(archive.namelist())
        [checkpoint] = [name for name in archive.namelist() if name.endswith(".safetensors")]
        assert archive.read(checkpoint) == b"forty"


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/nowhere.safetensors"])
def test_a_bundle_holds_nothing_from_out_of_the_home(kept: Artifact, path: str) -> None:
    Artifact.objects.filter(pk=kept.pk).update(path=path)
    assert client_of("alice").get(address(kept.run, f"checkpoints/{kept.pk}/bundle")).status_code == 404


@pytest.mark.parametrize("action", ["pause", "cancel", "kill"])
@pytest.mark.parametrize(("name", "status"), [("alice", 202), ("bob", 202), ("vera", 403), ("carol", 404), (None, 401)])
def test_acting_is_for_owner_and_members(running: Run, action: str, name: str | None, status: int) -> None:
    assert client_of(name).post(address(running, f"actions/{action}")).status_code == status
    running.refresh_from_db()
    assert running.wish == (action if status == 202 else Wish.NONE)


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "kill"])
def test_acting_goes_by_post_only(running: Run, action: str) -> None:
    assert client_of("alice").get(address(running, f"actions/{action}")).status_code == 405
    running.refresh_from_db()
    assert running.wish == Wish.NONE


def test_acting_takes_a_token_against_forgery(running: Run) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(factories.person("alice"))
    assert strict.post(address(running, "actions/kill")).status_code == 403


def test_what_the_state_forbids_is_refused_in_words(running: Run) -> None:
    answer = client_of("alice").post(address(running, "actions/resume"))
    assert answer.status_code == 409
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "only a paused run can be resumed" in answer.json()["detail"]


def test_an_unknown_action_is_not_found(running: Run) -> None:
    assert client_of("alice").post(address(running, "actions/explode")).status_code == 404


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("worker=x", "worker must be a whole number"),
        ("points=1", "points must be at least 10"),
        ("points=5001", "points must be at most 5000"),
        ("after=1e9", "after must be a whole number"),
        ("first=99999999999999999999", "first must be at most 9223372036854775807"),
        ("frist=1", "frist is no parameter"),
    ],
)
def test_a_bad_query_names_its_parameter(queued: Run, query: str, said: str) -> None:
    answer = client_of("alice").get(address(queued, f"series?{query}"))
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"


def test_the_summary_tells_members_checkpoints_and_words(kept: Artifact) -> None:
    told = client_of("alice").get(address(kept.run)).json()
    assert [m["title"] for m in told["members"]].count("server") == 1
    assert told["checkpoints"][0]["sha256"] == kept.sha256
    assert told["budget"] == "30 passes over the data"
    assert told["trainers"] == "4 trainers"


def test_events_and_lines_come_oldest_first_and_newer_ones_on_request(running: Run) -> None:
    first, second = (factories.happened(running, text) for text in ("one", "two"))
    client = client_of("alice")
    everything = client.get(address(running, "events")).json()["events"]
    assert [e["message"] for e in everything] == ["one", "two"]
    newer = client.get(address(running, f"events?after={first.pk}")).json()["events"]
    assert [e["id"] for e in newer] == [second.pk]


def test_whoever_goes_on_behind_the_last_event_misses_none(running: Run) -> None:
    for number in range(5):
        factories.happened(running, f"event {number}")
    client, after, seen = client_of("alice"), 0, []
    while found := client.get(address(running, f"events?after={after}&limit=2")).json()["events"]:
        seen += [event["message"] for event in found]
        after = found[-1]["id"]
    assert seen == [f"event {number}" for number in range(5)]


def test_evaluations_are_events_but_not_on_the_timeline(running: Run) -> None:
    factories.happened(running, "version 45: accuracy 0.9", kind="evaluated")
    factories.happened(running, "trainer 1 left", kind="left")
    assert len(client_of("alice").get(address(running, "events")).json()["events"]) == 2
    news = summary.snapshot(running.pk)
    assert news is not None
    assert [e["message"] for e in news["events"]] == ["trainer 1 left"]


def test_the_log_can_be_read_of_one_member(running: Run) -> None:
    server, trainer, *_ = factories_members(running)
    factories.printed(server, "from the server")
    factories.printed(trainer, "from a trainer")
    lines = client_of("alice").get(address(running, f"log?member={trainer.pk}")).json()["log"]
    assert [(line["member"], line["text"]) for line in lines] == [("trainer 0", "from a trainer")]


def factories_members(run: Run) -> list[Any]:
    return list(run.attempts.get().members.order_by("rank"))
