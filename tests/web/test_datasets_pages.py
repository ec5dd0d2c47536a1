"""Pages of data sets: who sees which, and what is told of what a preparation found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests import factories
from tests.web.conftest import client_of
from trainhub import data_sheets
from trainhub.models import Dataset, Project, Role, RunState

pytestmark = pytest.mark.django_db

IMAGES: dict[str, Any] = {
    "shape": [3, 32, 24],
    "train": 80,
    "test": 20,
    "split": "given",
    "classes": ["cat", "dog"],
    "counts": {"train": [60, 20], "test": [15, 5]},
    "preview": "preview.png",
    "notes": ["2 files were no images"],
}
PNG = b"\x89PNG\r\n\x1a\n"


def dataset(project: Project, owner: User, name: str = "pets", **changes: Any) -> Dataset:
    values = {"kind": "images", "format": "npz", "sha256": "ab" * 32, "size_bytes": 2048, "examples": 100}
    values |= {"info": IMAGES, "path": f"datasets/{name}"}
    return Dataset.objects.create(project=project, owner=owner, name=name, **(values | changes))


@pytest.fixture
def pets(project: Project, alice: User, settings: Any, tmp_path: Path) -> Dataset:
    settings.HOME = tmp_path
    (tmp_path / "datasets/pets").mkdir(parents=True)
    (tmp_path / "datasets/pets/preview.png").write_bytes(PNG)
    return dataset(project, alice)


def shown(name: str, path: str) -> str:
    return client_of(name).get(path).content.decode()


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 200), ("vera", 200), ("carol", 404)])
@pytest.mark.parametrize("part", ["", "preview.png"])
def test_whoever_shares_the_project_sees_its_data(pets: Dataset, name: str, status: int, part: str) -> None:
    assert client_of(name).get(f"{pets.get_absolute_url()}{part}").status_code == status
    assert ("pets" in shown(name, "/datasets/")) is (status == 200)


@pytest.mark.parametrize("path", ["/datasets/", "/datasets/1/", "/datasets/1/preview.png"])
def test_nobody_is_sent_to_sign_in_and_pages_are_only_read(project: Project, path: str) -> None:
    assert Client().get(path).headers["Location"] == f"/sign-in/?next={path}"
    assert client_of("alice").post(path).status_code == 405


@pytest.mark.parametrize(("name", "may"), [("alice", True), ("bob", True), ("vera", False)])
def test_only_members_may_upload_and_delete(pets: Dataset, name: str, may: bool) -> None:
    assert ('id="upload"' in shown(name, "/datasets/")) is may
    assert ('id="delete"' in shown(name, pets.get_absolute_url())) is may


def test_the_list_tells_what_a_data_set_holds_and_how_many_runs_use_it(pets: Dataset, alice: User) -> None:
    within = factories.project("other", alice=Role.ADMIN)
    dataset(within, alice, "pets", path="datasets/other")
    spec = factories.spec() | {"problem": {"kind": "images", "dataset": "pets"}}
    for _ in range(2):
        factories.run(owner=alice, within=pets.project, spec=spec)
    page = shown("alice", "/datasets/")
    for told in ("24×32 pixels, colour, 2 classes", "2.0 KiB", "2 runs", "no run yet"):
        assert told in page


def test_the_page_tells_classes_parts_sum_and_how_to_use_it(pets: Dataset, alice: User) -> None:
    spec = factories.spec() | {"problem": {"kind": "images", "dataset": "pets"}}
    factories.run(owner=alice, within=pets.project, spec=spec, state=RunState.RUNNING, name="trains on pets")
    page = shown("alice", pets.get_absolute_url())
    for told in (
        "2 files were no images",
        "preview.png",
        "ab" * 32,
        "problem:\n  kind: images\n  dataset: pets\n",
        "/experiments/new/?dataset=pets&amp;kind=images",
        "trains on pets",
        "--share: 100.0%",
        "--share: 33.3%",
    ):
        assert told in page


def test_the_preview_comes_from_the_data_set_s_own_folder(pets: Dataset) -> None:
    answer = client_of("vera").get(f"{pets.get_absolute_url()}preview.png")
    assert answer.content == PNG
    assert answer.headers["Content-Type"] == "image/png"
    assert "private" in answer.headers["Cache-Control"]


def test_a_data_set_without_a_preview_has_none(pets: Dataset, alice: User) -> None:
    text = dataset(pets.project, alice, "words", kind="text", info={})
    assert client_of("alice").get(f"{text.get_absolute_url()}preview.png").status_code == 404
    assert "preview.png" not in shown("alice", text.get_absolute_url())


@pytest.mark.parametrize("kind", ["images", "table", "text"])
@pytest.mark.parametrize(
    "info",
    [
        {},
        {"classes": None, "counts": None, "columns": None, "shape": None},
        {"classes": ["a"], "counts": {}},
        {"shape": [1, 8]},
        {"columns": 3, "target": {}},
        {"notes": None, "sample": None, "vocabulary": 0},
    ],
)
def test_what_is_missing_is_not_told(project: Project, alice: User, kind: str, info: dict[str, Any]) -> None:
    made = dataset(project, alice, kind=kind, info=info)
    assert client_of("alice").get(made.get_absolute_url()).status_code == 200
    assert client_of("alice").get("/datasets/").status_code == 200


def test_counts_of_all_parts_make_a_class_s_bar(project: Project, alice: User) -> None:
    bars = data_sheets.sheet(dataset(project, alice)).classes
    assert [(bar.name, bar.count, bar.share) for bar in bars] == [
        ("cat", 75, 100.0),
        ("dog", 25, pytest.approx(100 / 3)),
    ]


def test_many_classes_are_cut_and_the_rest_counted(project: Project, alice: User) -> None:
    info = {"classes": [f"c{i}" for i in range(100)], "counts": {"train": [1] * 100}}
    sheet = data_sheets.sheet(dataset(project, alice, info=info))
    assert (len(sheet.classes), sheet.more_classes) == (60, 40)


def test_a_stranger_to_every_project_is_told_how_to_come_to_upload(project: Project) -> None:
    page = shown("carol", "/datasets/")
    assert "No data sets yet" in page
    assert "ask an admin" in page


def test_what_a_file_said_is_shown_as_text(project: Project, alice: User) -> None:
    evil = "<script>alert(1)</script>"
    info = {"classes": [evil], "counts": {"train": [1]}, "notes": [evil], "sample": evil, "columns": [{"name": evil}]}
    for kind in ("images", "table", "text"):
        made = dataset(project, alice, kind, kind=kind, info=info)
        assert "<script>alert" not in shown("alice", made.get_absolute_url())
