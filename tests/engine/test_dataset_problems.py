"""Problems on uploaded data: what the network is given, and what is said where the data are not there."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.datasets import images_folder, npz, prepared, read_info, table_folder, text_folder
from tests.engine.harness import Gang, spec_of
from trainhub.command import main
from workers import spec
from workers.assignment import SERVER_WORKER, Cause, Outcome
from workers.failures import Failure
from workers.problems import registry
from workers.problems.images import Images, augmented
from workers.problems.tables import Table
from workers.problems.texts import Text
from workers.server import event_log
from workers.simulator import files
from workers.spec_errors import SpecError

MLP = {"kind": "mlp", "hidden": [8]}


def images(folder: Path, **fields: Any) -> Images:
    return Images(spec.Images.model_validate({"kind": "images", "dataset": "d", "model": MLP} | fields), folder)


def table(folder: Path, **fields: Any) -> Table:
    return Table(spec.Table.model_validate({"kind": "table", "dataset": "d", "model": MLP} | fields), folder)


def text(folder: Path, **model: Any) -> Text:
    small = {"layers": 1, "heads": 1, "width": 8, "context": 8}
    return Text(spec.Text.model_validate({"kind": "text", "dataset": "d", "model": small | model}), folder)


def batch(problem: Any, count: int = 8, split: str = "train") -> Any:
    return problem.collate(problem.dataset(split).__getitems__(range(count)))


def test_images_reach_the_network_with_mean_0_and_deviation_1(tmp_path: Path) -> None:
    problem = images(images_folder(tmp_path))
    inputs = problem.inputs(batch(problem, len(problem.dataset("train")))[0])  # type: ignore[arg-type]
    assert inputs.mean((0, 2, 3)) == pytest.approx([0, 0, 0], abs=1e-5)
    assert inputs.std((0, 2, 3), correction=0) == pytest.approx([1, 1, 1], abs=1e-5)


def test_images_that_are_not_normalized_are_0_to_1(tmp_path: Path) -> None:
    folder = images_folder(tmp_path)
    problem = images(folder, normalize=False)
    pixels, _ = batch(problem)
    assert torch.allclose(problem.inputs(pixels), pixels.float() / 255)


def test_a_batch_is_a_copy_that_cannot_reach_the_file(tmp_path: Path) -> None:
    folder = images_folder(tmp_path)
    before = (folder / "train-x.npy").read_bytes()
    batch(images(folder))[0].zero_()
    assert (folder / "train-x.npy").read_bytes() == before


def test_a_validation_part_is_a_fifth_of_each_class_and_out_of_the_training(tmp_path: Path) -> None:
    folder = images_folder(tmp_path, count=100)
    whole = images(folder).dataset("train")
    problem = images(folder, evaluate_on="validation")
    parts = [problem.dataset("train"), problem.dataset("test")]
    assert [len(p) for p in parts] == [64, 16]  # type: ignore[arg-type]
    found = [{p[i][0].numpy().tobytes() for i in range(len(p))} for p in [whole, *parts]]  # type: ignore[arg-type]
    assert found[1] | found[2] == found[0]
    assert not found[1] & found[2]


# ---------------------------------------------------------------- augmenting


def pictures() -> Tensor:
    return torch.arange(20 * 3 * 16 * 16).reshape(20, 3, 16, 16).float() + 1


def seeded(how: str, seed: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return augmented(pictures(), how)


@pytest.mark.parametrize("how", ["flip", "flip-crop"])
def test_augmenting_depends_on_the_seed_of_the_step_alone(how: str) -> None:
    assert torch.equal(seeded(how, 1), seeded(how, 1))
    assert not torch.equal(seeded(how, 1), seeded(how, 2))


def test_a_flip_mirrors_whole_images_left_to_right() -> None:
    plain = pictures()
    found = [(torch.equal(a, p), torch.equal(a, p.flip(2))) for a, p in zip(seeded("flip", 3), plain, strict=True)]
    assert set(found) == {(True, False), (False, True)}


def test_a_crop_moves_an_image_by_up_to_an_eighth_and_black_comes_in() -> None:
    framed = torch.nn.functional.pad(pictures(), (2, 2, 2, 2))
    for moved, frame in zip(seeded("flip-crop", 4), framed, strict=True):
        places = [f[:, y : y + 16, x : x + 16] for f in (frame, frame.flip(2)) for y in range(5) for x in range(5)]
        assert any(torch.equal(moved, place) for place in places)


def test_test_images_are_never_augmented(tmp_path: Path) -> None:
    problem = images(images_folder(tmp_path), augment="flip-crop")
    torch.manual_seed(0)
    model, given = problem.model().eval(), batch(problem, split="test")
    with torch.no_grad():
        assert torch.equal(problem.loss(model, given)[0], problem.loss(model, given)[0])


# ---------------------------------------------------------------- tables and texts


def test_a_regression_learns_in_its_scale_and_tells_its_error_in_the_target_s(tmp_path: Path) -> None:
    folder = table_folder(tmp_path)
    problem, target = table(folder), read_info(folder)["target"]
    columns, scores = batch(problem)
    model = torch.nn.Linear(columns.shape[1], 1)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)  # always guesses the mean
    loss, metrics = problem.loss(model, (columns, scores))
    assert loss.item() == pytest.approx(float((((scores - target["mean"]) / target["std"]) ** 2).mean()))
    assert float(metrics["error"]) == pytest.approx(float((scores - target["mean"]).abs().mean()))


def test_a_table_with_classes_tells_its_accuracy(tmp_path: Path) -> None:
    problem = table(table_folder(tmp_path, target="town", drop=["score"]))
    assert [m.name for m in problem.metrics] == ["accuracy"]
    assert problem.model()(batch(problem)[0]).shape == (8, 2)


def test_pieces_of_a_text_follow_each_other_and_each_character_is_seen_once(tmp_path: Path) -> None:
    folder = text_folder(tmp_path)
    data, whole = text(folder).dataset("train"), np.load(folder / "train.npy")
    seen, following = data.__getitems__(range(len(data)))  # type: ignore[attr-defined,arg-type]
    assert seen.flatten().tolist() == whole[: seen.numel()].tolist()
    assert following.flatten().tolist() == whole[1 : seen.numel() + 1].tolist()


def test_a_guess_at_random_takes_as_many_bits_as_the_vocabulary_says(tmp_path: Path) -> None:
    problem = text(text_folder(tmp_path))
    model = problem.model()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    _, metrics = problem.loss(model, batch(problem))
    characters = read_info(tmp_path / "text")["vocabulary_size"]
    assert float(metrics["bits_per_character"]) == pytest.approx(math.log2(characters), abs=1e-5)


def test_a_context_longer_than_the_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"problem\.model\.context: the test part of d is not that long"):
        text(text_folder(tmp_path), context=4096).dataset("test")


def test_heads_must_share_the_width() -> None:
    problem = {"kind": "text", "dataset": "d", "model": {"kind": "transformer", "width": 10, "heads": 4}}
    with pytest.raises(SpecError, match=r"problem\.model: width must be a multiple of heads \(4\), got 10"):
        spec_of(problem=problem)


# ---------------------------------------------------------------- finding the folder

PART = spec.Images(kind="images", dataset="faces")


def test_a_problem_without_its_data_set_says_so_by_field() -> None:
    with pytest.raises(SpecError, match=r"problem\.dataset: .*'faces'"):
        registry.load(PART)


def test_a_data_set_of_another_kind_names_the_problem_that_takes_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"problem\.dataset: faces holds text; problem.kind text takes it"):
        registry.load(PART, text_folder(tmp_path))


def test_a_folder_that_is_not_on_this_node_is_a_failure_of_data(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="not on this node") as caught:
        registry.load(PART, tmp_path / "gone")
    assert caught.value.cause is Cause.DATA


# ---------------------------------------------------------------- whole runs

SMALL = {"layers": 1, "heads": 1, "width": 16, "context": 8}
TRAINED: dict[str, tuple[dict[str, Any], str, float]] = {
    "images": ({"kind": "images", "dataset": "d", "model": MLP | {"batch_norm": True}}, "accuracy", 0.9),
    "table": ({"kind": "table", "dataset": "d", "model": MLP | {"batch_norm": False}}, "error", 12.0),
    "text": ({"kind": "text", "dataset": "d", "model": SMALL}, "bits_per_character", 3.5),
}
FOLDERS: dict[str, Callable[[Path], Path]] = {"images": images_folder, "table": table_folder, "text": text_folder}


@pytest.mark.parametrize("kind", TRAINED)
def test_uploaded_data_are_trained_on_by_real_processes(tmp_path: Path, kind: str) -> None:
    problem, metric, bound = TRAINED[kind]
    adam = {"kind": "adamw", "learning_rate": 0.01}
    wanted = spec_of(problem=problem, optimizer=adam, workers=2, batch_size=4, budget={"updates": 150})
    with Gang(wanted, tmp_path / "run", data=str(FOLDERS[kind](tmp_path))) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        _, found = gang.server.series(f"evaluation/{metric}")[SERVER_WORKER]
    assert found[-1] > bound if metric == "accuracy" else found[-1] < bound


def test_a_run_whose_files_are_gone_fails_with_the_cause_data(tmp_path: Path) -> None:
    wanted = spec_of(problem=TRAINED["images"][0])
    with Gang(wanted, tmp_path / "run", data=str(tmp_path / "gone"), evaluator=False) as gang:
        ending = gang.server.end()
    assert ending is not None
    assert (ending.outcome, ending.cause) == (Outcome.FAILED, Cause.DATA)
    assert "not on this node" in ending.detail


def test_an_augmented_simulation_is_replayed_to_the_bit(tmp_path: Path) -> None:
    problem = {"kind": "images", "dataset": "d", "model": {"kind": "cnn", "width": 2}, "augment": "flip-crop"}
    wanted = spec_of(problem=problem, workers=3, budget={"updates": 30}, execution={"kind": "simulate"})
    data, log = images_folder(tmp_path), tmp_path / "gradients.log"
    with files.simulation(wanted, log, data=data) as simulation:
        result = simulation.run()
    assert files.replay_file(log, data=data).log_hash == result.log_hash
    assert event_log.read(log).complete


def test_the_command_line_simulates_and_replays_on_a_folder(tmp_path: Path) -> None:
    problem = {"kind": "images", "dataset": "d", "model": MLP}
    wanted = spec_of(problem=problem, workers=2, execution={"kind": "simulate"})
    file, log, data = tmp_path / "spec.yaml", tmp_path / "log", images_folder(tmp_path)
    file.write_text(wanted.canonical())
    assert main(["simulate", str(file), "--data", str(data), "--log", str(log), "--json"]) == 0
    assert main(["replay", str(log), "--data", str(data), "--json"]) == 0
    assert main(["simulate", str(file), "--json"]) == 1


def test_float_images_keep_their_own_scale(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(100, 20, (40, 1, 8, 8))
    prepared(npz(tmp_path / "f.npz", x=x, y=np.arange(40) % 2), tmp_path / "f", layout="channels-first")
    problem = images(tmp_path / "f")
    assert float(problem.inputs(batch(problem, 32)[0]).std()) == pytest.approx(1, abs=1e-3)
