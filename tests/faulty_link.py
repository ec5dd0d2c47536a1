"""A TCP line that goes wrong as asked: a proxy with delay, a rate limit, black holes, resets and cuts.

Every fault is counted where it happens, so that a test can say that its fault has fired. `fired` counts pieces of data
that were delayed, slowed or held back, and connections that were reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Fault = Literal["delay", "rate", "hole", "reset"]
PIECE_BYTES = 64 * 1024
QUEUE_PIECES = 64
NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset."""


class FaultyLink:
    """Relays connections made to `address` on to `target`. All of its settings may be changed while it runs."""

    def __init__(self, target: tuple[str, int], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self.delay_seconds = 0.0
        """One way, on either way."""
        self.bytes_per_second = 0.0
        """Of each connection and direction. 0: no limit."""
        self.fired: Counter[Fault] = Counter()
        self.connections = 0
        self.up_bytes = self.down_bytes = 0
        """Bytes handed on to the target, and back from it."""
        self._resets_due: tuple[bool, list[int]] = True, []
        self._loop = asyncio.new_event_loop()
        self._passable = asyncio.Event()
        self._passable.set()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty link", daemon=True)
        self._thread.start()
        self._server = self._in_loop(asyncio.start_server(self._relay, host, port))
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]

    def _in_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    # ------------------------------------------------------------ faults

    def cut(self) -> None:
        """A black hole: nothing passes in either direction, and nobody is told. New connections lead nowhere."""
        self._loop.call_soon_threadsafe(self._passable.clear)

    def restore(self) -> None:
        """End a cut. What was on its way arrives now, where its connection is still open."""
        self._loop.call_soon_threadsafe(self._passable.set)

    def reset(self) -> None:
        """Reset all connections."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def reset_after(self, size_bytes: int, *, up: bool = True, times: int = 1) -> None:
        """Reset all connections as soon as so many more bytes have been handed on to the target, or back from it.

        `times`: and again after as many more, so often in all. The connection that carries the last of the bytes is
        always among those that are reset, so each time counts.
        """
        so_far = self.up_bytes if up else self.down_bytes
        self._resets_due = up, [so_far + size_bytes * (k + 1) for k in range(times)]

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            self._reset_all()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._in_loop(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _reset_all(self) -> None:
        for pair in list(self._pairs):
            self.fired["reset"] += 1
            self._pairs.discard(pair)
            for writer in pair:
                connection = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                writer.transport.abort()

    # ------------------------------------------------------------ its loop

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        pair = None
        try:
            if not self._passable.is_set():
                self.fired["hole"] += 1
                await self._passable.wait()
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            pair = (writer, far_writer)
            self._pairs.add(pair)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, up=True))
                group.create_task(self._pump(far_reader, writer, up=False))
        except* (OSError, asyncio.CancelledError):
            pass  # an end has gone, or this is over
        finally:
            self._pairs.discard(pair)
            for end in pair or (writer,):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE_PIECES)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(reader, queue))
            group.create_task(self._give(queue, writer, up=up))

    async def _take(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        while True:
            piece = await reader.read(PIECE_BYTES)
            await queue.put((self._loop.time() + self.delay_seconds, piece))
            if not piece:
                return

    async def _give(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, *, up: bool) -> None:
        while True:
            due, piece = await queue.get()
            await self._hold(due, len(piece))
            if not piece:
                writer.write_eof()
                return
            self._count(len(piece), up=up)
            writer.write(piece)
            await writer.drain()

    async def _hold(self, due: float, size_bytes: int) -> None:
        """Keep a piece for as long as the faults of the moment say."""
        if (early := due - self._loop.time()) > 0.0:
            self.fired["delay"] += 1
            await asyncio.sleep(early)
        if self.bytes_per_second:
            self.fired["rate"] += 1
            await asyncio.sleep(size_bytes / self.bytes_per_second)
        if not self._passable.is_set():
            self.fired["hole"] += 1
            await self._passable.wait()

    def _count(self, size_bytes: int, *, up: bool) -> None:
        if up:
            self.up_bytes += size_bytes
        else:
            self.down_bytes += size_bytes
        way, due = self._resets_due
        if due and (self.up_bytes if way else self.down_bytes) >= due[0]:
            due.pop(0)
            self._reset_all()


@contextlib.contextmanager
def faulty_link(target: tuple[str, int], *, host: str = "127.0.0.1", port: int = 0) -> Iterator[FaultyLink]:
    """A line to `target` that ends with the block. `host` and `port` are where it listens."""
    link = FaultyLink(target, host=host, port=port)
    try:
        yield link
    finally:
        link.close()
