"""A gradient in pieces, sent by a thread while the rest of it is still computed.

A PIECE frame says which floats come; they lie in the server's slot before the push itself commits them. Until then they
are as good as not sent: a trainer that dies leaves a slot that nobody reads.
"""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from workers.transport.frames import FrameError

RANGE = struct.Struct("<QQ")
MAX_PIECES = 4096
"""Of a gradient: more are no help to anybody."""


class Range(NamedTuple):
    """Floats of a vector, from `start` up to `stop`."""

    start: int
    stop: int

    def pack(self) -> bytes:
        return RANGE.pack(*self)


class Received:
    """Which floats of a gradient have come. Raises FrameError for what can't belong to it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ranges: list[Range] = []

    def take(self, body: bytes) -> Range:
        """The range that comes next: inside the vector, and of floats that have not come yet."""
        if len(body) != RANGE.size or len(self._ranges) >= MAX_PIECES:
            raise FrameError("a piece of a gradient out of place")
        new = Range(*RANGE.unpack(body))
        if not new.start < new.stop <= self._size or any(
            new.start < r.stop and r.start < new.stop for r in self._ranges
        ):
            raise FrameError(f"floats {new.start} to {new.stop} of a gradient of {self._size}, or again")
        self._ranges.append(new)
        return new

    def all(self) -> bool:
        """Whether nothing is missing; what comes next is another gradient's."""
        ranges, self._ranges = self._ranges, []
        return sum(r.stop - r.start for r in ranges) == self._size


class Sender:
    """Sends ranges in the order they were given, in a thread of its own; `finish` hands the line back."""

    def __init__(self, send: Callable[[Range], None]) -> None:
        self._send = send
        self._given: list[Range] = []
        self._queue: queue.SimpleQueue[Range] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._whole = False
        self._thread: threading.Thread | None = None

    def give(self, piece: Range) -> None:
        """Send this soon; its floats must not change any more. Nothing is sent of what is to go as a whole anyway."""
        if self._whole:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pieces", daemon=True)
            self._thread.start()
        self._given.append(piece)
        self._queue.put(piece)

    def spoil(self) -> None:
        """What was given has changed since: all of it has to be sent again."""
        self._whole = True

    def finish(self) -> list[Range]:
        """Wait until all is sent; returns what was. Empty: send the whole. Raises what sending has raised."""
        given, self._given = self._given, []
        whole, self._whole = self._whole, False
        errors = [error for _ in given if (error := self._done.get()) is not None]
        if errors:
            raise errors[0]
        return [] if whole else given

    def _run(self) -> None:
        while True:
            piece = self._queue.get()
            try:
                self._send(piece)
            except BaseException as error:  # noqa: BLE001 - a thread hands it on; the trainer raises it
                self._done.put(error)
            else:
                self._done.put(None)


def gaps(ranges: list[Range], size: int) -> Iterator[Range]:
    """What of so many floats is in none of the ranges, which do not overlap."""
    at = 0
    for start, stop in sorted(ranges):
        if at < start:
            yield Range(at, start)
        at = stop
    if at < size:
        yield Range(at, size)
