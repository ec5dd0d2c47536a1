"""Whole runs whose server walks by a compiled kernel, and takes in together what waits."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.harness import Gang, spec_of
from workers import checkpoint, events
from workers.kernels import choosing, compiling
from workers.server import event_log, setup
from workers.server.event_log import FILE_NAME
from workers.server.passes import EAGER
from workers.simulator.replay import Refused, replay
from workers.spec import RunSpec

CNN: dict[str, Any] = {
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
    "batch_size": 32,
}
COMPILES = pytest.mark.skipif(compiling.compiler() is None, reason="no C++ compiler on the PATH")


def compiled(spec: RunSpec, folder: Path) -> str:
    """Have this run's kernel ready before its server starts; returns its name."""
    text = choosing.text(setup.build(spec).core)
    assert text is not None
    path = compiling.build(text, folder)
    assert path is not None
    return path.stem


def log_of(gang: Gang) -> event_log.Log:
    return event_log.read(gang.server.work_dir / FILE_NAME)


def final(gang: Gang) -> Path:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return Path(event.data["path"])


@COMPILES
@pytest.mark.parametrize(
    "changes",
    [
        {"compensation": {"kind": "gap-aware"}, "optimizer": {"kind": "sgd", "learning_rate": 0.02}},
        {"optimizer": {"kind": "adamw", "learning_rate": 0.01}, "gate": {"kind": "softsync", "c": 2}},
        {"compensation": {"kind": "dana-zero"}, "optimizer": {"kind": "sgd", "learning_rate": 0.02}},
    ],
    ids=["gap-aware", "adamw-in-groups", "dana-zero"],
)
def test_a_run_on_a_compiled_kernel_comes_out_again_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    spec = spec_of(**CNN | {"workers": 3, "budget": {"updates": 60}} | changes)
    name = compiled(spec, tmp_path / "kernels")
    with Gang(spec, tmp_path, kernels=str(tmp_path / "kernels")) as gang:
        gang.end()
        log, saved = log_of(gang), final(gang)
    assert log.header.kernel == name
    again = replay(log)
    assert again.version == 60
    assert again.hash == log.hash
    assert again.differences(saved) == []
    # Tensor code rounds otherwise: it was the kernel that came to these bits.
    assert replay(replace(log, header=replace(log.header, kernel=EAGER))).differences(saved)


@COMPILES
def test_a_replay_refuses_a_kernel_that_this_machine_does_not_make(tmp_path: Path) -> None:
    with Gang(spec_of(budget={"updates": 3}), tmp_path) as gang:
        gang.end()
        log = log_of(gang)
    assert log.header.kernel == EAGER
    with pytest.raises(Refused, match="compiled kernel cpp-other"):
        replay(replace(log, header=replace(log.header, kernel="cpp-other")))


@COMPILES
def test_the_first_server_has_the_kernel_made_and_the_next_one_uses_it(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    with Gang(spec_of(budget={"updates": 3}), tmp_path, kernels=str(folder)) as gang:
        gang.end()
        [told] = gang.server.events("kernel")
        assert "being made" in told.message
        assert log_of(gang).header.kernel == EAGER
    deadline = time.monotonic() + 30
    while not list(folder.glob("*.so")):
        assert time.monotonic() < deadline, "the kernel was not made"
        time.sleep(0.05)
    with Gang(spec_of(budget={"updates": 3}), tmp_path, kernels=str(folder), run=2) as gang:
        gang.end()
        [told] = gang.server.events("kernel")
        assert "one compiled loop" in told.message
        assert log_of(gang).header.kernel != EAGER


def test_a_damaged_kernel_is_thrown_away_and_the_run_goes_on(tmp_path: Path) -> None:
    spec, folder = spec_of(budget={"updates": 3}), tmp_path / "kernels"
    text = choosing.text(setup.build(spec).core)
    assert text is not None
    folder.mkdir()
    damaged = folder / f"{compiling.name_of(text)}.so"
    damaged.write_bytes(b"no program")
    with Gang(spec, tmp_path, kernels=str(folder)) as gang:
        assert gang.end().version == 3
        [told] = gang.server.events("kernel")
    assert "damaged" in told.message or compiling.compiler() is None
    assert not damaged.exists() or compiling.compiler() is None


def test_a_folder_that_cannot_be_used_costs_the_kernel_and_not_the_run(tmp_path: Path) -> None:
    in_the_way = tmp_path / "kernels"
    in_the_way.write_text("a file where a folder should be")
    with Gang(spec_of(budget={"updates": 3}), tmp_path, kernels=str(in_the_way)) as gang:
        assert gang.end().version == 3
        [told] = gang.server.events("kernel")
        assert log_of(gang).header.kernel == EAGER
    assert "can't be used" in told.message or compiling.compiler() is None


def test_gradients_that_wait_are_taken_in_together_and_each_counts_once(tmp_path: Path) -> None:
    # A walk over a million coordinates takes longer than a ledger's gradient, so that pushes queue up behind it.
    spec = spec_of(problem={"kind": "ledger", "coordinates": 1_000_000}, workers=6, budget={"updates": 240})
    with Gang(spec, tmp_path) as gang:
        assert gang.end().version == 240
        skips = gang.server.series(events.SKIP)
        staleness = gang.server.series(events.STALENESS)
        log, saved = log_of(gang), final(gang)
    assert sum(int((y > 0).sum()) for _, y in skips.values()) > 20, "hardly anything was taken in together"
    counts = checkpoint.read(saved)[0]["counts"][:6]
    assert [int(n) for n in counts] == [len(staleness[w][0]) for w in range(6)]
    assert int(counts.sum()) == 240
    versions = np.sort(np.concatenate([x for x, _ in staleness.values()]))
    assert versions.tolist() == list(range(1, 241))
    # Conserved in integers, with what was skipped.
    read = {w: int(x[-1] + skips[w][1][-1]) for w, (x, _) in staleness.items()}
    total = sum(int((staleness[w][1] + 1 + skips[w][1]).sum()) for w in staleness)
    assert total + sum(240 - v for v in read.values()) == 6 * 240
    assert replay(log).differences(saved) == []
