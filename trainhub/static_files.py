"""Static files straight from the packages that hold them: no collectstatic, no thread hop, no front server.

Django's own handler reads a file in slices through a synchronous iterator, which ASGI takes whole into memory
anyway, and compresses nothing; plotly.min.js is 4.7 MB, a quarter of that compressed. So: each file once in memory,
read again when it changes.
"""

import asyncio
import gzip
import hashlib
import mimetypes
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.exceptions import SuspiciousFileOperation

COMPRESSED = {".js", ".css", ".svg", ".map", ".json", ".html", ".txt"}


Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class File:
    path: str
    modified_ns: int
    body: bytes
    packed: bytes | None
    etag: bytes
    content_type: bytes


def load(path: str) -> File:
    with open(path, "rb") as source:
        body = source.read()
        modified_ns = os.fstat(source.fileno()).st_mtime_ns
    suffix = os.path.splitext(path)[1]  # noqa: PTH122  finders give strings
    packed = gzip.compress(body, 6, mtime=0) if suffix in COMPRESSED and len(body) > 1000 else None
    guessed = "text/javascript" if suffix == ".mjs" else mimetypes.guess_type(path)[0]
    content_type = guessed or "application/octet-stream"
    if content_type.startswith("text/"):
        content_type += "; charset=utf-8"
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return File(path, modified_ns, body, packed, etag.encode(), content_type.encode())


class StaticFiles:
    """ASGI application: what lies under STATIC_URL, and `pages` for the rest."""

    def __init__(self, pages: Application) -> None:
        self.pages = pages
        self.files: dict[str, File] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = str(settings.STATIC_URL)
        if scope["type"] != "http" or not scope["path"].startswith(prefix):
            await self.pages(scope, receive, send)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await answer(send, 405, [(b"allow", b"GET, HEAD")], b"")
            return
        file = await self.find(scope["path"].removeprefix(prefix))
        if file is None:
            await answer(send, 404, [(b"content-type", b"text/plain")], b"No such file.\n")
            return
        await serve(file, dict(scope["headers"]), send, head=scope["method"] == "HEAD")

    async def find(self, name: str) -> File | None:
        """The file of that name; None: there is none, or it lies outside of the static folders."""
        known = self.files.get(name)
        if known and await asyncio.to_thread(modified_ns, known.path) == known.modified_ns:
            return known
        found = await asyncio.to_thread(find_and_load, name)
        if found:
            self.files[name] = found
        return found


def modified_ns(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return None


def find_and_load(name: str) -> File | None:
    try:
        path = finders.find(name)  # refuses what climbs out
        return load(path) if path and os.path.isfile(path) else None  # noqa: PTH113
    except (OSError, ValueError, SuspiciousFileOperation):  # a zero byte is a ValueError
        return None


async def serve(file: File, wanted: dict[bytes, bytes], send: Send, *, head: bool) -> None:
    headers = [
        (b"etag", file.etag),
        (b"cache-control", b"no-cache"),  # ask each time, be told 304: an update is seen at once
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if file.etag in wanted.get(b"if-none-match", b""):
        await answer(send, 304, headers, b"")
        return
    packed = file.packed if b"gzip" in wanted.get(b"accept-encoding", b"") else None
    if packed is not None:
        headers.append((b"content-encoding", b"gzip"))
    body = file.body if packed is None else packed
    headers += [(b"content-type", file.content_type), (b"content-length", str(len(body)).encode())]
    await answer(send, 200, headers, b"" if head else body)


async def answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
