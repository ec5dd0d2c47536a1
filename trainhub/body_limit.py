"""How much a request may bring along, found out before Django spools a whole body to disk.

An upload of data may be gigabytes; everything else fits into two megabytes, and so does an upload of whoever shows
neither a session nor a token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.conf import settings

from trainhub.intake import MOST_BYTES
from trainhub.static_files import Application, Receive, Scope, Send

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
        most = limit(scope)
        if announced(scope) > most:
            await refuse(send, most)
            return
        counted = Counted(receive, send, most)
        await self.pages(scope, counted.receive, counted.send)
        if counted.exceeded and not counted.answered:
            await refuse(send, most)


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
    """Whether there is a session's cookie or a token at all; Django finds out whether they are good ones."""
    headers = dict(scope["headers"])
    return b"authorization" in headers or settings.SESSION_COOKIE_NAME.encode() in headers.get(b"cookie", b"")


def announced(scope: Scope) -> int:
    """Content-Length in bytes; 0 where there is none, or no number."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return int(told) if told.isdigit() and len(told) < 20 else 0


async def refuse(send: Send, most: int) -> None:
    body = json.dumps(
        {
            "type": "/api/v1/docs#too-large",
            "title": "The request is too large",
            "status": 413,
            "detail": f"The body of a request to this address may have {most:,} bytes at most.",
            "code": "too-large",
        }
    ).encode()
    # The rest of the body is not waited for, so nothing else can come over this connection.
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
