"""Where a gang goes: by hand, and against every possible choice of hosts on small cases."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control.conftest import spec
from trainhub.scheduling import APART, Waiting, obstacle, plan
from trainhub.topology import CPU, Demand, Free, Gang, Host, choose, heir, in_turns

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
ANY = Demand()
CUDA = Demand(device="cuda")


def host(name: str, cpu: int, cuda: int = 0, **more: Any) -> Host:
    return Host(name, {"cpu": cpu, "cuda": cuda}, **more)


def near(name: str, cpu: int, cuda: int = 0, **more: Any) -> Host:
    return host(name, cpu, cuda, reachable=True, **more)


def all_idle(hosts: Sequence[Host]) -> list[Free]:
    places = [(h.name, kind, index) for h in hosts for kind, count in h.slots.items() for index in range(count)]
    return [Free(number, *place) for number, place in enumerate(places)]


def names(chosen: Sequence[Free]) -> list[str]:
    return [slot.node for slot in chosen]


def pick(hosts: Sequence[Host], least: int, most: int | None = None, demand: Demand = ANY) -> list[Free]:
    return choose(all_idle(hosts), hosts, demand, least=least, most=most or least)


def reason(hosts: Sequence[Host], least: int, idle: Sequence[Free] | None = None, demand: Demand = ANY) -> str:
    run = Waiting(1, least, least, 0, NOW, demand)
    free = all_idle(hosts) if idle is None else idle
    return plan([run], free, hosts, now=NOW).reasons.get(1, "")


def test_a_gang_stays_on_the_tightest_host_that_holds_it() -> None:
    assert names(pick([near("big", 8), near("small", 3), near("tiny", 2)], 3)) == ["small"] * 3


def test_of_two_that_are_as_tight_the_one_that_can_not_be_combined_is_taken() -> None:
    assert names(pick([near("a", 3), host("b", 3)], 3)) == ["b"] * 3


def test_a_gang_too_large_for_one_host_takes_few_the_fullest_first() -> None:
    assert names(pick([near("a", 2), near("b", 4), near("c", 3)], 6)) == ["b"] * 4 + ["a"] * 2


def test_a_host_without_an_address_is_never_combined() -> None:
    assert pick([near("a", 3), host("b", 3)], 5) == []
    assert names(pick([near("a", 3), host("b", 9), near("c", 3)], 9)) == ["b"] * 9


def test_an_elastic_gang_takes_all_it_can_have() -> None:
    assert len(pick([near("a", 4)], 2, 9)) == 4
    assert len(pick([near("a", 4), near("b", 2), host("c", 5)], 2, 9)) == 6


def test_the_server_goes_where_the_home_is_shared() -> None:
    away = near("away", 8, shares_home=False)
    assert names(pick([away, near("home", 1)], 4)) == ["home", "away", "away", "away"]
    assert pick([away], 2) == []


def test_a_run_on_an_uploaded_data_set_keeps_to_hosts_that_share_the_home() -> None:
    hosts = [near("away", 8, shares_home=False), near("home", 2)]
    assert pick(hosts, 3, demand=Demand(data=True)) == []
    assert len(pick(hosts, 2, demand=Demand(data=True))) == 2


def test_trainers_on_gpus_and_their_server_on_a_cpu_of_the_same_host() -> None:
    chosen = pick([near("a", 8), near("b", 1, 3)], 4, demand=CUDA)
    assert [(s.node, s.kind) for s in chosen] == [("b", "cpu")] + [("b", "cuda")] * 3


def test_a_server_of_gpu_trainers_may_be_elsewhere_if_need_be() -> None:
    chosen = pick([near("a", 8), near("b", 0, 3)], 4, demand=CUDA)
    assert [(s.node, s.kind) for s in chosen] == [("a", "cpu")] + [("b", "cuda")] * 3


def test_a_run_on_cpus_never_takes_a_gpu() -> None:
    assert pick([host("a", 2, 2)], 3) == []


def test_hosts_and_labels_restrict() -> None:
    hosts = [near("a", 4, labels={"gpu": "h200"}), near("b", 4, labels={"gpu": "a100"}), near("c", 4)]
    assert set(names(pick(hosts, 3, demand=Demand(hosts=frozenset({"c"}))))) == {"c"}
    assert set(names(pick(hosts, 3, demand=Demand(labels=frozenset({("gpu", "a100")}))))) == {"b"}
    assert pick(hosts, 5, demand=Demand(labels=frozenset({("gpu", "a100")}))) == []


H200 = Demand(labels=frozenset({("gpu", "h200")}))


@pytest.mark.parametrize(
    ("hosts", "least", "demand", "told"),
    [
        ([], 3, ANY, "needs 3 slots, but all nodes together have 0"),
        ([near("a", 2), near("b", 2)], 5, ANY, "needs 5 slots, but all nodes together have 4"),
        ([host("a", 3), host("b", 3)], 5, ANY,
         f"needs 5 slots on one host, the largest has 3; {APART}"),
        ([near("a", 2), near("b", 2), host("c", 3)], 5, ANY,
         f"needs 5 slots on one host or on hosts that reach each other, which have 4 at most; {APART}"),
        ([near("a", 9)], 2, H200, "no node has the labels gpu=h200"),
        ([near("a", 9)], 2, Demand(hosts=frozenset({"a"}), labels=H200.labels),
         "none of its nodes has the labels gpu=h200"),
        ([near("a", 9), near("b", 2)], 3, Demand(hosts=frozenset({"b"})),
         "needs 3 slots, but the nodes it may run on together have 2"),
        ([near("a", 9)], 2, Demand(hosts=frozenset("zyxw")),
         "none of the nodes it may run on takes members now: w, x, y and 1 more"),
        ([near("a", 9)], 2, CUDA, "needs cuda slots, and no node it may run on has one"),
        ([near("a", 9, 2)], 4, CUDA, "needs 4 slots (3 cuda), but all nodes together have 3"),
        ([near("a", 9, shares_home=False)], 2, ANY,
         "its server needs a CPU slot on a node that shares this service's TRAINHUB_HOME, and none does"),
        ([near("a", 9, shares_home=False)], 2, Demand(data=True),
         "its data set lies in this service's TRAINHUB_HOME, and no node it may run on shares that"),
    ],
)  # fmt: skip
def test_what_can_never_fit_is_told_why(hosts: list[Host], least: int, demand: Demand, told: str) -> None:
    assert reason(hosts, least, demand=demand) == told


def test_a_run_that_fits_when_others_end_is_told_what_is_idle() -> None:
    hosts = [host("a", 5), host("b", 5)]
    assert reason(hosts, 5, all_idle([host("a", 2), host("b", 2)])) == "needs 5 slots, 4 idle"
    assert reason(hosts, 5, all_idle([host("a", 3), host("b", 3)])) == (
        "needs 5 slots on one host, the fullest has 3 idle; nodes without TRAINHUB_INTERFACE can't be combined"
    )
    busy = [near("a", 1), near("b", 4, shares_home=False)]
    assert reason(busy, 3, all_idle(busy[1:])) == "needs 3 slots, and none is idle for its server"


def test_slots_are_kept_only_where_the_head_of_the_queue_may_go() -> None:
    hosts = [near("a", 4), near("b", 4)]
    idle = all_idle([near("a", 2), near("b", 2)])
    head = Waiting(1, 4, 4, 0, NOW - dt.timedelta(seconds=99), Demand(hosts=frozenset({"a"})))
    small = Waiting(2, 2, 2, 0, NOW)
    result = plan([head, small], idle, hosts, now=NOW)
    assert names(result.admitted[2]) == ["b", "b"]


def test_a_demand_comes_back_from_its_row_and_an_ordinary_one_is_empty() -> None:
    placed = Demand.of(spec(placement={"hosts": ["b", "a"], "labels": {"gpu": "h200"}}))
    assert placed.as_row() == {"hosts": ["a", "b"], "labels": {"gpu": "h200"}}
    assert Demand.from_row(placed.as_row()) == placed
    assert Demand.of(spec()).as_row() == {}
    images = {"kind": "images", "dataset": "shapes"}
    assert Demand.of(spec(problem=images)).as_row() == {"data": True}


def test_an_heir_comes_beside_the_server_then_where_the_gang_is_then_to_the_emptiest() -> None:
    hosts = [near("a", 2), near("b", 2), near("c", 4), host("d", 9)]
    gang = Gang("a", open=True, others=frozenset({"a", "b"}))

    def where(gang: Gang, *free: str) -> str | None:
        found = heir([s for s in all_idle(hosts) if s.node in free], hosts, ANY, gang)
        return found[0].node if found else None

    assert where(gang, "a", "b", "c", "d") == "a"
    assert where(gang, "b", "c", "d") == "b"
    assert where(gang, "c", "d") == "c"
    assert where(gang, "d") is None, "it can't be reached"
    assert where(Gang("a", open=False), "b", "c", "d") is None, "the server opened no port"
    assert where(Gang("d", open=False), "a", "d") == "d"


def test_an_heir_takes_a_slot_of_its_kind() -> None:
    hosts = [near("a", 2, 1), near("b", 0, 2)]
    on_cpus = [s for s in all_idle(hosts) if (s.node, s.kind) != ("a", "cuda")]
    found = heir(on_cpus, hosts, CUDA, Gang("a", open=True))
    assert [(s.node, s.kind) for s in found] == [("b", "cuda")]
    assert heir([s for s in on_cpus if s.kind == CPU], hosts, CUDA, Gang("a", open=True)) == []


def test_gpus_are_taken_in_turns_and_those_first_that_have_most_idle_slots() -> None:
    slots = [Free(n, "a", "cuda", n, gpu) for n, gpu in enumerate(("A", "A", "B", "B", "C"))]
    assert [s.index for s in in_turns(slots)] == [0, 2, 4, 1, 3]
    assert [s.index for s in in_turns([Free(n, "a", CPU, n) for n in (2, 0, 1)])] == [0, 1, 2]


PAIRS = Demand(shards=2)


def test_a_machine_group_is_placed_whole_on_one_host() -> None:
    # Four slots and three: a server and a pair here, a pair there; what is odd stays idle.
    chosen = pick([near("a", 4), near("b", 3)], 5, demand=PAIRS)
    assert names(chosen) == ["a", "a", "a", "b", "b"]
    assert pick([near("a", 2), near("b", 2)], 5, demand=PAIRS) == []
    assert names(pick([near("a", 2), near("b", 2), near("c", 1)], 5, demand=PAIRS)) == ["c", "a", "a", "b", "b"]


def test_a_machine_group_that_fits_nowhere_says_what_it_needs() -> None:
    assert reason([near("a", 2), near("b", 1)], 5, demand=PAIRS) == (
        "needs 5 slots (2 × 2 on one node each), but all nodes together have 3"
    )
    scattered = [near("a", 1), near("b", 2), near("c", 1), near("d", 1)]
    assert reason(scattered, 5, demand=PAIRS) == (
        "needs 5 slots (2 × 2 on one node each) on nodes where 3 at most make whole groups and a server"
    )


def test_the_heir_of_a_machine_group_is_whole_too() -> None:
    hosts = [near("a", 1), near("b", 3)]
    found = heir(all_idle(hosts), hosts, PAIRS, Gang("a", open=True))
    assert [(s.node, s.index) for s in found] == [("b", 0), ("b", 1)]
    assert heir(all_idle(hosts), hosts, Demand(shards=4), Gang("a", open=True)) == []


def test_the_demand_of_machine_groups_comes_back_from_its_row() -> None:
    demand = Demand.of(spec(layout={"kind": "hybrid", "shards": 2}))
    assert demand.as_row() == {"shards": 2}
    assert Demand.from_row(demand.as_row()) == demand


# ---------------------------------------------------------------- against every choice there is


machines = st.builds(
    lambda cpu, cuda, reachable, shares_home, labelled: (cpu, cuda, reachable, shares_home, labelled),
    st.integers(0, 4),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
clusters = st.lists(machines, max_size=5).map(
    lambda found: [
        Host(f"h{i}", {"cpu": cpu, "cuda": cuda}, reach, home, {"gpu": "h200"} if labelled else {})
        for i, (cpu, cuda, reach, home, labelled) in enumerate(found)
    ]
)
demands = st.builds(
    Demand,
    device=st.sampled_from(["cpu", "cuda"]),
    data=st.booleans(),
    hosts=st.sampled_from([frozenset(), frozenset({"h0", "h2", "h3"})]),
    labels=st.sampled_from([frozenset(), H200.labels]),
    shards=st.integers(1, 3),
)


def sizes(hosts: Sequence[Host], demand: Demand) -> Iterator[tuple[int, int]]:
    """(slots, hosts) of the largest gang on every set of hosts that is allowed at all, whoever has the server."""
    for count in range(1, len(hosts) + 1):
        for group in combinations([h for h in hosts if demand.allows(h)], count):
            if count > 1 and not all(h.reachable for h in group):
                continue
            for server in group:
                if server.shares_home and server.slots["cpu"]:
                    left = {h.name: h.slots[demand.device] - (h is server and demand.device == "cpu") for h in group}
                    yield 1 + demand.shards * sum(n // demand.shards for n in left.values()), count


@given(hosts=clusters, demand=demands, trainers=st.integers(1, 5), more=st.integers(0, 6))
def test_no_choice_of_hosts_holds_a_larger_gang_or_holds_it_on_fewer(
    hosts: list[Host], demand: Demand, trainers: int, more: int
) -> None:
    least, most = 1 + demand.shards * trainers, 1 + demand.shards * (trainers + more)
    best = min(most, max((size for size, _ in sizes(hosts, demand)), default=0))
    chosen = pick(hosts, least, most, demand)
    assert bool(obstacle(Waiting(1, least, most, 0, NOW, demand), hosts)) == (best < least)
    if best < least:
        assert chosen == []
        return
    assert len(chosen) == best
    used = {h.name: h for h in hosts if h.name in names(chosen)}
    assert len(used) == min(count for size, count in sizes(hosts, demand) if size >= best)
    assert len({slot.id for slot in chosen}) == len(chosen)
    assert all(demand.allows(h) for h in used.values())
    assert len(used) == 1 or all(h.reachable for h in used.values())
    assert used[chosen[0].node].shares_home
    assert chosen[0].kind == "cpu"
    assert {slot.kind for slot in chosen[1:]} <= {demand.device}
    groups = [chosen[start : start + demand.shards] for start in range(1, len(chosen), demand.shards)]
    assert all(len({slot.node for slot in group}) == 1 for group in groups)
