"""How much a request may bring along, found out before Django spools a whole body to disk.

An upload of data may be gigabytes, for whoever is signed in or has a token; everything else fits into two megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, parse_cookie

from trainhub.actions import tokens
from trainhub.intake import MOST_BYTES
from trainhub.static_files import Application, Receive, Scope, Send

Problem = dict[str, Any]

SMALL_BYTES = 2 * 1024 * 1024
ENVELOPE_BYTES = 64 * 1024
"""What multipart adds to a file: its headers, and the other fields."""
UPLOADS = {"/api/v1/datasets"}


class BodyLimit:
    """ASGI application: `pages`, for requests of at most so many bytes, counted as they come."""

    def __init__(self, pages: Application) -> None:
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.pages(scope, receive, send)
            return
        most, refusal = limit(scope), too_large
        if most > SMALL_BYTES and not await database_sync_to_async(is_known)(scope):
            most, refusal = SMALL_BYTES, unknown
        if announced(scope) > most:
            await refuse(send, refusal(most))
            return
        counted = Counted(receive, send, most)
        await self.pages(scope, counted.receive, counted.send)
        if counted.exceeded and not counted.answered:
            await refuse(send, refusal(most))


class Counted:
    """Hands on a request until it has brought too much; from there on it seems to have been broken off."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send = receive, send
        self.left = most
        self.answered = False

    @property
    def exceeded(self) -> bool:
        return self.left < 0

    async def receive(self) -> Mapping[str, object]:
        if self.exceeded:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self.left -= len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.exceeded else message

    async def send(self, message: Mapping[str, object]) -> None:
        self.answered = True
        await self._send(message)


def limit(scope: Scope) -> int:
    uploads = scope["method"] == "POST" and scope["path"] in UPLOADS and shows_credentials(scope)
    return MOST_BYTES + ENVELOPE_BYTES if uploads else SMALL_BYTES


def shows_credentials(scope: Scope) -> bool:
    """Whether there is a session's cookie or a token at all, good or not."""
    headers = dict(scope["headers"])
    return b"authorization" in headers or settings.SESSION_COOKIE_NAME.encode() in headers.get(b"cookie", b"")


def is_known(scope: Scope) -> bool:
    """Whether the token or the session is somebody's. What they may do is found out by whoever has read the body."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if (given := headers.get(b"authorization")) is not None:
        scheme, _, secret = given.partition(" ")
        return scheme.lower() == "bearer" and secret.isascii() and tokens.find(secret.strip()) is not None
    request = HttpRequest()
    request.session = SessionStore(parse_cookie(headers.get(b"cookie", "")).get(settings.SESSION_COOKIE_NAME))
    return get_user(request).is_authenticated


def announced(scope: Scope) -> int:
    """Content-Length in bytes; 0 where there is none, or no number."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return int(told) if told.isdigit() and len(told) < 20 else 0


def too_large(most: int) -> Problem:
    detail = f"The body of a request to this address may have {most:,} bytes at most."
    return problem(413, "too-large", "The request is too large", detail)


def unknown(most: int) -> Problem:
    detail = f"This token or session opens nothing, and without one a request may have {most:,} bytes at most."
    return problem(401, "not-signed-in", "Sign in, or send a valid token", detail)


def problem(status: int, code: str, title: str, detail: str) -> Problem:
    return {"type": f"/api/v1/docs#{code}", "title": title, "status": status, "detail": detail, "code": code}


async def refuse(send: Send, told: Problem) -> None:
    body = json.dumps(told).encode()
    # The rest of the body is not waited for, so nothing else can come over this connection.
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": told["status"], "headers": headers})
    await send({"type": "http.response.body", "body": body})
