"""Tells others that rows changed: NOTIFY for schedulers and agents, hints for dashboards.

NOTIFY is part of its transaction: it goes out on commit and never for a rollback. Nobody relies on it; every
listener also polls.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import connection, transaction

from trainhub.live import hints

SCHEDULER_CHANNEL = "trainhub_scheduler"
NODE_CHANNEL = "trainhub_node"


def wake_scheduler() -> None:
    _notify(SCHEDULER_CHANNEL, "")


def wake_node(name: str) -> None:
    _notify(NODE_CHANNEL, name)


def run_changed(run_id: int) -> None:
    """Something about this run other than its series changed: dashboards read it again."""
    publish(run_id, {"kind": "changed"})


def publish(run_id: int, message: dict[str, Any]) -> None:
    transaction.on_commit(partial(hints.publish, run_id, message))


def _notify(channel: str, payload: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])
