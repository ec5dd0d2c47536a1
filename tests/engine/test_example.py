"""The example package: installed as a user would, then trained."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.harness import Gang
from workers.assignment import SERVER_WORKER, Outcome
from workers.spec import RunSpec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "diabetes"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package into a folder of its own, on the path of this process and of its children."""
    target, source = tmp_path / "site", tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "trainhub_diabetes.py"):  # a build leaves files beside its sources
        (source / name).write_bytes((EXAMPLE / name).read_bytes())
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    subprocess.run(command, check=True, timeout=50)
    monkeypatch.syspath_prepend(str(target))


@pytest.mark.usefixtures("installed")
def test_an_installed_package_is_trained_with_its_own_data_and_metric(tmp_path: Path) -> None:
    spec = RunSpec.parse_yaml((EXAMPLE / "diabetes-async.yaml").read_text())
    with Gang(spec, tmp_path / "run") as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        _, errors = gang.server.series("evaluation/error")[SERVER_WORKER]
    # Always guessing the middle is 65 points off on average.
    assert errors[-1] < 50
