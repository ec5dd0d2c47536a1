"""Bodies that are too large are refused while they come, whether or not they say how large they are."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from tests import factories
from tests.web import rest
from tests.web.conftest import client_of
from tests.webs import Web, serving
from trainhub.body_limit import SMALL_BYTES, BodyLimit, is_known, limit
from trainhub.intake import MOST_BYTES
from trainhub.models import Role

PIECE = b"x" * 65_536
TOO_MANY = SMALL_BYTES // len(PIECE) + 1


def scope(path: str = "/sign-in/", **headers: str) -> dict[str, Any]:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": sent}


async def answered(asked: dict[str, Any], pieces: list[bytes]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the pages behind the limit received, and what was sent back."""
    coming = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    coming.append({"type": "http.request", "body": b"", "more_body": False})
    received: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []

    async def pages(_scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            received.append(message)
            if message["type"] == "http.disconnect":
                return
            if not message["more_body"]:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                return

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await BodyLimit(pages)(asked, receive, send)
    return received, sent


async def test_a_body_within_the_limit_comes_through_whole() -> None:
    received, sent = await answered(scope(), [PIECE] * (TOO_MANY - 1))
    assert sum(len(message["body"]) for message in received) == len(PIECE) * (TOO_MANY - 1)
    assert sent[0]["status"] == 200


async def test_a_body_that_says_it_is_too_large_is_never_read() -> None:
    received, sent = await answered(scope(content_length=str(SMALL_BYTES + 1)), [PIECE])
    assert received == []
    assert sent[0]["status"] == 413


async def test_a_body_that_does_not_say_is_broken_off_at_the_limit() -> None:
    received, sent = await answered(scope(), [PIECE] * 10 * TOO_MANY)
    assert received[-1] == {"type": "http.disconnect"}
    assert sum(len(message.get("body", b"")) for message in received) <= SMALL_BYTES
    assert sent[0]["status"] == 413
    assert json.loads(sent[1]["body"])["code"] == "too-large"


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        (scope("/api/v1/datasets", authorization="Bearer th_x"), MOST_BYTES),
        (scope("/api/v1/datasets", cookie=f"{settings.SESSION_COOKIE_NAME}=x"), MOST_BYTES),
        (scope("/api/v1/datasets"), 0),
        (scope("/api/v1/datasets", cookie="other=x"), 0),
        (scope("/api/v1/datasets/1", authorization="Bearer th_x"), 0),
        (scope("/api/v1/experiments", authorization="Bearer th_x"), 0),
    ],
)
def test_only_an_upload_with_credentials_may_be_large(asked: dict[str, Any], most: int) -> None:
    assert most < limit(asked) <= most + SMALL_BYTES


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture
def connected(web: Web, transactional_db: None) -> Iterator[socket.socket]:
    host, port = web.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        yield connection


def status_of(connection: socket.socket) -> bytes:
    return connection.recv(65_536).split(b"\r\n", 1)[0]


def test_a_web_process_refuses_a_chunked_body_without_end(connected: socket.socket) -> None:
    head = "POST /api/v1/experiments HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    connected.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
    try:
        for _ in range(10 * TOO_MANY):
            connected.sendall(f"{len(PIECE):x}\r\n".encode() + PIECE + b"\r\n")
    except ConnectionError:
        pass  # it has closed already; the answer is there all the same
    assert status_of(connected) == b"HTTP/1.1 413 Request Entity Too Large"


def test_a_web_process_refuses_a_large_body_by_its_length(connected: socket.socket) -> None:
    head = f"POST /api/v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MOST_BYTES}\r\n\r\n"
    connected.sendall(head.encode())
    assert status_of(connected) == b"HTTP/1.1 413 Request Entity Too Large"


def test_a_web_process_takes_a_large_upload(connected: socket.socket) -> None:
    factories.project(bob=Role.MEMBER)
    secret = rest.secret_of("bob")
    rows = b"1.25,0.5,rose\r\n0.75,2.5,tulip\r\n" * 150_000
    body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nflowers\r\n--b\r\n'
    body += b'Content-Disposition: form-data; name="file"; filename="f.csv"\r\n\r\nheight,width,species\r\n'
    body += rows + b"\r\n--b--\r\n"
    head = "POST /api/v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    connected.sendall(f"{head}Authorization: Bearer {secret}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    assert len(body) > 2 * SMALL_BYTES
    assert status_of(connected) == b"HTTP/1.1 201 Created"


@pytest.mark.parametrize("given", ["Authorization: Bearer th_x", f"Cookie: {settings.SESSION_COOKIE_NAME}=x"])
def test_a_large_upload_takes_credentials_that_are_somebody_s(connected: socket.socket, given: str) -> None:
    head = f"POST /api/v1/datasets HTTP/1.1\r\nHost: localhost\r\n{given}\r\n"
    connected.sendall(f"{head}Content-Length: {SMALL_BYTES + 1}\r\n\r\n".encode())
    assert status_of(connected) == b"HTTP/1.1 401 Unauthorized"


@pytest.mark.django_db
def test_whoever_is_signed_in_or_has_a_token_is_known() -> None:
    cookie = client_of("alice").cookies[settings.SESSION_COOKIE_NAME].value
    assert is_known(scope(cookie=f"other=1; {settings.SESSION_COOKIE_NAME}={cookie}"))
    assert is_known(scope(authorization=f"Bearer {rest.secret_of('alice')}"))
    User.objects.update(is_active=False)
    assert not is_known(scope(cookie=f"{settings.SESSION_COOKIE_NAME}={cookie}"))
