"""`manage.py simulate` and `manage.py replay`, with no service to help them."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

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


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "spec.yaml"
    file.write_text(SPEC)
    return file


def test_a_simulation_tells_its_result_twice_the_same_and_its_log_replays(spec: Path, tmp_path: Path) -> None:
    log = tmp_path / "gradients.log"
    one, two = (json.loads(run("simulate", str(spec), "--json", "--log", str(log))) for _ in range(2))
    assert one == two
    assert (one["outcome"], one["version"], one["totals"]["applied"]) == ("completed", 40, 40)
    assert one["evaluations"][-1]["metrics"]["accuracy"] > 0
    again = json.loads(run("replay", str(log), "--json"))
    assert (again["version"], again["log_hash"], again["complete"]) == (40, one["log_hash"], True)
    listed = run("replay", str(log), "--list").splitlines()
    assert len(listed) == 44  # four trainers join
    assert "applied worker=" in listed[-1]


def test_another_seed_is_another_run(spec: Path) -> None:
    one, two = (json.loads(run("simulate", str(spec), "--json", "--seed", seed)) for seed in "12")
    assert one["weights_hash"] != two["weights_hash"]


def test_it_tells_people_in_words(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("simulate", str(spec))
    told = capsys.readouterr().out
    assert "completed: the budget is spent" in told
    assert "mean staleness" in told


def test_wrong_files_are_refused_in_words(spec: Path, tmp_path: Path) -> None:
    spec.write_text(SPEC.replace("kind: simulate", "kind: live").replace(", slow: [{kind: straggler, factor: 4}]", ""))
    with pytest.raises(CommandError, match="must be simulate to be simulated"):
        run("simulate", str(spec))
    with pytest.raises(CommandError, match="There is no file"):
        run("simulate", str(tmp_path / "none.yaml"))
    with pytest.raises(CommandError, match="is no gradient log"):
        run("replay", str(spec))
