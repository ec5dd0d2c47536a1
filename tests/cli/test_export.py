"""A run as files, and files as data sets."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests import factories
from tests.cli.conftest import Shell
from trainhub.client import Client, Damaged
from trainhub.models import Artifact, Project, Run, RunState
from workers.spec import RunSpec


@pytest.fixture
def trained(alice: User, project: Project) -> Run:
    training = factories.Training(updates=400)
    run, _ = factories.trained_run(owner=alice, within=project, training=training, part=1.0, state=RunState.COMPLETED)
    return run


def newest(run: Run) -> Artifact:
    return run.artifacts.order_by("-version")[0]


def test_a_checkpoint_is_fetched_whole_and_checked(client: Client, trained: Run, home: Path) -> None:
    checkpoint = client.run(trained.pk).checkpoints[0]
    seen: list[tuple[int, int | None]] = []
    file = client.download(trained.pk, checkpoint, home / "w.safetensors", told=lambda *each: seen.append(each))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == newest(trained).sha256
    assert seen[-1] == (checkpoint.size_bytes, checkpoint.size_bytes)


def test_a_damaged_file_is_not_kept(client: Client, trained: Run, home: Path) -> None:
    Path(newest(trained).path).write_bytes(b"x" * 1_130_000)
    with pytest.raises(Damaged, match="did not arrive as it was sent"):
        client.download(trained.pk, client.run(trained.pk).checkpoints[0], home / "w.safetensors")
    assert list(home.glob("*w.safetensors*")) == []


def test_an_export_holds_the_run(shell: Shell, trained: Run, home: Path) -> None:
    said = shell("export", trained.pk, "--out", "kept", "--json")
    assert said.status == 0, said.err
    told = json.loads(said.out)
    folder = home / "kept"
    for name, digest in told["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert newest(trained).sha256 in told["files"].values()
    assert RunSpec.parse_yaml((folder / "spec.yaml").read_text()) == trained.run_spec
    assert json.loads((folder / "run.json").read_text())["id"] == trained.pk
    assert "Training began" in {each["message"] for each in json.loads((folder / "events.json").read_text())}


def test_an_export_has_every_point_that_was_measured(shell: Shell, trained: Run, home: Path) -> None:
    assert shell("export", trained.pk).status == 0
    with (home / f"run-{trained.pk}" / "series.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["key"] == "staleness"]
    assert sorted(int(row["version"]) for row in rows) == list(range(1, trained.version + 1))


def test_an_older_checkpoint_is_exported_on_request(shell: Shell, trained: Run) -> None:
    older = trained.artifacts.order_by("version")[0]
    said = shell("export", trained.pk, "--checkpoint", older.version, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["checkpoint"]["version"] == older.version
    refused = shell("export", trained.pk, "--checkpoint", 3, "--out", "other")
    assert refused.status == 2
    assert "has none of version 3" in refused.err


def test_a_run_without_checkpoints_is_exported_without(shell: Shell, project: Project, home: Path) -> None:
    run = factories.run(owner=factories.person("alice"), within=project)
    said = shell("export", run.pk)
    assert said.status == 0, said.err
    assert "no checkpoint yet" in said.err
    assert {file.name for file in (home / f"run-{run.pk}").iterdir()} == {
        "spec.yaml",
        "run.json",
        "events.json",
        "series.csv",
    }


def test_a_folder_that_is_there_is_left_alone(shell: Shell, trained: Run, home: Path) -> None:
    (home / "kept").mkdir()
    said = shell("export", trained.pk, "--out", "kept")
    assert said.status == 2
    assert "kept is there already" in said.err


def test_an_export_that_fails_leaves_nothing(shell: Shell, trained: Run, home: Path) -> None:
    Path(newest(trained).path).unlink()
    before = set(home.iterdir())
    assert shell("export", trained.pk).status != 0
    assert set(home.iterdir()) == before
