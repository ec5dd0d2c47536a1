"""Hints to the web processes that a run has something new. Rows are the truth; a lost hint costs latency only."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections import deque
from typing import Any

from channels.layers import BaseChannelLayer, channel_layers

log = logging.getLogger(__name__)

Message = dict[str, Any]

HINT = "run.hint"
QUEUE_MESSAGES = 512
SEND_SECONDS = 2.0
COMPLAIN_SECONDS = 30.0


def group_of(run_id: int) -> str:
    return f"run.{run_id}"


def publish(run_id: int, message: Message) -> None:
    """Tell every web process of `{"kind": "delta", …}` or `{"kind": "changed"}`. Never blocks, never raises.

    Call it after commit, from any thread. Deltas wait in a bounded queue whose newest win, since a page that
    misses one asks for it by sequence; a run's `changed` waits once and is never thrown away.
    """
    try:
        _publisher.put(run_id, message)
    except Exception:  # training and scheduling go on without hints
        log.exception("a hint of run %s was not sent", run_id)


class Publisher:
    """One thread with one event loop and one channel layer, started by the first hint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deltas: deque[tuple[int, Message]] = deque(maxlen=QUEUE_MESSAGES)
        self._changed: dict[int, Message] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def put(self, run_id: int, message: Message) -> None:
        with self._lock:
            if message["kind"] == "delta":
                self._deltas.append((run_id, message))
            else:
                self._changed[run_id] = message
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name="hints", daemon=True).start()
            self._loop.call_soon_threadsafe(self._wake.set)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(self._work())

    async def _work(self) -> None:
        # A layer of its own: a shared one would tie its connections to whichever loop came first.
        layer: BaseChannelLayer | None = None
        silent_until = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            await self._wake.wait()
            self._wake.clear()
            for run_id, message in self._take():
                try:
                    layer = layer or channel_layers.make_backend("default")
                    # As text: the layer's own packing knows neither whole numbers as keys nor much else.
                    body = {"type": HINT, "run": run_id, "message": json.dumps(message)}
                    await asyncio.wait_for(layer.group_send(group_of(run_id), body), SEND_SECONDS)
                except Exception as error:  # noqa: BLE001  Redis is away; a page catches up from the rows
                    layer = None
                    if clock() >= silent_until:
                        silent_until = clock() + COMPLAIN_SECONDS
                        log.warning("a hint of run %s, and maybe more, did not get through: %s", run_id, error)

    def _take(self) -> list[tuple[int, Message]]:
        with self._lock:
            taken = [*self._deltas, *self._changed.items()]
            self._deltas.clear()
            self._changed.clear()
            return taken


_publisher = Publisher()


def _begin_afresh() -> None:
    """A forked child has the parent's locks, but not its thread."""
    global _publisher
    _publisher = Publisher()


os.register_at_fork(after_in_child=_begin_afresh)
