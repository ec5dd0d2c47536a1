"""The example with shapes: what it draws can be uploaded, and its spec trains on that."""

import subprocess
import sys
from pathlib import Path

from tests.engine.datasets import prepared
from workers.problems import registry
from workers.spec import RunSpec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "shapes"


def rendered(path: Path, *, seed: int = 0) -> Path:
    command = [sys.executable, str(EXAMPLE / "render.py"), str(path), "--images", "100", "--seed", str(seed)]
    subprocess.run(command, check=True, timeout=50, capture_output=True)
    return path


def test_the_same_seed_draws_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    one, again = rendered(tmp_path / "1.zip").read_bytes(), rendered(tmp_path / "2.zip").read_bytes()
    assert one == again
    assert one != rendered(tmp_path / "3.zip", seed=1).read_bytes()


def test_what_it_draws_is_a_data_set_that_its_spec_trains_on(tmp_path: Path) -> None:
    info = prepared(rendered(tmp_path / "shapes.zip"), tmp_path / "shapes")
    assert (info["shape"], len(info["classes"]), info["train"], info["test"]) == ([3, 24, 24], 10, 80, 20)
    spec = RunSpec.parse_yaml((EXAMPLE / "spec.yaml").read_text())
    problem = registry.load(spec.problem, tmp_path / "shapes")
    batch = problem.collate(problem.dataset("train").__getitems__(range(8)))  # type: ignore[attr-defined]
    loss, _ = problem.loss(problem.model(), batch)
    assert 1 < loss.item() < 5  # near the ln 10 of guessing


def test_the_bare_loop_trains_on_the_same_file(tmp_path: Path) -> None:
    file = rendered(tmp_path / "shapes.zip")
    command = [sys.executable, str(EXAMPLE / "bare.py"), str(file), "--passes", "1", "--threads", "1"]
    done = subprocess.run(command, check=True, timeout=50, capture_output=True, text=True)
    assert "test accuracy 0." in done.stdout
