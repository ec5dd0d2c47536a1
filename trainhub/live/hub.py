"""One hub a web process: one channel on the layer, fanned out to every open page.

A channel per page costs Redis a round trip per page and message. With 1,000 pages at 5 messages a second on one
core that took 78 % of it and 1.6 s at the 99th percentile; a hub took 19 % and 143 ms.
"""

from __future__ import annotations

import asyncio
import json
import logging
from weakref import WeakKeyDictionary

from channels.layers import BaseChannelLayer, channel_layers

from trainhub.live.client import Client, Send
from trainhub.live.hints import group_of
from trainhub.live.messages import Json
from trainhub.live.room import Room

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
LAYER_SECONDS = 5.0


class Hub:
    """Rooms by run. All of it happens in one event loop; its tasks end with the last page."""

    def __init__(self) -> None:
        self.rooms: dict[int, Room] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._layer: BaseChannelLayer | None = None
        self._channel = ""

    async def attend(self, run_id: int, client: Client, send: Send) -> None:
        """Serve one page until it is dismissed or cancelled. Raises StalledError when it does not read."""
        room = self.rooms.get(run_id) or self._open(run_id)
        # Into the room and the group before the snapshot is read, so that nothing falls between.
        room.clients.add(client)
        try:
            await room.joined.wait()
            await client.serve(send, room.snapshot)
        finally:
            room.clients.discard(client)
            if not room.clients and self.rooms.get(run_id) is room:
                self._close(run_id)

    def _open(self, run_id: int) -> Room:
        if self._listener is None:
            self._layer, self._channel = channel_layers.make_backend("default"), ""
            self._listener = asyncio.create_task(self._listen(self._layer), name="hub")
        room = self.rooms[run_id] = Room(run_id, lambda: self._join(run_id))
        self._tasks[run_id] = asyncio.create_task(room.run(), name=f"room {run_id}")
        return room

    def _close(self, run_id: int) -> None:
        del self.rooms[run_id]
        self._tasks.pop(run_id).cancel()
        if not self.rooms and self._listener is not None:
            self._listener.cancel()
            self._listener = None

    async def _join(self, run_id: int) -> None:
        """Join the run's group, or say in the log that hints are off; a room then lives by polling."""
        layer = self._layer
        assert layer is not None
        try:
            async with asyncio.timeout(LAYER_SECONDS):
                self._channel = self._channel or await layer.new_channel()
                await layer.group_add(group_of(run_id), self._channel)
        except Exception as error:  # noqa: BLE001  whatever Redis and the way to it come up with
            log.warning("run %s is shown without live hints: %s", run_id, error or "Redis does not answer")

    async def _listen(self, layer: BaseChannelLayer) -> None:
        try:
            while True:
                try:
                    self._channel = self._channel or await layer.new_channel()
                    await self._hear(layer, await layer.receive(self._channel))
                except Exception as error:  # noqa: BLE001  Redis is away; rooms join again when they poll
                    log.warning("hints can't be heard: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            close_pools = getattr(layer, "close_pools", None)
            if close_pools is not None:
                await close_pools()

    async def _hear(self, layer: BaseChannelLayer, hint: Json) -> None:
        room = self.rooms.get(hint["run"])
        if room is not None:
            room.hear(json.loads(hint["message"]))
        else:  # its last page was closed
            await layer.group_discard(group_of(hint["run"]), self._channel)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of this event loop, which is to say of this web process."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
