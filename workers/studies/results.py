"""results.csv: one line for each finished cell, safe on disk before the next one is thought of."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE = "results.csv"
TRACES = "traces"
TEXT = frozenset({"cell", "run", "stage", "method", "rate", "outcome", "message", "weights_hash"})
"""Columns that are never numbers."""

Row = dict[str, Any]


class Results:
    """The rows of a study, in memory and in its file. One process writes it; others may read meanwhile."""

    def __init__(self, folder: Path) -> None:
        """Read what is there, all but a torn last line. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / FILE
        self._lock: int | None = None
        self.rows: list[Row] = []
        self._columns: list[str] = []
        if self._path.exists():
            self._columns, self.rows = read(self._path)

    def begin(self) -> None:
        """Become the one that writes. Raises OSError where another one does.

        A torn last line is cut off: its cell is computed again.
        """
        if self._lock is not None:
            return
        lock = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise OSError(f"another study is at work in {self._folder}") from None
        self._lock = lock
        if self._path.exists():
            data = self._path.read_bytes()
            os.truncate(self._path, data.rfind(b"\n") + 1)
            self._columns, self.rows = read(self._path)

    def end(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def done(self) -> set[str]:
        """Keys of the cells that are finished."""
        return {row["cell"] for row in self.rows}

    def runs(self) -> dict[str, Row]:
        """What is known of each run: cells of other labels may be the same run."""
        return {row["run"]: row for row in self.rows}

    def add(self, row: Row) -> None:
        """Append a line and have it on disk. Raises OSError."""
        self.begin()
        new = [name for name in row if name not in self._columns]
        self.rows.append(row)
        if new:
            self._columns += new
            self._rewrite()
            return
        with open(self._path, "a", newline="") as file:
            file.write(_line(self._columns, row))
            _to_disk(file)

    def _rewrite(self) -> None:
        """The first line names the columns; a new column is a new file in the old one's place."""
        fresh = self._path.with_suffix(".new")
        with open(fresh, "w", newline="") as file:
            file.write(_line(self._columns, {name: name for name in self._columns}))
            file.writelines(_line(self._columns, row) for row in self.rows)
            _to_disk(file)
        os.replace(fresh, self._path)

    def keep_traces(self, run: str, traces: Mapping[str, tuple[list[float], list[float]]]) -> None:
        if traces:
            folder = self._folder / TRACES
            folder.mkdir(exist_ok=True)
            (folder / f"{run}.json").write_text(json.dumps(traces))

    def traces(self, run: str) -> dict[str, tuple[list[float], list[float]]]:
        """Lines over time of a run: seconds and values. Empty: none were recorded."""
        file = self._folder / TRACES / f"{run}.json"
        found: dict[str, tuple[list[float], list[float]]] = json.loads(file.read_text()) if file.exists() else {}
        return found


def read(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of such a file; an empty field is None. A last line without its end is left out."""
    with open(path, newline="") as file:
        whole = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(whole)
    rows = [{name: _value(name, text) for name, text in row.items()} for row in reader]
    return list(reader.fieldnames or []), rows


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a table whose columns are those of its first row."""
    rows = list(rows)
    with open(path, "w", newline="") as file:
        columns = list(rows[0]) if rows else []
        file.writelines(_line(columns, row) for row in [{name: name for name in columns}, *rows])


def _line(columns: list[str], row: Row) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(["" if row.get(c) is None else row[c] for c in columns])
    return out.getvalue()


def _value(name: str, text: str) -> Any:
    if text == "":
        return None
    if name in TEXT:
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and "." not in text and "e" not in text else number


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
