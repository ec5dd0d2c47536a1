"""One open page, and the few messages it may have waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

WAITING_MESSAGES = 16
STALLED_SECONDS = 5.0

Send = Callable[[str], Awaitable[None]]


class StalledError(Exception):
    """The page has not taken a message for too long."""


@dataclass(eq=False)
class Client:
    """Messages are dropped, all of them, when too many wait: a fresh snapshot then says more than they did."""

    user_id: int
    session_key: str | None
    behind: bool = True
    """Its next message must be a snapshot."""
    waiting: deque[str] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    dismissed: bool = False

    def offer(self, text: str) -> None:
        if len(self.waiting) >= WAITING_MESSAGES:
            self.waiting.clear()
            self.behind = True
        else:
            self.waiting.append(text)
        self.ready.set()

    def dismiss(self) -> None:
        """It may not see the run any more, or the run is gone."""
        self.dismissed = True
        self.ready.set()

    async def serve(self, send: Send, snapshot: Callable[[], Awaitable[str | None]]) -> None:
        """Send what comes until it is dismissed. Raises StalledError when the page does not read."""
        while not self.dismissed:
            self.ready.clear()
            if self.behind:
                self.behind = False  # before the reading, so that what overflows during it counts
                text = await snapshot()
                if text is None:
                    return
                await self._send(send, text)
            elif self.waiting:
                await self._send(send, self.waiting.popleft())
            else:
                await self.ready.wait()

    async def _send(self, send: Send, text: str) -> None:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await send(text)
        except TimeoutError:
            raise StalledError from None
