"""Which run gets which slots, and the reason why the others wait. Pure: rows in, decisions out."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PASSING_ALLOWED = dt.timedelta(seconds=60)
"""How long smaller runs may pass a head of the queue that does not fit; then slots are kept for it."""


@dataclass(frozen=True)
class Free:
    """An idle slot of an online node that takes new members."""

    id: int
    node: str
    kind: str
    index: int


@dataclass(frozen=True)
class Waiting:
    """A queued run. `least` and `most` count slots, the server's included."""

    run: int
    least: int
    most: int
    priority: int
    queued_at: dt.datetime


@dataclass(frozen=True)
class Plan:
    """`admitted`: run → slots by rank, rank 0 first in line to be the server. `reasons`: run → why it waits."""

    admitted: dict[int, list[Free]]
    reasons: dict[int, str]


def plan(queue: Iterable[Waiting], idle: Sequence[Free], *, total: int, now: dt.datetime) -> Plan:
    """Admit by priority, then age. `total` counts all slots there are, busy ones included."""
    left = list(idle)
    admitted: dict[int, list[Free]] = {}
    reasons: dict[int, str] = {}
    reserved_for: int | None = None
    ahead = 0
    for run in sorted(queue, key=lambda r: (-r.priority, r.queued_at, r.run)):
        if run.least > total:
            reasons[run.run] = f"needs {_slots(run.least)}, but all nodes together have {total}"
            continue  # It can't fit whatever ends, so nobody waits for it
        if reserved_for is None and len(left) >= run.least:
            chosen = choose(left, run.most)
            admitted[run.run] = chosen
            left = [s for s in left if s not in chosen]
            continue
        reasons[run.run] = _reason(run, len(left), ahead, reserved_for)
        ahead += 1
        if reserved_for is None and now - run.queued_at > PASSING_ALLOWED:
            reserved_for = run.run
    return Plan(admitted, reasons)


def choose(idle: Sequence[Free], most: int) -> list[Free]:
    """Take up to `most` slots from as few nodes as possible; CPU slots rank first, so that no GPU serves."""
    by_node: dict[str, list[Free]] = defaultdict(list)
    for slot in idle:
        by_node[slot.node].append(slot)
    fits = [n for n, s in by_node.items() if len(s) >= most]
    if fits:
        tightest = min(fits, key=lambda n: (len(by_node[n]), n))
        chosen = sorted(by_node[tightest], key=lambda s: (s.kind, s.index))[:most]
    else:
        fullest_first = sorted(by_node.values(), key=lambda s: (-len(s), s[0].node))
        chosen = [slot for slots in fullest_first for slot in sorted(slots, key=lambda s: s.index)][:most]
    return sorted(chosen, key=lambda s: s.kind != "cpu")


def _reason(run: Waiting, idle: int, ahead: int, reserved_for: int | None) -> str:
    reason = f"needs {_slots(run.least)}, {idle} idle"
    if ahead:
        reason += f"; {ahead} run{'s' if ahead > 1 else ''} ahead"
    if reserved_for is not None:
        reason += f"; idle slots are kept for run {reserved_for}"
    return reason


def _slots(count: int) -> str:
    return f"{count} slot{'s' if count != 1 else ''}"
