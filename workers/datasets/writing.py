"""A folder that is there only when all of it is on disk."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.datasets.errors import BadData
from workers.datasets.stored import INFO


class ArrayFile:
    """One .npy file, written row by row: a mapping of it would die of SIGBUS on a full disk."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._dtype, self._shape, self._rows = np.dtype(dtype), shape, 0
        self._file = path.open("xb")
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Raises OSError, also where the disk is full."""
        assert rows.shape[1:] == self._shape[1:]
        self._file.write(np.ascontiguousarray(rows, self._dtype).data.cast("B"))
        self._rows += len(rows)

    def close(self) -> None:
        assert self._rows == self._shape[0], "fewer rows than the header says"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class Folder:
    """Where the arrays of one data set are written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> ArrayFile:
        return ArrayFile(self.path / f"{name}.npy", shape, dtype)

    def whole_array(self, name: str, values: npt.NDArray[Any]) -> None:
        file = self.array(name, values.shape, values.dtype)
        if len(values):
            file.append(values)
        file.close()

    def info(self, info: dict[str, Any]) -> None:
        with (self.path / INFO).open("x", encoding="utf-8") as file:
            json.dump(info, file, ensure_ascii=False, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def folder(target: Path) -> Iterator[Folder]:
    """Write into a folder beside `target`, and give it that name at the end. Raises BadData where it exists."""
    if target.exists():
        raise BadData("output", f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield Folder(partial)
        for path in partial.iterdir():
            sync(path)
        sync(partial)
        partial.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
