"""Where a gang fits: on one host, else on few that reach each other. Pure: hosts and idle slots in, slots out.

A gang is a parameter server and its trainers. The server takes a CPU slot of a host that shares the service's home,
where checkpoints and gradient logs lie. Trainers take slots of their device's kind; one that is a machine group takes
several, on one host. Hosts are combined only where each of them may be reached by the others.
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
    gpu: str = ""
    """UUID of the GPU it comes with. Empty: it is a CPU's."""


@dataclass(frozen=True)
class Demand:
    """What a run asks of its hosts, besides a number of slots."""

    device: str = CPU
    """Kind of the slots that its trainers take."""
    data: bool = False
    """Whether it trains on an uploaded data set, which lies in the home."""
    hosts: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    shards: int = 1
    """Slots of each trainer, which lie on one host."""

    @classmethod
    def of(cls, spec: RunSpec) -> Demand:
        return cls(
            # A simulation computes in the one slot that it has.
            device=CPU if spec.execution.kind == "simulate" else spec.device,
            data=getattr(spec.problem, "dataset", None) is not None,
            hosts=frozenset(spec.placement.hosts),
            labels=frozenset(spec.placement.labels.items()),
            shards=1 if spec.execution.kind == "simulate" else spec.shards,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Demand:
        """Out of what `as_row` made."""
        hosts, labels, shards = row.get("hosts", ()), row.get("labels", {}), row.get("shards", 1)
        assert isinstance(hosts, Collection)
        assert isinstance(labels, Mapping)
        assert isinstance(shards, int)
        device, data = str(row.get("device", CPU)), bool(row.get("data"))
        return cls(device, data, frozenset(hosts), frozenset(labels.items()), shards)

    def as_row(self) -> dict[str, object]:
        """What differs from what most runs ask: an empty row asks nothing."""
        row: dict[str, object] = {
            "device": "" if self.device == CPU else self.device,
            "data": self.data,
            "hosts": sorted(self.hosts),
            "labels": dict(sorted(self.labels)),
            "shards": self.shards if self.shards > 1 else 0,
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
    """What a host has for one demand: slots for a server, slots for trainers. Pooled ones are the same slots."""

    host: Host
    servers: int
    slots: int
    pooled: bool
    shards: int = 1

    @property
    def trainers(self) -> int:
        """Trainers it holds, where the server is elsewhere."""
        return self.slots // self.shards

    @property
    def beside(self) -> int:
        """Trainers it holds beside the server."""
        return (self.slots - self.pooled) // self.shards

    @property
    def alone(self) -> int:
        """Slots of the largest gang it holds by itself, its server included. 0: it can't have the server."""
        return 1 + self.shards * self.beside if self.servers else 0


def rooms(hosts: Iterable[Host], demand: Demand, counts: Mapping[str, Mapping[str, int]]) -> list[Room]:
    """Rooms of the hosts that the demand allows; `counts` says how many slots of each kind each host has for it."""
    found = []
    for host in hosts:
        if demand.allows(host):
            slots = counts.get(host.name, {})
            servers = slots.get(CPU, 0) if host.shares_home else 0
            found.append(Room(host, servers, slots.get(demand.device, 0), demand.pooled, demand.shards))
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
    """Slots of the largest gang that fits."""
    alone = max((room.alone for room in found), default=0)
    near = [room for room in found if room.host.reachable]
    costs = [room.trainers - room.beside for room in near if room.servers]
    if not costs:
        return alone
    together = 1 + near[0].shards * (sum(room.trainers for room in near) - min(costs))
    return max(alone, together)


def choose(idle: Sequence[Free], hosts: Iterable[Host], demand: Demand, *, least: int, most: int) -> list[Free]:
    """Slots for as large a gang as there is room for: the server's first, then each trainer's by rank. Empty: not even
    `least` fit.

    Of all places for a gang of that size it takes one with the fewest hosts, and of single hosts the tightest.
    """
    found = idle_rooms(hosts, demand, idle)
    size = min(most, largest(found))
    if size < least:
        return []
    by_place: dict[tuple[str, str], list[Free]] = defaultdict(list)
    for slot in idle:
        by_place[slot.node, slot.kind].append(slot)
    by_place.update({place: in_turns(slots) for place, slots in by_place.items()})
    fewest = [room.host.name for room in _fewest(found, size)]
    chosen = [by_place[fewest[0], CPU].pop(0)]
    for name in fewest:
        there = by_place[name, demand.device]
        chosen += there[: len(there) // demand.shards * demand.shards]
    return chosen[:size]


def in_turns(slots: Sequence[Free]) -> list[Free]:
    """Slots of one kind and node in the order in which they are taken: from each GPU in turn, so that a gang has as
    many to itself as there are, and those first that have most idle slots."""
    by_gpu: dict[str, list[Free]] = defaultdict(list)
    for slot in sorted(slots, key=lambda s: s.index):
        by_gpu[slot.gpu].append(slot)
    turns = [(n - len(same), n, slot.index, slot) for same in by_gpu.values() for n, slot in enumerate(same)]
    return [slot for *_, slot in sorted(turns, key=lambda turn: turn[:3])]


def _fewest(found: Sequence[Room], size: int) -> list[Room]:
    """The rooms of a gang of `size`, the server's first. There is room for it."""
    if single := [room for room in found if room.alone >= size]:
        return [min(single, key=lambda r: (r.alone, r.servers, r.host.reachable, r.host.name))]
    near = sorted((room for room in found if room.host.reachable), key=lambda r: (-r.trainers, r.host.name))
    wanted = (size - 1) // near[0].shards
    tried = (_around(first, near, wanted) for first in near if first.servers)
    return min((chosen for chosen in tried if chosen), key=len)


def _around(first: Room, near: Sequence[Room], wanted: int) -> list[Room]:
    """The fewest rooms for so many trainers whose server is in `first`. Empty: they don't fit like that."""
    chosen, left = [first], wanted - first.beside
    others = [room for room in near if room is not first and room.trainers]
    if left > sum(room.trainers for room in others):
        return []
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


def heir(idle: Sequence[Free], hosts: Iterable[Host], demand: Demand, gang: Gang) -> list[Free]:
    """Slots for a trainer that the gang lacks: beside its server, else where the gang is, else on the emptiest host.

    Empty: not enough idle slots of its kind are on one host and within reach.
    """
    near = [room for room in idle_rooms(hosts, demand, idle) if room.trainers and _within_reach(room.host, gang)]
    if not near:
        return []
    best = min(
        near, key=lambda r: (r.host.name != gang.server, r.host.name not in gang.others, -r.trainers, r.host.name)
    )
    mine = [slot for slot in idle if (slot.node, slot.kind) == (best.host.name, demand.device)]
    return in_turns(mine)[: demand.shards]


def _within_reach(host: Host, gang: Gang) -> bool:
    return host.name == gang.server or (gang.open and host.reachable)
