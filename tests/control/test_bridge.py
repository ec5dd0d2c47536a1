"""A supervisor that is slow to store what its child reports is alive all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainhub.actions import members, telemetry
from trainhub.models import Member
from workers import bridge
from workers.events import Batch, Progress

pytestmark = pytest.mark.django_db

BATCHES = 6
SLOW_SECONDS = 0.15


class Backlog:
    """A spool with batches that wait to be stored."""

    def read(self) -> Iterator[tuple[Batch, int, int]]:
        for number in range(1, BATCHES + 1):
            yield Batch(number, [], progress=Progress(number, number, None, steps={0: number})), 1, number


def test_it_beats_while_it_works_off_a_backlog(server: Member, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    members.running(server)
    place = bridge.Place("one", tmp_path, tmp_path, "th-", 1, {})
    supervisor = bridge.Supervisor(members.get(server.pk), place, threading.Event())
    spool: Any = Backlog()
    supervisor.spool = spool
    store = telemetry.store

    def as_on_a_slow_disk(*given: Any) -> bool:
        time.sleep(SLOW_SECONDS)
        return store(*given)

    monkeypatch.setattr(telemetry, "store", as_on_a_slow_disk)
    monkeypatch.setattr(bridge, "BEAT_SECONDS", SLOW_SECONDS / 2)
    before = Member.objects.get(pk=server.pk).beat
    supervisor._store_reports()
    after = Member.objects.get(pk=server.pk)
    assert after.spool_sequence == BATCHES
    assert after.beat - before == BATCHES
