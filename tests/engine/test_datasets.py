"""Uploads become folders of arrays, or words that say what is wrong with them."""

import errno
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from tests.engine.datasets import (
    TABLE,
    TEXT,
    arrays,
    idx,
    npz,
    plain,
    png,
    prepared,
    read_info,
    squares,
    table_folder,
    tarred,
    written,
    zipped,
)
from workers.datasets import archives, writing
from workers.datasets.errors import BadData
from workers.datasets.limits import Limits

PIXELS = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)


# ---------------------------------------------------------------- arrays


def test_arrays_of_images_are_split_by_class_and_described(tmp_path: Path) -> None:
    info = prepared(npz(tmp_path / "a.npz", **squares(40)), tmp_path / "out")
    found = arrays(tmp_path / "out")
    assert (info["kind"], info["shape"], info["examples"]) == ("images", [3, 8, 8], 40)
    assert found["train-x"].shape == (32, 3, 8, 8)
    assert found["train-x"].dtype == np.uint8
    assert info["counts"] == {"train": [16, 16], "test": [4, 4]}
    assert info["mean"] == pytest.approx((found["train-x"] / 255).mean((0, 2, 3)))
    assert info["std"] == pytest.approx((found["train-x"] / 255).std((0, 2, 3)))


def test_a_given_test_part_is_kept_as_it_is(tmp_path: Path) -> None:
    given, test = squares(20), squares(6)
    prepared(npz(tmp_path / "a.npz", **given, x_test=test["x"], y_test=test["y"]), tmp_path / "out")
    found = arrays(tmp_path / "out")
    assert np.array_equal(found["train-x"], given["x"])
    assert np.array_equal(found["test-x"], test["x"])
    assert np.array_equal(found["test-y"], test["y"])


def test_no_example_is_lost_or_in_both_parts_of_a_split(tmp_path: Path) -> None:
    x = np.arange(50 * 16, dtype=np.float32).reshape(50, 1, 4, 4)
    prepared(npz(tmp_path / "a.npz", x=x, y=np.arange(50) % 5), tmp_path / "out", layout="channels-first")
    found = arrays(tmp_path / "out")
    assert np.array_equal(np.sort(np.concatenate([found["train-x"], found["test-x"]]), axis=0), x)


def test_the_same_file_is_split_the_same_way_again(tmp_path: Path) -> None:
    file = npz(tmp_path / "a.npz", **squares(30))
    for name in ("one", "other"):
        prepared(file, tmp_path / name)
    assert (tmp_path / "one" / "test-x.npy").read_bytes() == (tmp_path / "other" / "test-x.npy").read_bytes()


def test_channels_behind_the_width_are_found_and_put_in_front(tmp_path: Path) -> None:
    given = squares(20)
    x = np.moveaxis(given["x"], 1, 3)
    prepared(npz(tmp_path / "a.npz", x=x, y=given["y"], x_test=x, y_test=given["y"]), tmp_path / "out")
    assert np.array_equal(arrays(tmp_path / "out")["train-x"], given["x"])


def test_a_channel_that_never_changes_is_not_divided_by_nothing(tmp_path: Path) -> None:
    x = np.zeros((20, 8, 8), np.uint8)
    assert prepared(npz(tmp_path / "a.npz", x=x, y=np.arange(20) % 2), tmp_path / "out")["std"] == [1.0]


