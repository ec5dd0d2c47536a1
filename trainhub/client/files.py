"""Files to and from the service: streamed, counted, and checked before they are where they belong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx

from trainhub.client.errors import Damaged
from trainhub.client.wire import Wire, document

Told = Callable[[int, int | None], None]
"""Bytes done, and of how many where that is known."""

PIECE_BYTES = 256 * 1024


def download(wire: Wire, path: str, to: Path, *, sha256: str | None = None, told: Told | None = None) -> Path:
    """Fetch a file. It is at `to` whole and checked, or not at all. Raises Damaged, and what Wire raises."""
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file, wire.stream(path) as answer:
            wanted = sha256 or answer.headers.get("X-Checksum-Sha256")
            found = _copy(answer, file, told)
        if wanted and found != wanted:
            raise Damaged(f"{to.name} did not arrive as it was sent: SHA-256 {found}, not {wanted}. Fetch it again.")
        os.replace(part, to)
    finally:
        part.unlink(missing_ok=True)
    return to


def _copy(answer: httpx.Response, file: IO[bytes], told: Told | None) -> str:
    """The SHA-256 of what came."""
    size = answer.headers.get("Content-Length")
    total, done, digest = int(size) if size else None, 0, hashlib.sha256()
    for piece in answer.iter_bytes(PIECE_BYTES):
        digest.update(piece)
        file.write(piece)
        done += len(piece)
        if told:
            told(done, total)
    return digest.hexdigest()


class Counted:
    """A file that tells how far it was read. httpx asks its size by `fileno`."""

    def __init__(self, file: IO[bytes], told: Told | None) -> None:
        self._file = file
        self._told = told
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        if self._told:
            self._told(self._file.tell(), self._size)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def upload(wire: Wire, path: str, file: Path, fields: dict[str, str], *, told: Told | None, seconds: float) -> Any:
    """Send a file as a form does. `seconds` is how long the service may take to prepare it. Raises what Wire raises.

    Not repeated: after a lost answer the data set may be there, and the list tells.
    """
    with file.open("rb") as opened:
        counted: Any = Counted(opened, told)
        sent = {"file": (file.name, counted, "application/octet-stream")}
        timeout = httpx.Timeout(seconds, connect=5.0)
        return document(wire.send("POST", path, data=fields, files=sent, timeout=timeout))
