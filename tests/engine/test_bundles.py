"""A downloaded checkpoint loads where there is no TrainHub, and computes the same."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.datasets import images_folder, read_info, table_folder, text_folder
from tests.engine.harness import spec_of
from trainhub import bundles
from trainhub.bundles import Bundle
from workers import checkpoint
from workers.checkpoint import Meta
from workers.problems import registry
from workers.server.checkpoints import Snapshot
from workers.simulator import files
from workers.simulator.replay import threads
from workers.spec import RunSpec

FOLDERS: dict[str, Callable[[Path], Path]] = {"images": images_folder, "table": table_folder, "text": text_folder}
SMALL = {"kind": "transformer", "layers": 2, "heads": 2, "width": 8, "context": 8}
PROBLEMS = [
    ("digits", {"kind": "cnn", "width": 2}),
    ("digits", {"kind": "mlp", "hidden": [4], "batch_norm": True}),
    ("images", {"kind": "mlp", "hidden": [4]}),
    ("images", {"kind": "cnn", "width": 2}),
    ("images", {"kind": "resnet20"}),
    ("images", {"kind": "resnet18"}),
    ("table", {"kind": "mlp", "hidden": [4]}),
    ("text", SMALL),
]


def trained(problem: dict[str, Any], data: Path | None, folder: Path) -> tuple[RunSpec, Path]:
    """A few updates of a simulated run, and the checkpoint they end with."""
    wanted = spec_of(
        problem=problem,
        optimizer={"kind": "sgd", "learning_rate": 0.1},
        batch_size=4,
        budget={"updates": 3},
        execution={"kind": "simulate"},
    )
    with files.simulation(wanted, None, data=data) as simulation:
        simulation.run()
        clocks, snapshot = simulation.core.clocks, Snapshot(simulation.run_parts)
        snapshot.take()
        meta = Meta(
            1, 1, 1, clocks.version, clocks.gradients, 0, [], [], 0, clocks.statistics, 3, 0.0, {}, wanted.model_dump()
        )
        return wanted, checkpoint.write(folder, snapshot.tensors(clocks.statistics), meta).path


def bundle_of(wanted: RunSpec, path: Path, data: Path | None) -> Bundle:
    info = read_info(data) if data else None
    return Bundle(
        path, "run.safetensors", bundles.texts_of(wanted.problem, info, file="run.safetensors", about="a run")
    )


def unpacked(bundle: Bundle, folder: Path) -> Path:
    (folder.parent / "bundle.zip").write_bytes(b"".join(bundle.pieces()))
    with zipfile.ZipFile(folder.parent / "bundle.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


ALONE = """
import runpy, sys
for name in ("workers", "trainhub", "django", "numpy"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, ".")
import torch
torch.set_num_threads(1)
loaded = runpy.run_path("load.py")
torch.save(loaded["model"](torch.load("input.pt")), "output.pt")
"""


def alone(folder: Path, given: Tensor) -> tuple[Tensor, str]:
    """What load.py's model makes of `given` in a process that has torch and safetensors, and what it printed."""
    torch.save(given, folder / "input.pt")
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE], cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "output.pt"), done.stdout


@pytest.mark.parametrize(
    ("kind", "model"), PROBLEMS, ids=lambda value: value if isinstance(value, str) else value["kind"]
)
def test_a_bundle_loads_without_trainhub_and_computes_the_same_to_the_bit(
    tmp_path: Path, kind: str, model: dict[str, Any]
) -> None:
    data = FOLDERS[kind](tmp_path) if kind in FOLDERS else None
    problem = {"kind": kind, "model": model} | ({"dataset": "d"} if data else {})
    wanted, path = trained(problem, data, tmp_path / "checkpoints")
    own = registry.load(wanted.problem, data).model()
    own.load_state_dict(checkpoint.model_state(checkpoint.read(path)[0]))
    recipe = bundles.recipe_of(wanted.problem, read_info(data) if data else None)
    assert recipe is not None
    given = torch.randint(4, (3, *recipe.shape)) if recipe.tokens else torch.rand(3, *recipe.shape)
    with threads(1), torch.no_grad():
        expected = own.eval()(given)
    found, printed = alone(unpacked(bundle_of(wanted, path, data), tmp_path / "elsewhere"), given)
    assert torch.equal(found, expected)
    assert printed == f"output: {(1, *expected.shape[1:])}\n"


def test_a_bundle_tells_what_the_use_of_the_data_needs(tmp_path: Path) -> None:
    data = images_folder(tmp_path)
    wanted, path = trained(
        {"kind": "images", "dataset": "d", "model": {"kind": "cnn", "width": 1}}, data, tmp_path / "c"
    )
    folder = unpacked(bundle_of(wanted, path, data), tmp_path / "b")
    told = json.loads((folder / "data.json").read_text())
    assert (told["mean"], told["classes"]) == (read_info(data)["mean"], ["0", "1"])
    assert "less mean, over std" in (folder / "README.txt").read_text()
    assert (folder / "run.safetensors").read_bytes() == path.read_bytes()


def test_a_user_s_own_problem_is_imported_by_what_the_spec_says() -> None:
    theirs = [
        (
            {"kind": "python", "target": "tests.engine.problems:NotFinite", "parameters": {"first": 1, "last": 2}},
            "NotFinite",
        ),
        ({"kind": "installed", "name": "diabetes", "parameters": {"hidden": 3}}, "trainhub.problems"),
    ]
    for problem, word in theirs:
        texts = bundles.texts_of(spec_of(problem=problem).problem, None, file="f", about="a run")
        assert sorted(texts) == ["README.txt", "load.py"]
        assert word in texts["load.py"]
        compile(texts["load.py"], "load.py", "exec")


def test_a_user_s_own_problem_loads_where_its_package_is(tmp_path: Path) -> None:
    problem = {"kind": "python", "target": "tests.engine.problems:Line"}
    wanted, path = trained(problem, None, tmp_path / "c")
    folder = unpacked(bundle_of(wanted, path, None), tmp_path / "b")
    done = subprocess.run(
        [sys.executable, folder / "load.py"],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Linear(in_features=1, out_features=1" in done.stdout


def test_what_the_network_was_built_for_may_be_gone_and_the_tensors_are_there_all_the_same(tmp_path: Path) -> None:
    data = table_folder(tmp_path)
    wanted, path = trained({"kind": "table", "dataset": "d"}, data, tmp_path / "c")
    folder = unpacked(bundle_of(wanted, path, None), tmp_path / "b")
    done = subprocess.run(
        [sys.executable, "load.py"], cwd=folder, capture_output=True, text=True, timeout=50, check=True
    )
    assert "1.weight (128, 3)" in done.stdout


def test_a_large_checkpoint_goes_through_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(3 * bundles.PIECE_BYTES + 1))
    pieces = list(Bundle(file, "large.safetensors", {"a": "b"}).pieces())
    assert max(map(len, pieces)) < 1.1 * bundles.PIECE_BYTES
    assert len(pieces) == 6  # texts, four of the file, the list at the end
    assert all(pieces)


async def test_an_asynchronous_server_gets_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"weights" * 1000)
    bundle = Bundle(file, "a.safetensors", {"README.txt": "hello"})
    found = b"".join([piece async for piece in bundle.stream()])
    (tmp_path / "a.zip").write_bytes(found)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("a.safetensors") == file.read_bytes()
    assert replace(bundle, file="b.safetensors").name == "b.zip"
