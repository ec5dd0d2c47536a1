"""LISTEN, with a deadline: whoever waits for a notification also polls."""

from __future__ import annotations

import time

import psycopg
from django.db import connection


class Listener:
    """A connection of its own that waits on one channel. Not shared between threads."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def wait(self, seconds: float) -> set[str]:
        """Payloads that came within that time, all at hand once the first is there. Raises psycopg.Error."""
        listening = self._connection or self._connect()
        payloads = set()
        deadline = time.monotonic() + seconds
        for notice in listening.notifies(timeout=seconds, stop_after=1):
            payloads.add(notice.payload)
        if payloads and time.monotonic() < deadline:
            payloads |= {notice.payload for notice in listening.notifies(timeout=0)}
        return payloads

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        raw: psycopg.Connection[tuple[object, ...]] = connection.get_new_connection(connection.get_connection_params())
        raw.autocommit = True
        raw.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self.channel)))
        self._connection = raw
        return raw

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
