"""What can go wrong with an upload leaves words for whoever sent it, and nothing on disk."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from trainhub import intake
from trainhub.actions.errors import WrongDataset
from trainhub.models import Project

TABLE = b"a,b\n" + b"1,x\n2,y\n" * 20
KILLED = """#!/bin/sh
mkdir "$(dirname "$4")/.$(basename "$4")-partial"
kill -9 $$
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, settings: Any) -> Path:
    settings.HOME = tmp_path
    return tmp_path


def refused(project: Project, owner: User, upload: Any = (TABLE,), **more: Any) -> WrongDataset:
    with pytest.raises(WrongDataset) as caught:
        intake.add(project=project, owner=owner, name="t", upload=upload, file_name="t.csv", **more)
    return caught.value


def left(home: Path) -> list[Path]:
    return list(home.glob("*/*"))


def test_a_child_that_is_killed_leaves_no_half_written_folder(
    home: Path, project: Project, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = home / "killed"
    program.write_text(KILLED)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert "more memory or time" in refused(project, alice).reason
    assert left(home) == []


def test_options_that_no_program_takes_are_refused_before_the_file_is_read(project: Project, alice: User) -> None:
    upload = iter([TABLE])
    assert refused(project, alice, upload, options={"target": "x" * 150_000}).field == "options"
    assert next(upload) == TABLE


def test_a_full_disk_is_told_and_leaves_nothing(home: Path, project: Project, alice: User) -> None:
    def upload() -> Iterator[bytes]:
        yield TABLE
        raise OSError(errno.ENOSPC, "No space left on device")

    assert "disk is full" in refused(project, alice, upload()).reason
    assert left(home) == []


def test_files_that_another_upload_removes_meanwhile_are_no_failure(
    home: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "uploads").mkdir()
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "gone"]))
    intake.sweep()
