"""From a hint to a page: the hub and its websocket, with a real Redis between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.sessions.models import Session
from django.db import connections

from tests import factories
from tests.web.conftest import client_of
from trainhub.asgi import application
from trainhub.live import client as live_client
from trainhub.live import hints, messages, room
from trainhub.live.client import Client, StalledError
from trainhub.live.hub import hub
from trainhub.models import Membership, Role, Run

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = 10.0


async def in_rows(work: Callable[..., Any], *arguments: Any) -> Any:
    """Work on rows in the one thread whose connection is closed at the end."""
    return await sync_to_async(work)(*arguments)


class Socket:
    """A browser's end of the websocket."""

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "subprotocols": []}
        communicator: Any = ApplicationCommunicator  # asgiref's test tools have no types
        self.line = communicator(application, scope)

    async def connect(self) -> bool:
        await self.line.send_input({"type": "websocket.connect"})
        answer = await self.line.receive_output(DEADLINE)
        return bool(answer["type"] == "websocket.accept")

    async def disconnect(self) -> None:
        await self.line.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.line.wait(DEADLINE)

    async def hear(self) -> Any:
        output = await self.line.receive_output(DEADLINE)
        assert output["type"] == "websocket.send"
        return json.loads(output["text"])

    async def until(self, kind: str, wanted: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next message of a kind that is as wanted."""
        async with asyncio.timeout(DEADLINE):
            while not ((message := await self.hear())["kind"] == kind and wanted(message)):
                pass
        return message


@pytest.fixture
def run() -> Run:
    project = factories.project(alice=Role.ADMIN, bob=Role.MEMBER, vera=Role.VIEWER)
    return factories.run(owner=factories.person("alice"), within=project)


@pytest.fixture
async def sockets() -> AsyncIterator[list[Socket]]:
    opened: list[Socket] = []
    yield opened
    for socket in opened:
        await socket.disconnect()
    await sync_to_async(connections.close_all)()


async def connect(sockets: list[Socket], run: Run, name: str | None) -> tuple[Socket, bool]:
    socket = Socket(f"/live/runs/{run.pk}/", await headers_of(name))
    accepted = await socket.connect()
    if accepted:
        sockets.append(socket)
    return socket, accepted


async def headers_of(name: str | None, origin: str = "http://localhost") -> list[tuple[bytes, bytes]]:
    client = await in_rows(client_of, name)
    cookie = "; ".join(f"{key}={morsel.value}" for key, morsel in client.cookies.items())
    return [(b"host", b"localhost"), (b"cookie", cookie.encode()), (b"origin", origin.encode())]


def delta(sequence: int, *, y: float = 1.0, attempt: int = 1) -> messages.Json:
    series = [[0, "loss", [sequence], [0.0], [y]]]
    return {"kind": "delta", "sequence": sequence, "attempt": attempt, "series": series, "progress": None}


@pytest.mark.parametrize(
    ("name", "welcome"), [("alice", True), ("bob", True), ("vera", True), ("carol", False), (None, False)]
)
async def test_the_socket_opens_for_those_who_share_the_project(
    sockets: list[Socket], run: Run, name: str | None, welcome: bool
) -> None:
    _, accepted = await connect(sockets, run, name)
    assert accepted is welcome


async def test_a_page_of_another_site_may_not_listen(run: Run) -> None:
    headers = await headers_of("alice", "https://evil.example")
    assert not await Socket(f"/live/runs/{run.pk}/", headers).connect()


async def test_it_begins_with_a_snapshot(sockets: list[Socket], run: Run) -> None:
    await in_rows(factories.happened, run, "Submitted by alice")
    socket, _ = await connect(sockets, run, "alice")
    first = await socket.hear()
    assert first["kind"] == "snapshot"
    assert first["summary"]["name"] == run.name
    assert [e["message"] for e in first["events"]] == ["Submitted by alice"]


async def test_a_hint_from_any_thread_arrives(sockets: list[Socket], run: Run) -> None:
    socket, _ = await connect(sockets, run, "bob")
    await socket.until("snapshot")
    await in_rows(hints.publish, run.pk, delta(1, y=float("nan")))
    heard = await socket.until("delta")
    assert (heard["first"], heard["sequence"]) == (1, 1)
    assert heard["series"] == [[0, "loss", [1], ["NaN"]]]


async def test_a_change_brings_the_summary_and_only_new_events(sockets: list[Socket], run: Run) -> None:
    await in_rows(factories.happened, run, "old")
    socket, _ = await connect(sockets, run, "alice")
    await socket.until("snapshot")
    await in_rows(factories.happened, run, "new")
    hints.publish(run.pk, {"kind": "changed"})
    heard = await socket.until("changed")
    assert [e["message"] for e in heard["events"]] == ["new"]


async def test_a_change_that_changes_nothing_is_not_told(
    sockets: list[Socket], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "READ_SECONDS", 0.0)
    socket, _ = await connect(sockets, run, "alice")
    await socket.until("snapshot")
    hints.publish(run.pk, {"kind": "changed"})
    await socket.until("changed")
    hints.publish(run.pk, {"kind": "changed"})
    for sequence in (1, 2):  # the second is sent after what the first hint led to
        hints.publish(run.pk, delta(sequence))
        await socket.hear()
    await in_rows(factories.happened, run, "news")
    hints.publish(run.pk, {"kind": "changed"})
    assert [e["message"] for e in (await socket.until("changed"))["events"]] == ["news"]


async def test_stored_batches_reach_the_page(sockets: list[Socket], run: Run) -> None:
    server = (await in_rows(factories.gang, run))[0]
    socket, _ = await connect(sockets, run, "alice")
    await socket.until("snapshot")
    training = factories.Training(updates=100)
    for batch in training.batches(run.queued_at, of=50):
        await in_rows(factories.store, server, batch)
    heard = await socket.until("delta", lambda m: m["sequence"] == 2)
    assert (heard["progress"]["version"], heard["progress"]["steps"]) == (100, {"0": 100})


async def test_a_hint_without_redis_neither_blocks_nor_raises(run: Run, settings: Any) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": ["unix:///nowhere.sock"]},
        }
    }
    publisher = hints.Publisher()
    for sequence in range(3 * hints.QUEUE_MESSAGES):
        publisher.put(run.pk, delta(sequence))
    assert len(publisher._deltas) <= hints.QUEUE_MESSAGES


async def test_pages_of_one_run_do_not_hear_of_another(sockets: list[Socket], run: Run) -> None:
    other = await in_rows(lambda: factories.run(owner=factories.person("alice"), within=factories.project()))
    mine, _ = await connect(sockets, run, "alice")
    await mine.until("snapshot")
    hints.publish(other.pk, delta(5))
    hints.publish(run.pk, delta(6))
    assert (await mine.until("delta"))["sequence"] == 6


async def test_who_loses_the_right_is_sent_away(
    sockets: list[Socket], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "AUTHORISE_SECONDS", 0.0)
    socket, _ = await connect(sockets, run, "bob")
    await socket.until("snapshot")
    await Membership.objects.filter(user__username="bob").adelete()
    hints.publish(run.pk, {"kind": "changed"})
    closed = await next_close(socket)
    assert closed["code"] == 4404


async def test_signing_out_closes_the_page_s_socket(
    sockets: list[Socket], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "AUTHORISE_SECONDS", 0.0)
    socket, _ = await connect(sockets, run, "alice")
    await socket.until("snapshot")
    await in_rows(sign_everybody_out)
    hints.publish(run.pk, {"kind": "changed"})
    assert (await next_close(socket))["code"] == 4404


def sign_everybody_out() -> None:
    Session.objects.all().delete()


async def next_close(socket: Socket) -> Any:
    async with asyncio.timeout(DEADLINE):
        while (message := await socket.line.receive_output(DEADLINE))["type"] != "websocket.close":
            pass
    return message


async def test_the_hub_ends_with_its_last_page(run: Run) -> None:
    opened: list[Socket] = []
    socket, _ = await connect(opened, run, "alice")
    await socket.until("snapshot")
    assert run.pk in hub().rooms
    await socket.disconnect()
    assert hub().rooms == {}
    await sync_to_async(connections.close_all)()


async def test_a_page_that_does_not_read_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_client, "STALLED_SECONDS", 0.01)

    async def never(_: str) -> None:
        await asyncio.Event().wait()

    async def snapshot() -> str:
        return "{}"

    with pytest.raises(StalledError):
        await Client(user_id=1, session_key="s").serve(never, snapshot)


async def test_a_slow_page_gets_a_snapshot_for_what_it_missed() -> None:
    sent: list[str] = []
    client = Client(user_id=1, session_key="s", behind=False)

    async def send(text: str) -> None:
        sent.append(text)
        client.dismiss()

    async def snapshot() -> str:
        return "snapshot"

    for number in range(live_client.WAITING_MESSAGES + 1):
        client.offer(str(number))
    await client.serve(send, snapshot)
    assert sent == ["snapshot"]


def test_batches_that_follow_each_other_become_one_message() -> None:
    merged = messages.merge([delta(4), delta(5)])
    assert (merged["first"], merged["sequence"]) == (4, 5)
    assert merged["series"] == [[0, "loss", [4, 5], [1.0, 1.0]]]


def test_a_hole_stays_visible_and_doubles_vanish() -> None:
    parts = messages.runs_of([delta(1), delta(2), delta(2), delta(4), delta(5, attempt=2)])
    assert [[d["sequence"] for d in part] for part in parts] == [[1, 2], [4], [5]]
