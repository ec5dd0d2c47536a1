"""The open pages of one run in this web process, and what they are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from channels.db import database_sync_to_async
from django.contrib.sessions.models import Session
from django.utils import timezone

from trainhub import access, summary
from trainhub.live import messages
from trainhub.live.client import Client
from trainhub.live.messages import Json

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2
"""At most five messages a second."""
READ_SECONDS = 0.5
"""At most two reads of the database a second, however many pages are open."""
POLL_SECONDS = 5.0
"""Rows are read, and the group is joined again, this often: hints may be lost, and Redis may be flushed."""
AUTHORISE_SECONDS = 60.0
PASSING = {"now", "seconds_left"}
"""What differs in every reading of a run and is no news."""


def still_allowed(run_id: int, sessions: dict[str, int]) -> set[str]:
    """Keys of the sessions that live and whose users may see the run."""
    live = Session.objects.filter(session_key__in=list(sessions), expire_date__gt=timezone.now())
    users = access.who_may_see(run_id, sessions.values())
    return {key for key in live.values_list("session_key", flat=True) if sessions[key] in users}


class Room:
    """Owned by the hub's event loop. Its task lives as long as somebody is in it."""

    def __init__(self, run_id: int, join_group: Callable[[], Awaitable[None]]) -> None:
        self.run_id = run_id
        self.clients: set[Client] = set()
        self.joined = asyncio.Event()
        self._join_group = join_group
        self._deltas: list[Json] = []
        self._changed = False
        self._wake = asyncio.Event()
        self._hints = 0
        self._snapshot: tuple[float, int, str | None] | None = None
        self._reading = asyncio.Lock()
        self._known: set[tuple[str, int]] = set()
        self._shown: Json = {}

    def hear(self, message: Json) -> None:
        """Take in a hint."""
        self._hints += 1
        if message["kind"] == "delta":
            self._deltas.append(message)
        else:
            self._changed = True
        self._wake.set()

    async def snapshot(self) -> str | None:
        """The run as it is now. Pages that open together share one reading. None: the run is gone."""
        clock = asyncio.get_running_loop().time
        asked_at, asked_after = clock(), self._hints
        async with self._reading:
            if self._snapshot is not None:
                read_at, heard, text = self._snapshot
                if heard >= asked_after and read_at > asked_at - READ_SECONDS:
                    return text
            read_at, heard = clock(), self._hints  # what is heard during the reading may be missing in it
            news = await database_sync_to_async(summary.snapshot)(self.run_id)
            text = messages.encode({"kind": "snapshot", **news}) if news else None
            if news and not self._known:
                self._known = known_of(news)
            self._snapshot = read_at, heard, text
            return text

    async def run(self) -> None:
        """Tell everybody in the room what is new, at a bounded pace."""
        clock = asyncio.get_running_loop().time
        read_at = polled_at = authorised_at = clock()
        await self._join_group()
        self.joined.set()
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                self._send_deltas()
                if clock() - polled_at >= POLL_SECONDS:
                    polled_at = clock()
                    self._changed = True
                    await self._join_group()
                if self._changed and clock() - read_at >= READ_SECONDS:
                    self._changed = False
                    read_at = clock()
                    await self._send_news()
                if clock() - authorised_at >= AUTHORISE_SECONDS:
                    authorised_at = clock()
                    await self.authorise()
            except Exception:  # the database or Redis is away; pages keep what they have
                log.exception("run %s: its open pages were not told what is new", self.run_id)
            if self._changed:
                self._wake.set()
            await asyncio.sleep(TICK_SECONDS)

    async def authorise(self) -> None:
        """Send away who may not look any more: signed out, deactivated, or no longer of the project."""
        sessions = {c.session_key: c.user_id for c in self.clients}
        allowed = await database_sync_to_async(still_allowed)(self.run_id, sessions)
        for client in self.clients:
            if client.session_key not in allowed:
                client.dismiss()

    def _send_deltas(self) -> None:
        deltas = sorted(self._deltas, key=lambda d: d["sequence"])
        self._deltas = []
        for part in messages.runs_of(deltas):
            self._send(messages.merge(part))

    async def _send_news(self) -> None:
        news = await database_sync_to_async(summary.snapshot)(self.run_id)
        self._snapshot = None  # who joins from now on must see at least what is sent here
        if news is None:
            for client in self.clients:
                client.dismiss()
            return
        before, self._known = self._known, known_of(news)
        # By what is known, not by the greatest id: a transaction with a lower one may commit later.
        for kind in ("events", "log"):
            news[kind] = [item for item in news[kind] if (kind, item["id"]) not in before]
        shown = {name: value for name, value in news["summary"].items() if name not in PASSING}
        if news["events"] or news["log"] or shown != self._shown:
            self._shown = shown
            self._send({"kind": "changed", **news})

    def _send(self, message: Json) -> None:
        text = messages.encode(message)
        for client in self.clients:
            client.offer(text)


def known_of(news: Json) -> set[tuple[str, int]]:
    return {(kind, item["id"]) for kind in ("events", "log") for item in news[kind]}
