"""Fixtures that every test may ask for."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A new folder with a path short enough for sockets, which pytest's own tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
