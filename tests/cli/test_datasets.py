"""Data sets from a shell."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from trainhub.client import Client
from trainhub.models import Dataset

ROWS = "width,height,kind\n" + "".join(f"{i % 7}.5,{i % 5}.25,{'tall' if i % 2 else 'wide'}\n" for i in range(60))


@pytest.fixture
def table(home: Path) -> Path:
    file = home / "leaves.csv"
    file.write_text(ROWS)
    return file


def test_a_file_is_uploaded_listed_shown_and_deleted(shell: Shell, table: Path) -> None:
    said = shell("datasets", "upload", table, "--name", "leaves", "--json")
    assert said.status == 0, said.err
    made = json.loads(said.out)
    assert made["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert made["kind"] == "table"
    assert [each["name"] for each in json.loads(shell("datasets", "--json").out)] == ["leaves"]
    assert "leaves" in shell("datasets").out
    assert made["sha256"] in shell("datasets", "show", "leaves").out
    assert shell("datasets", "delete", "leaves").status == 0
    assert not Dataset.objects.exists()


def test_an_upload_tells_how_far_it_is(client: Client, table: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    client.upload(table, "leaves", told=lambda *each: seen.append(each))
    assert seen[-1] == (len(ROWS), len(ROWS))


def test_how_to_read_it_can_be_said(shell: Shell, table: Path) -> None:
    options = ["--format", "csv", "--option", "target=width", "--option", "task=regression"]
    said = shell("datasets", "upload", table, "--name", "leaves", *options, "--json")
    assert said.status == 0, said.err
    assert json.loads(said.out)["info"]["target"]["name"] == "width"
    wrong = shell("datasets", "upload", table, "--name", "other", "--option", "target=height", "--option", "hat=blue")
    assert wrong.status == 2
    assert "options.hat: no such option" in wrong.err


def test_a_file_that_can_t_be_read_is_refused_with_its_field(shell: Shell, home: Path) -> None:
    (home / "broken.csv").write_bytes(b"\x00\xff" * 100)
    said = shell("datasets", "upload", "broken.csv", "--name", "broken")
    assert (said.status, said.out) == (2, "")
    assert ": " in said.err.removeprefix("trainhub datasets: ")
    assert not Dataset.objects.exists()


def test_a_name_is_taken_once(shell: Shell, table: Path) -> None:
    assert shell("datasets", "upload", table, "--name", "leaves").status == 0
    again = shell("datasets", "upload", table, "--name", "leaves")
    assert again.status != 0
    assert "leaves" in again.err
    assert Dataset.objects.count() == 1


def test_what_is_not_there_is_told_of(shell: Shell) -> None:
    assert shell("datasets", "upload", "none.csv", "--name", "none").err.endswith("There is no file none.csv.\n")
    said = shell("datasets", "show", "none")
    assert said.status == 2
    assert "There is no data set 'none'" in said.err
    assert "makes one" in shell("datasets").err
