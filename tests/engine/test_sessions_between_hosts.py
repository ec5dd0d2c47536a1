"""Lines between hosts that break, and what it costs. Each test makes sure that its fault happened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.engine.harness import Gang, spec_of
from tests.engine.test_replay import BY_THEMSELVES, CNN, final, log_of
from tests.engine.test_runs import counts, final_checkpoint
from tests.faulty_link import FaultyLink
from workers import checkpoint
from workers.assignment import Outcome, Role
from workers.server.event_log import Fate
from workers.simulator.replay import replay
from workers.spec import RunSpec

WIDE = 500_000
"""Floats of a push that takes its time: 2 MB."""
RISING = {"kind": "python", "target": "tests.engine.problems:Rising", "parameters": {"size": WIDE}}
SLOW = {"kind": "ledger", "compute_seconds": 0.002}


@contextmanager
def gang_behind_a_line(
    spec: RunSpec, folder: Path, prepare: Callable[[FaultyLink], None] = lambda _: None
) -> Iterator[tuple[Gang, FaultyLink]]:
    """A run whose trainers reach their server over a line of the test's, prepared before they come."""
    links: list[FaultyLink] = []

    def through(server: tuple[str, int]) -> tuple[str, int]:
        links.append(FaultyLink(server))
        prepare(links[0])
        return links[0].address

    try:
        with Gang(spec, folder, transport="tls", through=through) as gang:
            yield gang, links[0]
    finally:
        for link in links:
            link.close()


def applied_steps(gang: Gang, worker: int) -> list[int]:
    return [r.step for r in log_of(gang).records if r.fate == Fate.APPLIED and r.worker == worker]


def rejoined(gang: Gang) -> int:
    """How often a trainer has come back."""
    joined = gang.server.events("joined")
    return len(joined) - len({e.data["member"] for e in joined})


