"""Uploads become data sets: streamed to disk, hashed, and prepared by a child that a bad file can't take us down with.

Nothing is written to the database before all files are complete, so whatever dies on the way leaves only files that
nobody names, and those go with the next upload.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from trainhub.actions import datasets
from trainhub.actions.datasets import Prepared
from trainhub.actions.errors import WrongDataset
from trainhub.models import Dataset, Project

MOST_BYTES = 4 * 1024**3
PREPARE_SECONDS = 900
FORGOTTEN_SECONDS = 24 * 3600
"""Files that nobody has named for so long are left over from an upload that died."""
FORMATS = ("auto", "npz", "csv", "parquet", "image-folder", "idx", "cifar", "text")
MOST_OPTIONS = 100_000
"""Characters of their JSON: a program's argument may have 128 KiB."""
AT_ONCE = threading.BoundedSemaphore(2)
"""Files that are prepared at the same time in one web process: each may take gigabytes of memory."""
BAD_DATA = 2
"""Exit status of a preparation that found something wrong with the file."""


@dataclass(frozen=True)
class Received:
    path: Path
    sha256: str
    size_bytes: int


def add(
    *,
    project: Project,
    owner: User,
    name: str,
    upload: Iterable[bytes],
    file_name: str,
    file_format: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Take in a file, prepare it, and write its row. Raises WrongDataset, with the field to change."""
    datasets.check_name(project, name)
    if file_format not in FORMATS:
        raise WrongDataset("format", f"must be one of {', '.join(FORMATS)}, got {file_format!r}")
    _told(options or {})
    sweep()
    received = receive(upload, file_name)
    try:
        prepared = prepare(received, file_format, options or {})
    finally:
        received.path.unlink(missing_ok=True)
    try:
        return datasets.add(project=project, owner=owner, name=name, prepared=prepared)
    except BaseException:
        shutil.rmtree(settings.HOME / prepared.path, ignore_errors=True)
        raise


def remove(dataset: Dataset, *, by: User) -> None:
    """Drop a data set, row first. Raises InUse."""
    folder = settings.HOME / dataset.path
    datasets.delete(dataset, by=by)
    shutil.rmtree(folder, ignore_errors=True)


def receive(upload: Iterable[bytes], file_name: str) -> Received:
    """Write the bytes as they come. Raises WrongDataset where there are too many or none."""
    folder = _folder("uploads")
    # The ending says what it is; the rest of a visitor's name has no place on our disk.
    path = folder / f"{uuid.uuid4().hex}{''.join(Path(file_name).suffixes[-2:])[-20:].lower()}"
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("xb") as file:
            for piece in upload:
                size += len(piece)
                if size > MOST_BYTES:
                    raise WrongDataset("file", f"may have {MOST_BYTES // 1024**3} GiB at most")
                digest.update(piece)
                file.write(piece)
        if not size:
            raise WrongDataset("file", "is empty")
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WrongDataset("file", "can't be stored: the server's disk is full") from None
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Received(path, digest.hexdigest(), size)


def prepare(received: Received, file_format: str, options: Mapping[str, Any]) -> Prepared:
    """Have a child read the file into arrays. Raises WrongDataset."""
    folder = _folder("datasets") / uuid.uuid4().hex
    command = [sys.executable, "-m", "workers.datasets", str(received.path), str(folder)]
    command += ["--format", file_format, "--options", _told(options)]
    try:
        with AT_ONCE:
            done = subprocess.run(
                command,
                cwd=settings.BASE_DIR,
                env=_environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=PREPARE_SECONDS,
            )
    except subprocess.TimeoutExpired:
        _forget(folder)
        raise WrongDataset("file", f"took longer than {PREPARE_SECONDS // 60} minutes to read") from None
    if done.returncode != 0:
        _forget(folder)
        raise _refusal(done)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    path = folder.relative_to(settings.HOME).as_posix()
    return Prepared(
        kind=told["kind"],
        format=told["format"],
        examples=told["examples"],
        info=told["info"],
        path=path,
        sha256=received.sha256,
        size_bytes=received.size_bytes,
    )


def _told(options: Mapping[str, Any]) -> str:
    """Options as the child takes them. Raises WrongDataset."""
    try:
        told = json.dumps(dict(options))
    except RecursionError:
        raise WrongDataset("options", "is nested too deep") from None
    if len(told) > MOST_OPTIONS:
        raise WrongDataset("options", f"may have {MOST_OPTIONS:,} characters at most")
    return told


def sweep() -> None:
    """Remove what uploads that died have left."""
    named = set(Dataset.objects.values_list("path", flat=True))
    before = time.time() - FORGOTTEN_SECONDS
    for path in [*_folder("uploads").iterdir(), *_folder("datasets").iterdir()]:
        with suppress(FileNotFoundError):  # another upload is through with it
            if path.relative_to(settings.HOME).as_posix() in named or path.stat().st_mtime > before:
                continue
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _refusal(done: subprocess.CompletedProcess[str]) -> Exception:
    if done.returncode == BAD_DATA:
        told = json.loads(done.stderr.strip().splitlines()[-1])
        return WrongDataset(told["field"], told["message"])
    if done.returncode < 0:
        return WrongDataset("file", "needs more memory or time to read than a data set may")
    return RuntimeError(f"preparing a data set failed with status {done.returncode}: {done.stderr[-2000:]}")


def _forget(folder: Path) -> None:
    """Remove what a child that was ended has written, under its last name or a passing one beside it."""
    for left in [folder, *folder.parent.glob(f".{folder.name}-*")]:
        shutil.rmtree(left, ignore_errors=True)


def _folder(name: str) -> Path:
    folder = Path(settings.HOME) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _environment() -> dict[str, str]:
    """What a program needs to start, and no secret: no address of a database, no key."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ}
