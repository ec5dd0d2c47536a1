"""Uploaded data, trained on by real runs; checkpoints that are taken home."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings

from tests.engine.datasets import squares
from tests.runs.conftest import Stack
from trainhub import intake
from trainhub.actions.errors import WrongDataset
from trainhub.bundles import Bundle
from trainhub.models import Dataset, Run, RunState
from workers import checkpoint

pytestmark = pytest.mark.usefixtures("stack")

SPEC: dict[str, Any] = {
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "batch_size": 4,
    "budget": {"updates": 60},
    "evaluation": {"every_passes": 1},
}


def upload(stack: Stack, name: str) -> Dataset:
    """A data set of two classes of small images, as the web process would take it in."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **squares(60))
    return intake.add(
        project=stack.project, owner=stack.owner, name=name, upload=[file.getvalue()], file_name="squares.npz"
    )


def problem(dataset: str) -> dict[str, Any]:
    return {"kind": "images", "dataset": dataset, "model": {"kind": "cnn", "width": 2}, "augment": "flip-crop"}


def test_an_uploaded_file_is_trained_on_and_its_checkpoint_is_a_bundle(stack: Stack) -> None:
    dataset = upload(stack, "squares")
    assert (dataset.kind, dataset.format, dataset.examples) == ("images", "npz", 60)
    run = stack.wait(stack.submit(problem=problem("squares"), **SPEC), RunState.COMPLETED)
    assert run.metrics["accuracy"] > 0.8
    files = bundled(run)
    assert sorted(files) == sorted(["README.txt", "data.json", "load.py", "model.py", weights_name(run)])
    assert b"cnn(channels=3, height=8, width=8, classes=2, filters=2)" in files["load.py"]
    tensors, meta = checkpoint.read(Path(run.artifacts.get(final=True).path))
    assert meta.spec["problem"]["dataset"] == "squares"
    assert "8.weight" in tensors


def test_a_bundle_is_whole_when_its_data_set_is_gone(stack: Stack) -> None:
    dataset = upload(stack, "brief")
    run = stack.wait(stack.submit(problem=problem("brief"), **SPEC), RunState.COMPLETED)
    intake.remove(dataset, by=stack.owner)
    files = bundled(run)
    assert "model.py" in files
    assert json.loads(files["data.json"])["sha256"] == dataset.sha256


def bundled(run: Run) -> dict[str, bytes]:
    artifact = run.artifacts.get(final=True)
    with zipfile.ZipFile(io.BytesIO(b"".join(Bundle.of(artifact).pieces()))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def weights_name(run: Run) -> str:
    return f"a-test-{run.pk}-v{run.version}.safetensors"


def test_a_run_whose_data_are_gone_from_the_node_fails_with_the_cause_data(stack: Stack) -> None:
    dataset = upload(stack, "lost")
    shutil.rmtree(Path(settings.HOME) / dataset.path)
    run = stack.wait(stack.submit(problem=problem("lost"), **SPEC), RunState.FAILED)
    assert run.cause == "data"
    assert "not on this node" in run.detail


def test_an_upload_that_is_no_data_leaves_neither_row_nor_files(stack: Stack) -> None:
    folder = Path(settings.HOME) / "datasets"
    before = set(folder.iterdir()) if folder.exists() else set()
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **squares(10) | {"y": np.full(10, -1)})
    with pytest.raises(WrongDataset, match="holds the label -1"):
        intake.add(project=stack.project, owner=stack.owner, name="no", upload=[file.getvalue()], file_name="n.npz")
    assert not Dataset.objects.filter(name="no").exists()
    assert set(folder.iterdir()) == before


def test_a_bundle_of_a_file_that_is_gone_or_elsewhere_is_none(stack: Stack, tmp_path: Path) -> None:
    run = stack.wait(stack.submit(problem={"kind": "ledger"}, budget={"updates": 5}), RunState.COMPLETED)
    artifact = run.artifacts.get(final=True)
    assert "tensor.shape" in bundled(run)["load.py"].decode()
    elsewhere = tmp_path / "secret"
    elsewhere.write_text("secret")
    for path in (str(elsewhere), artifact.path + ".gone"):
        artifact.path = path
        with pytest.raises(FileNotFoundError):
            Bundle.of(artifact)
