"""Where a gang fits: on one host, else on few that reach each other. Pure: hosts and idle slots in, slots out.

A gang is a parameter server and its trainers. The server takes a CPU slot of a host that shares the service's home,
where checkpoints and gradient logs lie. Trainers take slots of their device's kind. Hosts are combined only where each
of them may be reached by the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from workers.spec import RunSpec

CPU = "cpu"


@dataclass(frozen=True)
class Host:
    """A node that takes new members. `slots`: how many it offers of each kind, busy ones included."""

    name: str
    slots: Mapping[str, int]
    reachable: bool = False
    """Whether members on other hosts may reach those on this one."""
    shares_home: bool = True
    """Whether it sees the files that the pages see."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Free:
    """An idle slot of an online node that takes new members."""

    id: int
    node: str
    kind: str
    index: int


@dataclass(frozen=True)
class Demand:
    """What a run asks of its hosts, besides a number of slots."""

    device: str = CPU
    """Kind of the slots that its trainers take."""
    data: bool = False
    """Whether it trains on an uploaded data set, which lies in the home."""
    hosts: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, spec: RunSpec) -> Demand:
        return cls(
            # A simulation computes in the one slot that it has.
            device=CPU if spec.execution.kind == "simulate" else spec.device,
            data=getattr(spec.problem, "dataset", None) is not None,
            hosts=frozenset(spec.placement.hosts),
            labels=frozenset(spec.placement.labels.items()),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Demand:
        """Out of what `as_row` made."""
        hosts, labels = row.get("hosts", ()), row.get("labels", {})
        assert isinstance(hosts, Collection)
        assert isinstance(labels, Mapping)
        return cls(str(row.get("device", CPU)), bool(row.get("data")), frozenset(hosts), frozenset(labels.items()))

    def as_row(self) -> dict[str, object]:
        """What differs from what most runs ask: an empty row asks nothing."""
        row: dict[str, object] = {
            "device": "" if self.device == CPU else self.device,
            "data": self.data,
            "hosts": sorted(self.hosts),
            "labels": dict(sorted(self.labels)),
        }
        return {name: value for name, value in row.items() if value}

    @property
    def pooled(self) -> bool:
        """Whether server and trainers take slots of one kind."""
        return self.device == CPU

    def allows(self, host: Host) -> bool:
        return self._named(host) and self._labelled(host) and (host.shares_home or not self.data)

    def _named(self, host: Host) -> bool:
        return not self.hosts or host.name in self.hosts

    def _labelled(self, host: Host) -> bool:
        return self.labels <= frozenset(host.labels.items())


@dataclass(frozen=True)
class Room:
    """What a host has for one demand: places for a server, places for trainers. Pooled ones are the same places."""

    host: Host
    servers: int
    trainers: int
    pooled: bool

    @property
    def alone(self) -> int:
        """The largest gang it holds by itself, its server included. 0: it can't have the server."""
        if not self.servers:
            return 0
        return self.trainers if self.pooled else self.trainers + 1


def rooms(hosts: Iterable[Host], demand: Demand, counts: Mapping[str, Mapping[str, int]]) -> list[Room]:
    """Rooms of the hosts that the demand allows; `counts` says how many slots of each kind each host has for it."""
    found = []
    for host in hosts:
        if demand.allows(host):
            slots = counts.get(host.name, {})
            servers = slots.get(CPU, 0) if host.shares_home else 0
            found.append(Room(host, servers, slots.get(demand.device, 0), demand.pooled))
    return found


def offered(hosts: Iterable[Host], demand: Demand) -> list[Room]:
    """Rooms as they would be if nobody else had a slot."""
    hosts = list(hosts)
    return rooms(hosts, demand, {host.name: host.slots for host in hosts})


def idle_rooms(hosts: Iterable[Host], demand: Demand, idle: Sequence[Free]) -> list[Room]:
    """Rooms as they are now."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for slot in idle:
        counts[slot.node][slot.kind] += 1
    return rooms(hosts, demand, counts)


def largest(found: Sequence[Room]) -> int:
    """Members of the largest gang that fits."""
    alone = max((room.alone for room in found), default=0)
    near = [room for room in found if room.host.reachable]
    if not any(room.servers for room in near):
        return alone
    together = sum(room.trainers for room in near) + (0 if near[0].pooled else 1)
    return max(alone, together)


def choose(idle: Sequence[Free], hosts: Iterable[Host], demand: Demand, *, least: int, most: int) -> list[Free]:
    """Slots by rank for as large a gang as there is room for, the server's first. Empty: not even `least` fit.

    Of all places for a gang of that size it takes one with the fewest hosts, and of single hosts the tightest.
    """
    found = idle_rooms(hosts, demand, idle)
    size = min(most, largest(found))
    if size < least:
        return []
    by_place: dict[tuple[str, str], list[Free]] = defaultdict(list)
    for slot in sorted(idle, key=lambda s: s.index):
        by_place[slot.node, slot.kind].append(slot)
    fewest = [room.host.name for room in _fewest(found, size)]
    server = by_place[fewest[0], CPU].pop(0)
    return [server, *(slot for name in fewest for slot in by_place[name, demand.device])][:size]


def _fewest(found: Sequence[Room], size: int) -> list[Room]:
    """The rooms of a gang of `size`, the server's first. There is room for it."""
    if single := [room for room in found if room.alone >= size]:
        return [min(single, key=lambda r: (r.alone, r.servers, r.host.reachable, r.host.name))]
    # A smallest set of hosts exists that has the fullest of those that may serve: put in another's place, it
    # brings no fewer slots.
    near = sorted((room for room in found if room.host.reachable), key=lambda r: (-r.trainers, r.host.name))
    first = next(room for room in near if room.servers)
    chosen, left = [first], size - first.alone
    others = [room for room in near if room is not first]
    while left > 0:
        # The last one is the tightest that holds what is left, so that larger rooms stay for larger gangs.
        enough = [room for room in others if room.trainers >= left]
        following = enough[-1] if enough else others[0]
        others.remove(following)
        chosen.append(following)
        left -= following.trainers
    return chosen


@dataclass(frozen=True)
class Gang:
    """Where a gang's members are. `open`: whether its server may be reached from other hosts."""

    server: str
    open: bool
    others: frozenset[str] = frozenset()


def heir(idle: Sequence[Free], hosts: Iterable[Host], demand: Demand, gang: Gang) -> Free | None:
    """A slot for a trainer that the gang lacks: beside its server, else where the gang is, else on the emptiest host.

    None: no idle slot is of its kind and within reach.
    """
    near = [room for room in idle_rooms(hosts, demand, idle) if room.trainers and _within_reach(room.host, gang)]
    if not near:
        return None
    best = min(
        near, key=lambda r: (r.host.name != gang.server, r.host.name not in gang.others, -r.trainers, r.host.name)
    )
    mine = [slot for slot in idle if (slot.node, slot.kind) == (best.host.name, demand.device)]
    return min(mine, key=lambda s: s.index)


def _within_reach(host: Host, gang: Gang) -> bool:
    return host.name == gang.server or (gang.open and host.reachable)
