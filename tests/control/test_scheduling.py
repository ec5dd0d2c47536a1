"""Which run gets which slots: a pure function, worked by hand."""

from __future__ import annotations

import datetime as dt
from typing import Any

from trainhub.scheduling import Waiting, plan
from trainhub.topology import Free, Host

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def free(node: str, count: int, kind: str = "cpu", first: int = 0) -> list[Free]:
    return [Free(first + i, node, kind, i) for i in range(count)]


def host(name: str, cpu: int, **more: Any) -> Host:
    return Host(name, {"cpu": cpu}, **more)


def waiting(run: int, least: int, *, most: int | None = None, priority: int = 0, age: float = 0) -> Waiting:
    return Waiting(run, least, most or least, priority, NOW - dt.timedelta(seconds=age))


def test_it_admits_by_priority_and_then_by_age() -> None:
    queue = [waiting(1, 3, age=5), waiting(2, 3, age=9), waiting(3, 3, priority=1)]
    assert list(plan(queue, free("a", 6), [host("a", 6)], now=NOW).admitted) == [3, 2]


def test_a_waiting_run_is_told_what_it_needs_and_who_is_ahead() -> None:
    result = plan([waiting(1, 5, age=9), waiting(2, 5)], free("a", 3), [host("a", 8)], now=NOW)
    assert result.reasons == {1: "needs 5 slots, 3 idle", 2: "needs 5 slots, 3 idle; 1 run ahead"}


def test_a_smaller_run_passes_a_blocked_head_at_first() -> None:
    result = plan([waiting(1, 5, age=59), waiting(2, 3)], free("a", 3), [host("a", 8)], now=NOW)
    assert list(result.admitted) == [2]


def test_after_a_minute_slots_are_kept_for_the_head() -> None:
    result = plan([waiting(1, 5, age=61), waiting(2, 3)], free("a", 3), [host("a", 8)], now=NOW)
    assert result.admitted == {}
    assert result.reasons[2].endswith("idle slots are kept for run 1")


def test_nobody_waits_for_a_run_that_can_never_fit() -> None:
    result = plan([waiting(1, 9, age=999), waiting(2, 3)], free("a", 3), [host("a", 8)], now=NOW)
    assert list(result.admitted) == [2]
    assert result.reasons[1] == "needs 9 slots, but all nodes together have 8"


def test_an_elastic_run_takes_what_there_is() -> None:
    assert len(plan([waiting(1, 2, most=9)], free("a", 4), [host("a", 9)], now=NOW).admitted[1]) == 4
