"""Whole runs whose trainers are elsewhere, by every way that tensors may travel and with every compression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.harness import Gang, spec_of
from tests.engine.test_replay import final, log_of
from tests.engine.test_sessions_between_hosts import gang_behind_a_line, rejoined
from workers.assignment import Outcome
from workers.server.event_log import Fate
from workers.simulator.replay import replay

WAYS = ("inline", "fabric")
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "bf16": {"kind": "bf16"},
    "top-k": {"kind": "top-k", "share": 0.02},
}
WIDE: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "mlp", "hidden": [256, 256]}},  # 85,000 floats: large enough
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9},
    "workers": 2,
    "budget": {"updates": 30},
    "batch_size": 16,
}


def spec(way: str, compression: str, **changes: Any) -> Any:
    transport = {"between_hosts": way, "compression": COMPRESSIONS[compression]}
    return spec_of(**WIDE | {"transport": transport} | changes)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_between_hosts_ends_in_order_and_comes_out_again_to_the_bit(
    tmp_path: Path, way: str, compression: str
) -> None:
    with Gang(spec(way, compression), tmp_path, transport="tls") as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        told = {str(e.data["transport"]) for e in gang.server.events("joined")}
        log, saved = log_of(gang), final(gang)
        assert gang.leftovers() == []
    assert len(told) == 1
    assert told.pop().startswith("tls" if way == "inline" else "fabric")
    fate = Fate.JOINED if compression == "none" else Fate.JOINED_COMPRESSED
    assert sum(r.fate == fate for r in log.records) == 2
    assert replay(log).differences(saved) == []


@pytest.mark.parametrize("way", WAYS)
def test_on_one_host_nothing_of_it_applies(tmp_path: Path, way: str) -> None:
    with Gang(spec(way, "top-k"), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        log, saved = log_of(gang), final(gang)
    assert sum(r.fate == Fate.JOINED for r in log.records) == 2
    assert replay(log).differences(saved) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_trainer_killed_among_others_costs_nobody_else_anything(tmp_path: Path, way: str) -> None:
    with Gang(spec(way, "none", budget={"updates": 400}), tmp_path, transport="tls") as gang:
        gang.wait_for(lambda: gang.version > 20)
        gang.trainers[1].kill()
        assert gang.server.end() is not None
        assert [e.data["worker"] for e in gang.server.events("left") if not e.data["expected"]] == [1]
        gang.end()
        log, saved = log_of(gang), final(gang)
    assert replay(log).differences(saved) == []


@pytest.mark.parametrize(
    ("way", "compression", "every_bytes"),
    [
        ("inline", "none", 15_000_000),
        ("inline", "top-k", 600_000),
        ("fabric", "none", 12_000),  # the tensors themselves go past the session
        ("fabric", "top-k", 600_000),
    ],
)
def test_lines_that_are_reset_are_opened_anew_with_nothing_carried_over(
    tmp_path: Path, way: str, compression: str, every_bytes: int
) -> None:
    work = spec(way, compression, budget={"updates": 200}, workers=2)
    with gang_behind_a_line(work, tmp_path, lambda link: link.reset_after(every_bytes, times=3)) as (gang, link):
        assert gang.end().version == 200
        assert link.fired["reset"] >= 3
        assert rejoined(gang) >= 3
        log, saved = log_of(gang), final(gang)
    assert replay(log).differences(saved) == []