GOOD = squares(20)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"x": GOOD["x"]}, "y", "is missing"),
        (GOOD | {"x_test": GOOD["x"]}, "y_test", "is missing"),
        (GOOD | {"z": GOOD["y"]}, "z", "is not known"),
        (GOOD | {"y": GOOD["y"][:-1]}, "y", "19 values for 20 examples"),
        (GOOD | {"y": GOOD["y"] - 1}, "y", "label -1"),
        (GOOD | {"y": GOOD["y"] * 2}, "y", "no example of class 1"),
        (GOOD | {"y": GOOD["y"].astype(float)}, "y", "whole numbers"),
        (GOOD | {"y": GOOD["y"] * 0}, "file", "one class only"),
        (GOOD | {"x_test": GOOD["x"], "y_test": GOOD["y"] + 1}, "y_test", "label 2, which y does not"),
        (GOOD | {"x_test": GOOD["x"][:, :, :4], "y_test": GOOD["y"]}, "x_test", "otherwise"),
        (GOOD | {"x": GOOD["x"].reshape(20, -1, 2, 2, 2)}, "x", "has 5 dimensions"),
        (GOOD | {"x": np.full((20, 8, 8), np.nan)}, "x", "not finite"),
        (GOOD | {"x": np.full((20, 8, 8), 1e40)}, "x", "beyond"),
        (GOOD | {"x": np.zeros((20, 4, 8, 4))}, "x", "option layout"),
        (GOOD | {"x": np.zeros((20, 8, 8), "U3")}, "x", "must hold numbers"),
        ({"x": GOOD["x"][:0], "y": GOOD["y"][:0]}, "x", "is empty"),
    ],
)
def test_what_is_wrong_with_an_array_is_said_by_its_name(
    tmp_path: Path, given: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(BadData, match=words) as caught:
        prepared(npz(tmp_path / "a.npz", **given), tmp_path / "out")
    assert caught.value.field == field
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]  # nothing half done is left


class Bomb:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_arrays_of_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    file = npz(tmp_path / "a.npz", x=np.array([Bomb(ran)], object), y=np.zeros(1, int))
    with pytest.raises(BadData, match="can run code"):
        prepared(file, tmp_path / "out")
    assert not ran.exists()


def test_an_array_that_says_it_is_huge_is_not_believed(tmp_path: Path) -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000, 28, 28), }\n"
    fake = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    with pytest.raises(BadData, match="says it takes"):
        prepared(zipped(tmp_path / "a.npz", {"x.npy": fake, "y.npy": fake}), tmp_path / "out")


def test_an_array_with_two_dimensions_is_a_table(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(5, 3, (50, 4))
    info = prepared(npz(tmp_path / "a.npz", x=x, y=x[:, 0] * 2.5), tmp_path / "out")
    assert (info["kind"], info["target"]["task"], info["features"]) == ("table", "regression", ["x0", "x1", "x2", "x3"])
    classes = prepared(npz(tmp_path / "b.npz", x=x, y=np.arange(50) % 3), tmp_path / "classes")
    assert classes["target"]["classes"] == ["0", "1", "2"]


# ---------------------------------------------------------------- images in folders


def test_a_folder_for_each_class_becomes_images_with_those_names(tmp_path: Path) -> None:
    files = {
        f"shapes/{name}/{i}.png": plain(shade + i) for name, shade in (("cat", 10), ("dog", 90)) for i in range(10)
    }
    info = prepared(zipped(tmp_path / "a.zip", files | {"shapes/README.txt": b"hello"}), tmp_path / "out")
    assert (info["format"], info["classes"], info["shape"]) == ("image-folder", ["cat", "dog"], [3, 8, 8])
    assert info["notes"] == ["1 files that are no images were left out"]
    found = arrays(tmp_path / "out")
    assert {int(x[0, 0, 0]) < 50 for x, y in zip(found["test-x"], found["test-y"], strict=True) if y == 0} == {True}


def test_training_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    files = {
        f"{part}/{c}/{i}.png": plain(20 * i) for part, n in (("train", 6), ("test", 3)) for c in "ab" for i in range(n)
    }
    info = prepared(tarred(tmp_path / "a.tgz", files), tmp_path / "out")
    assert (info["train"], info["test"], info["split"]) == (12, 6, "given")


def test_a_compressed_tar_file_is_read_from_front_to_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = [f"{c}/{i}.png" for i in range(9) for c in "ba"]
    asked: list[str] = []
    read = archives.TarArchive.read

    def noted(archive: archives.TarArchive, name: str) -> bytes:
        asked.append(name)
        return read(archive, name)

    monkeypatch.setattr(archives.TarArchive, "read", noted)
    prepared(tarred(tmp_path / "a.tgz", {name: plain(20) for name in order}), tmp_path / "out")
    places = [order.index(name) for name in asked]
    assert sum(later < earlier for earlier, later in pairwise(places)) <= 3  # heads, training, test, preview


def test_gray_images_have_one_channel_unless_colours_are_asked_for(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {f"{c}/{i}.png": png(PIXELS[i]) for c in "ab" for i in range(6)})
    assert prepared(file, tmp_path / "out")["shape"] == [1, 8, 8]
    assert prepared(file, tmp_path / "colours", colour="rgb")["shape"] == [3, 8, 8]


def test_the_first_image_of_another_size_is_named_and_resizing_is_offered(tmp_path: Path) -> None:
    files = {f"{c}/{i}.png": plain(i) for c in "ab" for i in range(6)} | {"b/wide.png": plain(1, 8, 9)}
    file = zipped(tmp_path / "a.zip", files)
    with pytest.raises(BadData, match=r"b/wide.png is 9×8 pixels and a/0.png is 8×8.*option size"):
        prepared(file, tmp_path / "out")
    assert prepared(file, tmp_path / "out", size=16)["shape"] == [3, 16, 16]


@pytest.mark.parametrize("name", ["../a/1.png", "/etc/1.png", "a/../../1.png", "..\\a\\1.png", "C:\\a\\1.png"])
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadData, match="points out of the archive"):
        prepared(zipped(tmp_path / "a.zip", {name: plain(1), "b/1.png": plain(2)}), tmp_path / "out")


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"a/1.png": bytes(10_000_000), "b/1.png": plain(1)})
    with pytest.raises(BadData, match="more than 200 times"):
        prepared(file, tmp_path / "out", limits=Limits(free_bytes=1_000_000))
    with pytest.raises(BadData, match="at most 977 KiB"):
        prepared(file, tmp_path / "out", limits=Limits(unpacked_bytes=1_000_000))
    with pytest.raises(BadData, match="more than 1 files"):
        prepared(file, tmp_path / "out", limits=Limits(entries=1))


