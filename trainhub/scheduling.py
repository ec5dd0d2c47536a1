"""Which run gets which slots, and the reason why the others wait. Pure: rows in, decisions out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from trainhub import topology
from trainhub.topology import CPU, Demand, Free, Host, Room

PASSING_ALLOWED = dt.timedelta(seconds=60)
"""How long smaller runs may pass a head of the queue that does not fit; then slots are kept for it."""
TOLD = 3
"""Names or labels that a reason tells, at most."""
ANYWHERE = Demand()
APART = "nodes without TRAINHUB_INTERFACE can't be combined"


@dataclass(frozen=True)
class Waiting:
    """A queued run. `least` and `most` count slots, the server's included."""

    run: int
    least: int
    most: int
    priority: int
    queued_at: dt.datetime
    demand: Demand = ANYWHERE


@dataclass(frozen=True)
class Plan:
    """`admitted`: run → slots by rank, rank 0 first in line to be the server. `reasons`: run → why it waits.

    `impossible`: those that no end of other runs makes room for.
    """

    admitted: dict[int, list[Free]]
    reasons: dict[int, str]
    impossible: frozenset[int] = frozenset()


@dataclass
class _Kept:
    """Idle slots that are kept for a run at the queue's head."""

    run: int = 0
    slots: list[Free] = field(default_factory=list)


def plan(queue: Iterable[Waiting], idle: Sequence[Free], hosts: Sequence[Host], *, now: dt.datetime) -> Plan:
    """Admit by priority, then age. `hosts` are all that take new members, with what they offer and who reaches whom."""
    left = list(idle)
    kept = _Kept()
    admitted: dict[int, list[Free]] = {}
    reasons: dict[int, str] = {}
    impossible = set()
    ahead = 0
    for run in sorted(queue, key=lambda r: (-r.priority, r.queued_at, r.run)):
        if never := obstacle(run, hosts):
            reasons[run.run] = never
            impossible.add(run.run)
            continue  # It can't fit whatever ends, so nobody waits for it
        if chosen := topology.choose(left, hosts, run.demand, least=run.least, most=run.most):
            admitted[run.run] = chosen
            left = [s for s in left if s not in chosen]
            continue
        reasons[run.run] = _reason(run, left, hosts, ahead, kept)
        ahead += 1
        if not kept.run and now - run.queued_at > PASSING_ALLOWED:
            kept = _Kept(run.run, _usable(left, hosts, run.demand))
            left = [s for s in left if s not in kept.slots]
    return Plan(admitted, reasons, frozenset(impossible))


def _usable(idle: Sequence[Free], hosts: Sequence[Host], demand: Demand) -> list[Free]:
    """Idle slots that a run of this demand might take."""
    allowed = {host.name for host in hosts if demand.allows(host)}
    return [s for s in idle if s.node in allowed and s.kind in (CPU, demand.device)]


def obstacle(run: Waiting, hosts: Sequence[Host]) -> str:
    """Why the run fits on no hosts that take members now, whatever else ends. Empty: it may fit one day."""
    demand, whole = run.demand, topology.offered(hosts, run.demand)
    if topology.largest(whole) >= run.least:
        return ""
    if hosts and not whole:
        return _nowhere(demand, hosts)
    if hosts and not any(room.servers for room in whole):
        return "its server needs a CPU slot on a node that shares this service's TRAINHUB_HOME, and none does"
    if demand.device != CPU and not any(room.trainers for room in whole):
        return f"needs {demand.device} slots, and no node it may run on has one"
    needs, there = _slots(run.least, demand), _sum(whole, demand)
    if there < run.least:
        which = "all nodes" if len(whole) == len(hosts) else "the nodes it may run on"
        return f"needs {needs}, but {which} together have {there}"
    return f"needs {needs} on {_apart(whole)}"


def _nowhere(demand: Demand, hosts: Sequence[Host]) -> str:
    """No host is allowed: name the first wish that none of them fulfils."""
    named = [host for host in hosts if not demand.hosts or host.name in demand.hosts]
    if not named:
        return f"none of the nodes it may run on takes members now: {_few(demand.hosts)}"
    labelled = [host for host in named if demand.labels <= frozenset(host.labels.items())]
    if not labelled:
        wished = _few(f"{key}={value}" for key, value in demand.labels)
        return f"{'none of its nodes' if demand.hosts else 'no node'} has the labels {wished}"
    return "its data set lies in this service's TRAINHUB_HOME, and no node it may run on shares that"


def _reason(run: Waiting, left: Sequence[Free], hosts: Sequence[Host], ahead: int, kept: _Kept) -> str:
    idle = topology.idle_rooms(hosts, run.demand, [*left, *kept.slots])
    needs, there = _slots(run.least, run.demand), _sum(idle, run.demand)
    if there < run.least or topology.largest(idle) >= run.least:
        reason = f"needs {needs}, {there} idle"
    elif not any(room.servers for room in idle):
        reason = f"needs {needs}, and none is idle for its server"
    else:
        reason = f"needs {needs} on {_apart(idle, ' idle')}"
    if ahead:
        reason += f"; {ahead} run{'s' if ahead > 1 else ''} ahead"
    if kept.run:
        reason += f"; idle slots are kept for run {kept.run}"
    return reason


def _sum(found: Sequence[Room], demand: Demand) -> int:
    """Slots that the rooms have together, for trainers of any size and one server."""
    slots = sum(room.slots for room in found)
    return slots if demand.pooled else slots + any(room.servers for room in found)


def _apart(found: Sequence[Room], idle: str = "") -> str:
    """There are enough slots, but on hosts that can't be combined."""
    most = topology.largest(found)
    if found[0].shards > 1:
        combined = "" if all(room.host.reachable for room in found) else f"; {APART}"
        return f"nodes where {most}{idle} at most make whole groups and a server{combined}"
    if sum(room.host.reachable for room in found) > 1:
        return f"one host or on hosts that reach each other, which have {most}{idle} at most; {APART}"
    return f"one host, the fullest has {most}{idle}; {APART}" if idle else f"one host, the largest has {most}; {APART}"


def _few(words: Iterable[str]) -> str:
    listed = sorted(words)
    return ", ".join(listed[:TOLD]) + (f" and {len(listed) - TOLD} more" if len(listed) > TOLD else "")


def _slots(count: int, demand: Demand) -> str:
    noun = f"slot{'s' if count != 1 else ''}"
    of = [] if demand.pooled else [f"{count - 1} {demand.device}"]
    if demand.shards > 1:
        of.append(f"{(count - 1) // demand.shards} × {demand.shards} on one node each")
    return f"{count} {noun} ({', '.join(of)})" if of else f"{count} {noun}"
