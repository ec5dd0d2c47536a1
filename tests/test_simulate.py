"""`trainhub simulate` and `trainhub replay`, with no service to help them."""

import json
from pathlib import Path

import pytest

from trainhub.command import main

SPEC = """\
version: 1
name: Simulated
problem: {kind: digits, model: {kind: mlp, hidden: [16]}}
optimizer: {kind: sgd, learning_rate: 0.05}
workers: 4
batch_size: 16
budget: {updates: 40}
execution: {kind: simulate, slow: [{kind: straggler, factor: 4}]}
"""

Capture = pytest.CaptureFixture[str]


def run(told: Capture, *words: object) -> str:
    assert main([str(word) for word in words]) == 0, told.readouterr().err
    return told.readouterr().out


def refusal(told: Capture, *words: object) -> str:
    assert main([str(word) for word in words]) == 1
    return told.readouterr().err


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC)
    return file


def test_a_simulation_tells_its_result_twice_the_same_and_its_log_replays(
    spec: Path, tmp_path: Path, capsys: Capture
) -> None:
    log = tmp_path / "gradients.log"
    one, two = (json.loads(run(capsys, "simulate", spec, "--json", "--log", log)) for _ in range(2))
    assert one == two
    assert (one["outcome"], one["version"], one["totals"]["applied"]) == ("completed", 40, 40)
    assert one["evaluations"][-1]["metrics"]["accuracy"] > 0
    again = json.loads(run(capsys, "replay", log, "--json"))
    assert (again["version"], again["log_hash"], again["complete"]) == (40, one["log_hash"], True)
    listed = run(capsys, "replay", log, "--list").splitlines()
    assert len(listed) == 44  # four trainers join
    assert "applied worker=" in listed[-1]


def test_another_seed_is_another_run(spec: Path, capsys: Capture) -> None:
    one, two = (json.loads(run(capsys, "simulate", spec, "--json", "--seed", seed)) for seed in "12")
    assert one["weights_hash"] != two["weights_hash"]


def test_it_tells_people_in_words(spec: Path, capsys: Capture) -> None:
    told = run(capsys, "simulate", spec)
    assert "completed: the budget is spent" in told
    assert "mean staleness" in told


def test_wrong_files_are_refused_in_words(spec: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "is no gradient log" in refusal(capsys, "replay", spec)
    assert "There is no file" in refusal(capsys, "simulate", tmp_path / "none.yaml")
    spec.write_text(SPEC.replace("kind: simulate", "kind: live").replace(", slow: [{kind: straggler, factor: 4}]", ""))
    assert "must be simulate to be simulated" in refusal(capsys, "simulate", spec)


def test_a_seed_that_no_spec_may_have_is_refused(spec: Path, capsys: Capture) -> None:
    assert "seed: " in refusal(capsys, "simulate", spec, "--seed", "-1")


def test_an_unknown_command_is_told_what_there_is(capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["simulat"])
    assert "simulate" in capsys.readouterr().err