def test_an_image_that_says_it_is_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    wide = png(np.zeros((2, 5000), np.uint8))
    with pytest.raises(BadData, match="5000×2 pixels; at most 4096"):
        prepared(zipped(tmp_path / "a.zip", {"a/1.png": wide, "b/1.png": wide}), tmp_path / "out")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    noise = png(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    files = {f"{c}/{i}.png": noise for c in "ab" for i in range(5)} | {"b/9.png": noise[: len(noise) // 2]}
    with pytest.raises(BadData, match=r"b/9.png is damaged"):
        prepared(zipped(tmp_path / "a.zip", files), tmp_path / "out")


def test_images_without_a_class_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"1.png should lie in a folder that is its class"):
        prepared(zipped(tmp_path / "a.zip", {"1.png": plain(1), "a/2.png": plain(2)}), tmp_path / "out")


def test_a_preview_shows_each_class_in_turn(tmp_path: Path) -> None:
    files = {f"{c}/{i:02}.png": plain(100 * n + i) for n, c in enumerate("abc") for i in range(20)}
    prepared(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    with Image.open(tmp_path / "out" / "preview.png") as sheet:
        assert sheet.size == (8 * 68 - 4, 3 * 68 - 4)
        shades = [sheet.convert("RGB").getpixel((68 * column + 10, 10)) for column in range(3)]
    assert [shade[0] // 100 for shade in shades if isinstance(shade, tuple)] == [0, 1, 2]


# ---------------------------------------------------------------- MNIST's and CIFAR's files


def test_mnist_s_four_files_are_read_packed_or_not(tmp_path: Path) -> None:
    files = {
        "train-images-idx3-ubyte.gz": idx(PIXELS),
        "train-labels-idx1-ubyte": idx(LABELS, packed=False),
        "t10k-images-idx3-ubyte.gz": idx(PIXELS[:3]),
        "t10k-labels-idx1-ubyte.gz": idx(LABELS[:3]),
    }
    info = prepared(zipped(tmp_path / "mnist.zip", files), tmp_path / "out")
    assert (info["format"], info["shape"], info["train"], info["test"]) == ("idx", [1, 8, 8], 6, 3)
    assert np.array_equal(arrays(tmp_path / "out")["train-x"][:, 0], PIXELS)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a-idx3-ubyte": idx(PIXELS)}, "no labels of the train part"),
        ({"a-idx3-ubyte": idx(PIXELS), "a-idx1-ubyte": idx(LABELS[:2])}, "6 images and 2 labels"),
        ({"a-idx3-ubyte": idx(PIXELS, packed=False)[:-1]}, "another length"),
        ({"a-idx3-ubyte": b"\0\0\x0d\x03" + bytes(12)}, "type 0x0d"),
        ({"a-idx3-ubyte": b"hello"}, "no IDX file"),
        ({"a-idx3-ubyte.gz": idx(PIXELS)[:-20]}, "damaged"),
    ],
)
def test_what_is_wrong_with_idx_files_is_said(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    with pytest.raises(BadData, match=words):
        prepared(zipped(tmp_path / "a.zip", files), tmp_path / "out")


def cifar_records(count: int, label_bytes: int) -> bytes:
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (count, label_bytes + 3072), np.uint8)
    records[:, :label_bytes] = (np.arange(count) % 3)[:, None]
    return records.tobytes()


def test_cifar_s_binary_version_is_read_with_the_names_of_its_classes(tmp_path: Path) -> None:
    files = {f"cifar/data_batch_{i}.bin": cifar_records(6, 1) for i in (1, 2)}
    files |= {"cifar/test_batch.bin": cifar_records(3, 1), "cifar/batches.meta.txt": b"plane\ncar\nbird\n\n"}
    info = prepared(tarred(tmp_path / "a.tar.gz", files), tmp_path / "out")
    assert (info["format"], info["train"], info["test"]) == ("cifar", 12, 3)
    assert (info["classes"], info["shape"]) == (["plane", "car", "bird"], [3, 32, 32])


def test_cifar_100_is_read_by_its_fine_labels(tmp_path: Path) -> None:
    fine = np.frombuffer(cifar_records(6, 2), np.uint8).reshape(6, -1).copy()
    fine[:, 0] = 9  # the coarse label
    files = {"c/train.bin": fine.tobytes(), "c/test.bin": fine.tobytes(), "c/fine_label_names.txt": b"a\nb\nc\n"}
    assert prepared(tarred(tmp_path / "a.tar.gz", files), tmp_path / "out")["classes"] == ["a", "b", "c"]


def test_cifar_s_pickles_are_refused_with_a_way_out(tmp_path: Path) -> None:
    files = {"cifar-10-batches-py/data_batch_1": pickle.dumps({}), "cifar-10-batches-py/batches.meta": b""}
    with pytest.raises(BadData, match=r"can run code.*cifar-10-binary.tar.gz"):
        prepared(tarred(tmp_path / "a.tar.gz", files), tmp_path / "out")


# ---------------------------------------------------------------- tables


def test_columns_are_scaled_and_texts_become_marks(tmp_path: Path) -> None:
    folder = table_folder(tmp_path)
    info, found = read_info(folder), arrays(folder)
    assert info["features"] == ["age", "town=a", "town=b"]
    assert (info["target"]["name"], info["target"]["task"]) == ("score", "regression")
    assert found["train-x"][:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert found["train-x"][:, 0].std() == pytest.approx(1, abs=1e-6)
    assert set(found["train-x"][:, 1].tolist()) == {0.0, 1.0}
    age = found["test-x"][:, 0] * info["std"][0] + info["mean"][0]
    assert found["test-y"] == pytest.approx(2 * age + 0.5, rel=1e-5)
    assert info["first_rows"][1] == ["1", "b", "2.5"]


def test_a_target_of_texts_makes_classes(tmp_path: Path) -> None:
    info = read_info(table_folder(tmp_path, target="town", drop=["score"]))
    assert (info["target"]["task"], info["target"]["classes"], info["features"]) == (
        "classification",
        ["a", "b"],
        ["age"],
    )


def test_columns_to_leave_out_may_be_one_text_with_commas(tmp_path: Path) -> None:
    file = written(tmp_path / "t.csv", "id,row,a,b\n" + "".join(f"{i},{i},{i},{i}.5\n" for i in range(20)))
    assert prepared(file, tmp_path / "out", drop="id, row")["features"] == ["a"]


def test_few_whole_numbers_are_classes_and_many_are_numbers_unless_somebody_says_so(tmp_path: Path) -> None:
    file = written(tmp_path / "t.csv", "a,few,many\n" + "".join(f"{i / 7},{i % 3},{i}\n" for i in range(60)))
    tasks = {
        name: prepared(file, tmp_path / name, target=target, task=task)["target"]["task"]
        for name, target, task in [("1", "few", "auto"), ("2", "many", "auto"), ("3", "few", "regression")]
    }
    assert tasks == {"1": "classification", "2": "regression", "3": "regression"}


def test_missing_numbers_are_counted_and_their_mean_is_put_in_only_where_asked(tmp_path: Path) -> None:
    file = written(tmp_path / "t.csv", "a,b\n" + "".join(f"{'' if i == 3 else i},{i}.5\n" for i in range(30)))
    with pytest.raises(BadData, match="no value in 1 of 30 rows") as caught:
        prepared(file, tmp_path / "out")
    assert caught.value.field == "a"
    assert "its mean was put in where 1" in prepared(file, tmp_path / "out", missing="mean")["notes"][0]
    assert np.isfinite(arrays(tmp_path / "out")["train-x"]).all()


def test_parquet_is_read_like_csv_times_as_days(tmp_path: Path) -> None:
    times = pa.array([i * 86_400 for i in range(40)], pa.timestamp("s"))
    table = pa.table({"day": times, "yes": [i % 2 == 0 for i in range(40)], "y": [float(i) for i in range(40)]})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    info = prepared(tmp_path / "t.parquet", tmp_path / "out")
    assert (info["format"], info["features"]) == ("parquet", ["day", "yes"])
    assert (info["columns"][0]["min"], info["columns"][0]["max"]) == (0.0, 39.0)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_found_out(tmp_path: Path, delimiter: str) -> None:
    file = written(tmp_path / "t", TABLE.replace(",", delimiter))
    assert prepared(file, tmp_path / "out")["features"] == ["age", "town=a", "town=b"]


@pytest.mark.parametrize(
    ("text", "given", "field", "words"),
    [
        (TABLE, {"target": "height"}, "options.target", "there are age, town, score"),
        (TABLE, {"drop": ["height"]}, "options.drop", "no column 'height'"),
        (TABLE, {"target": "town", "task": "regression"}, "town", "holds texts"),
        (TABLE, {"size": 8}, "options.size", "means nothing"),
        (TABLE, {"sise": 8}, "options.sise", "no such option"),
        ("a,a\n1,2\n3,4\n", {}, "a", "several columns"),
        ("a,b\n" + "".join(f"w{i},{i}.5\n" for i in range(80)), {}, "a", "80 different texts"),
        ("a,b\n" + "".join(f"{i},\n" for i in range(9)), {}, "b", "no value in 9 rows"),
        ("a,b\n" + "".join(f"inf,{i}.5\n" for i in range(9)), {}, "a", "not finite"),
        ("a,b\n1,2\n1,2,3\n", {}, "file", "no CSV file"),
        ("a,b\n" + "".join(f"{i},x\n" for i in range(9)), {}, "b", "one class only"),
        (",".join(f"c{i}" for i in range(10_001)) + "\n", {}, "file", "10,001 columns; at most 10,000"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_by_column(
    tmp_path: Path, text: str, given: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(BadData, match=words) as caught:
        prepared(written(tmp_path / "t.csv", text), tmp_path / "out", file_format="csv", **given)
    assert caught.value.field == field


# ---------------------------------------------------------------- texts


def test_a_text_s_characters_are_numbered_and_its_end_is_the_test(tmp_path: Path) -> None:
    info = prepared(written(tmp_path / "t.txt", TEXT), tmp_path / "out")
    found = arrays(tmp_path / "out")
    numbers = np.concatenate([found["train"], found["test"]])
    assert "".join(info["vocabulary"][n] for n in numbers) == TEXT
    assert (info["train"], info["test"]) == (len(TEXT) - round(len(TEXT) / 5), round(len(TEXT) / 5))
    assert info["sample"] == TEXT[:500]


def test_a_text_with_too_many_characters_may_be_bytes(tmp_path: Path) -> None:
    file = written(tmp_path / "t.txt", "".join(chr(0x4E00 + i) for i in range(5000)))
    with pytest.raises(BadData, match=r"5,000 different characters.*vocabulary: bytes"):
        prepared(file, tmp_path / "out")
    assert prepared(file, tmp_path / "out", vocabulary="bytes")["vocabulary_size"] == 256


def test_a_text_that_is_no_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"one\ntwo\n" * 50 + "grün".encode("latin-1") + b"\n" * 100)
    with pytest.raises(BadData, match="line 101"):
        prepared(tmp_path / "t.txt", tmp_path / "out", file_format="text")


# ---------------------------------------------------------------- all of them


def test_a_file_that_is_nothing_known_is_refused_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(BadData, match="give its format: npz, csv"):
        prepared(tmp_path / "f", tmp_path / "out")
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(BadData, match="is empty"):
        prepared(tmp_path / "f", tmp_path / "out")


def damaged_npz(path: Path) -> bytes:
    data = bytearray(npz(path / "good.npz", **squares(20)).read_bytes())
    data[100:140] = b"\xff" * 40
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.tgz", lambda path: tarred(path / "good.tgz", {"a/1.png": plain(1)}).read_bytes()[:40]),
        ("a.tgz", lambda path: tarred(path / "good.tgz", {"a/1.png": bytes(9999)}).read_bytes()[:-30]),
        ("a.npz", damaged_npz),
        ("a.zip", lambda path: zipped(path / "good.zip", {"a/1.png": plain(1)}).read_bytes()[:-30]),
        ("a.csv", lambda path: "größe,b\n1,2\n3,4\n".encode("latin-1")),
        ("a.parquet", lambda path: b"PAR1" + bytes(100)),
    ],
)
def test_damage_of_any_kind_is_the_file_s(tmp_path: Path, name: str, make: Callable[[Path], bytes]) -> None:
    (tmp_path / name).write_bytes(make(tmp_path))
    with pytest.raises(BadData):
        prepared(tmp_path / name, tmp_path / "out")


def test_too_many_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="40 examples; at most 39"):
        prepared(npz(tmp_path / "a.npz", **squares(40)), tmp_path / "out", limits=Limits(examples=39))


def test_names_that_are_too_long_for_a_database_are_refused(tmp_path: Path) -> None:
    text = f"a,{'b' * 2000}\n" + "".join(f"{i},{i % 2}\n" for i in range(20))
    with pytest.raises(BadData, match=r"has names of \d+ KiB; at most 1 KiB"):
        prepared(written(tmp_path / "t.csv", text), tmp_path / "out", limits=Limits(info_bytes=1024))
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: object, info: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.Folder, "info", full)
    with pytest.raises(OSError, match="No space"):
        prepared(written(tmp_path / "t.txt", TEXT), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.txt"]


def test_a_folder_that_exists_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BadData, match="exists already"):
        prepared(written(tmp_path / "t.txt", TEXT), tmp_path / "out")


def command(*given: str | Path) -> "subprocess.CompletedProcess[str]":
    arguments = [sys.executable, "-m", "workers.datasets", *map(str, given)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=50, check=False)


def test_the_program_tells_its_progress_and_what_it_found(tmp_path: Path) -> None:
    done = command(npz(tmp_path / "a.npz", **squares(40)), tmp_path / "out")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert lines[0] == {"done": 0, "total": 40}
    assert lines[-2] == {"done": 40, "total": 40}
    assert lines[-1] == {"kind": "images", "format": "npz", "examples": 40, "info": read_info(tmp_path / "out")}


def test_the_program_says_what_is_wrong_as_json_and_ends_with_2(tmp_path: Path) -> None:
    file = written(tmp_path / "t.csv", TABLE)
    done = command(file, tmp_path / "out", "--format", "csv", "--options", '{"target": "height"}')
    assert done.returncode == 2
    assert json.loads(done.stderr)["field"] == "options.target"
    assert not (tmp_path / "out").exists()


def test_preparing_loads_no_torch() -> None:
    code = "import workers.datasets.preparing, workers.datasets.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=50, check=False).returncode == 0


def test_children_read_data_sets_without_arrow_and_pillow() -> None:
    code = "import workers.preload, sys; sys.exit(bool({'pyarrow', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=50, check=False).returncode == 0
