"""The websocket of a run's page: authorised before it is accepted, then only told, never asked."""

from __future__ import annotations

import asyncio
from typing import Any

from channels.db import database_sync_to_async

from trainhub import access
from trainhub.live.client import Client, StalledError
from trainhub.live.hub import hub

NOT_ALLOWED = 4404
STALLED = 4408

Scope = dict[str, Any]
Receive = Any
Send = Any


async def run_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application. A plain one: a Channels consumer would open a channel on the layer for every page."""
    await receive()  # websocket.connect
    run_id, user = scope["url_route"]["kwargs"]["run_id"], scope["user"]
    if not await database_sync_to_async(access.visible_runs(user).filter(pk=run_id).exists)():
        await send({"type": "websocket.close", "code": NOT_ALLOWED})
        return
    await send({"type": "websocket.accept"})
    client = Client(user_id=user.pk, session_key=scope["session"].session_key)
    serving = asyncio.create_task(_serve(run_id, client, send))
    leaving = asyncio.create_task(_left(receive))
    try:
        done, _ = await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        leaving.cancel()
        serving.cancel()
        await asyncio.gather(serving, leaving, return_exceptions=True)


async def _serve(run_id: int, client: Client, send: Send) -> None:
    async def send_text(text: str) -> None:
        await send({"type": "websocket.send", "text": text})

    try:
        await hub().attend(run_id, client, send_text)
        code = NOT_ALLOWED
    except StalledError:
        code = STALLED
    await send({"type": "websocket.close", "code": code})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
