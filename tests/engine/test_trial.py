"""Plans: the arithmetic of both layouts by hand, and that what is measured is what is planned."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from trainhub import planning
from trainhub.command import main
from workers.spec import RunSpec
from workers.traffic import Work

WORK = Work(devices=4, images=32, features=10, classes=100, below=1000)


def test_traffic_by_hand() -> None:
    # 2 · 3 · 8 · 10 + 4 · 3 · 8 floats, 3 · 8 labels, 3 losses.
    assert WORK.hybrid_bytes == 4 * (480 + 96 + 24 + 3)
    # 2 · 3/4 of 100 · (10 + 1) floats; of the layers below 3/4.
    assert WORK.data_parallel_bytes == 4 * 1650
    assert WORK.below_bytes == 4 * 750


def test_memory_by_hand() -> None:
    # Twice 1,000 + 25 · 11 parameters, 32 · 10 features, twice 32 · 25 scores.
    assert WORK.hybrid_memory_bytes == 4 * (2 * 1275 + 320 + 1600)
    assert WORK.data_parallel_memory_bytes == 4 * (2 * 2100 + 80 + 1600)


@pytest.mark.parametrize("classes", [30, 36, 37, 38, 44, 1000])
def test_the_inequality_says_what_the_bytes_say(classes: int) -> None:
    work = Work(devices=4, images=32, features=10, classes=classes, below=0)
    assert work.pays == (work.hybrid_bytes < work.data_parallel_bytes)
    assert (classes > work.break_even_classes) == work.pays
    assert ("moves less" in work.inequality) == work.pays
    assert f"{classes:,} classes" in work.inequality


def test_traffic_that_is_measured_is_the_formula_s_and_crosses_near_b_g() -> None:
    points = [planned_point(classes) for classes in (64, 128, 256)]
    for found in points:
        assert found["hybrid"] == found["formula"]
        assert found["single"] == found["its formula"]
    ratios = [f["single"] / f["hybrid"] for f in points]
    assert ratios[0] < 1 < ratios[2]
    assert 0.8 * 128 < between(points) < 1.2 * 128


def planned_point(classes: int) -> dict[str, int]:
    """A point of `benchmarks.hybrid`, measured in a process of its own: trials fork."""
    code = (
        "import json, torch; torch.set_num_threads(1)\n"
        "from benchmarks import hybrid\n"
        "hybrid.TURNS, hybrid.STEPS = 1, 2\n"
        f"p = hybrid.point({classes})\n"
        "print(json.dumps({'classes': p.classes, 'hybrid': p.hybrid_bytes, 'single': p.single_bytes,"
        " 'formula': p.work.hybrid_bytes, 'its formula': p.work.data_parallel_bytes}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def between(points: list[dict[str, int]]) -> float:
    low, high = points[0], points[2]
    ratios = [p["single"] / p["hybrid"] for p in (low, high)]
    share = (1.0 - ratios[0]) / (ratios[1] - ratios[0])
    return low["classes"] + share * (high["classes"] - low["classes"])


def test_the_command_recommends_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "examples/methods/hybrid.yaml", "--no-measuring"]) == 0
    told = capsys.readouterr().out
    assert "A group of 2 devices, 128 images a step; last layer: 64 features, 20,000 classes" in told
    assert "C > B·G: 20,000 classes > 64 · 2 = 128 images, so hybrid moves less" in told
    assert "Recommended: hybrid." in told


def test_the_command_names_the_field_of_a_model_that_can_t_be_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "examples/digits-async.yaml", "--shards", "12", "--no-measuring"]) != 0
    assert "layout.shards: 10 classes can't be cut into 12 slices" in capsys.readouterr().err


def test_a_plan_of_an_unknown_problem_says_so() -> None:
    spec = RunSpec.parse(
        {
            "name": "x",
            "problem": {"kind": "python", "target": "no.such:Thing"},
            "optimizer": {"kind": "sgd", "learning_rate": 1.0},
            "workers": 1,
            "budget": {"updates": 1},
        }
    )
    with pytest.raises(ValueError, match="can't be imported"):
        planning.plan(spec, measured=False)