def wait_until(link: FaultyLink, up_bytes: int, deadline_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + deadline_seconds
    while link.up_bytes < up_bytes:
        assert time.monotonic() < deadline, f"{link.up_bytes} of {up_bytes} bytes came"
        time.sleep(0.002)


def test_a_trainer_killed_in_the_middle_of_a_push_leaves_nothing_of_it(tmp_path: Path) -> None:
    size = 12_000_000  # Half of a push has to be more than what lies in buffers on its way: that arrives.
    problem = RISING | {"parameters": {"size": size}}
    with gang_behind_a_line(spec_of(problem=problem, budget={"updates": 5}), tmp_path) as (gang, link):
        link.bytes_per_second = 2e8
        for kill in range(2):
            gang.wait_for(lambda: len(gang.server.events("left")) == kill)  # noqa: B023
            began = link.up_bytes  # nothing of the one before is on its way any more
            if kill:
                gang.trainers[0] = gang.start(Role.TRAINER, 0)
            wait_until(link, began + 6 * size)
            gang.trainers[0].kill()
            gang.wait_for(lambda: len(gang.server.events("left")) == kill + 1)  # noqa: B023
            assert 6 * size <= link.up_bytes - began < 8 * size, "the kill has to cut the second push short"
        gang.start(Role.TRAINER, 0)
        assert gang.end().outcome is Outcome.COMPLETED
        # One push of each that was killed, and three of the last: 1 + 1 + (1 + 2 + 3), everywhere.
        heights = checkpoint.read(final(gang))[0]["heights"]
        assert torch.equal(heights, torch.full((size,), 8.0))


def test_a_line_reset_again_and_again_costs_no_gradient_and_doubles_none(tmp_path: Path) -> None:
    chance = random.Random(2)
    work = spec_of(problem=SLOW, workers=3, budget={"updates": 1500})
    with gang_behind_a_line(work, tmp_path) as (gang, link):
        gang.wait_for(lambda: gang.version > 0)
        while gang.server.alive and gang.version < 1000:
            time.sleep(chance.uniform(0.0, 0.1))
            link.reset()
        assert gang.end().version == 1500
        assert [m.end().outcome for m in gang.trainers] == [Outcome.COMPLETED] * 3  # type: ignore[union-attr]
        held = counts(final_checkpoint(gang).data["path"])
        assert sum(held) == 1500
        for worker in range(3):
            assert applied_steps(gang, worker) == list(range(held[worker]))
        assert link.fired["reset"] >= 10
        assert rejoined(gang) >= 10
        assert len({m.process.pid for m in gang.trainers}) == 3


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_push_lost_on_its_way_is_made_again_and_one_whose_answer_is_lost_is_not(tmp_path: Path, way: str) -> None:
    work = spec_of(problem=RISING, budget={"updates": 12})
    half_way = 4 * WIDE * 5 // 2  # of the third push, or of the third weights

    def prepare(link: FaultyLink) -> None:
        link.reset_after(half_way, up=way == "up")

    with gang_behind_a_line(work, tmp_path, prepare) as (gang, link):
        assert gang.end().version == 12
        records = [r for r in log_of(gang).records if r.fate == Fate.APPLIED]
        assert [r.step for r in records] == list(range(12))
        assert (link.fired["reset"], rejoined(gang)) == (1, 1)
        heights = checkpoint.read(final(gang))[0]["heights"]
        assert torch.equal(heights, heights[0].expand(WIDE))
        # Made again, a gradient is its trainer's next: the numbers 1 to 13 without the one that was lost.
        assert (heights[0] == sum(range(1, 13))) == (way == "down")


def test_a_line_cut_for_longer_than_anyone_waits_is_found_again(tmp_path: Path) -> None:
    work = spec_of(problem=SLOW, workers=2, budget={"updates": 600})
    with gang_behind_a_line(work, tmp_path) as (gang, link):
        gang.wait_for(lambda: gang.version > 20)
        link.cut()
        time.sleep(8.0)
        stuck = gang.version
        time.sleep(0.5)
        assert gang.version == stuck
        link.restore()
        assert gang.end().version == 600
        assert link.fired["hole"] > 0
        assert rejoined(gang) == 2
        assert sum(counts(final_checkpoint(gang).data["path"])) == 600


@pytest.mark.parametrize("kind", ["candidate", "easgd", "diloco"])
def test_trainers_that_step_by_themselves_begin_anew_and_the_run_comes_out_again(tmp_path: Path, kind: str) -> None:
    changes = {"rate": {"kind": "constant"}, "workers": 2, "budget": {"updates": 40}}
    work = spec_of(**CNN | changes | BY_THEMSELVES[kind])
    with gang_behind_a_line(work, tmp_path, lambda link: link.reset_after(300_000, times=3)) as (gang, link):
        assert gang.end().version == 40
        assert link.fired["reset"] >= 3
        assert rejoined(gang) >= 3
        log, saved = log_of(gang), final(gang)
    assert replay(log).differences(saved) == []


def test_a_run_whose_lines_broke_comes_out_again_to_the_bit(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"workers": 3, "budget": {"updates": 120}, "batch_norm": {"kind": "server"}}
    work = spec_of(**CNN | changes | {"rate": {"kind": "window"}})
    with gang_behind_a_line(work, tmp_path, lambda link: link.reset_after(800_000, times=4)) as (gang, link):
        gang.end()
        assert link.fired["reset"] >= 4
        log, saved = log_of(gang), final(gang)
    assert len([r for r in log.records if r.fate == Fate.LOST]) >= 4
    assert replay(log).differences(saved) == []


def test_a_far_and_narrow_line_is_slow_and_nothing_else(tmp_path: Path) -> None:
    work = spec_of(problem=RISING, budget={"updates": 1})
    with gang_behind_a_line(work, tmp_path) as (gang, link):
        link.delay_seconds, link.bytes_per_second = 0.02, 3.5e5  # a push takes longer than a silence may
        assert gang.end().version == 1
        assert min(link.fired["delay"], link.fired["rate"]) > 0
        assert rejoined(gang) == 0


def test_a_killed_server_is_looked_for_and_a_stop_ends_that(tmp_path: Path) -> None:
    with Gang(spec_of(problem=SLOW, budget={"updates": 10**6}), tmp_path, transport="tls") as gang:
        gang.wait_for(lambda: gang.version > 0)
        gang.server.kill()
        time.sleep(1.0)
        assert gang.trainers[0].alive
        gang.trainers[0].ask_to_stop()
        word = gang.trainers[0].end(5.0)
        assert word is not None
        assert word.outcome is Outcome.STOPPED


def test_a_run_opens_no_port_but_the_one_it_was_given(tmp_path: Path) -> None:
    for transport, ports in (("shared memory", 0), ("tls", 1)):
        work = spec_of(problem=SLOW, budget={"updates": 10**6})
        with Gang(work, tmp_path / transport, transport=transport) as gang:  # type: ignore[arg-type]
            gang.wait_for(lambda: gang.version > 0)
            listening = [
                c.laddr
                for m in gang.all
                for c in psutil.Process(m.process.pid).net_connections("inet")
                if c.status == psutil.CONN_LISTEN
            ]
            assert len(listening) == ports
            assert all(tuple(address) == gang.address for address in listening)
            joined = gang.server.events("joined")[0].data
            assert (joined["transport"], bool(joined["peer"])) == (transport, bool(ports))
