"""How a child reports: cheap appends in the training thread, frames to the spool by a thread of its own.

Nothing here may block or raise into training. What can't be written is dropped and counted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers import events
from workers.events import Batch, Event, Points, Progress

FLUSH_SECONDS = 0.2
FILE_BYTES = 8 * 1024 * 1024
SPOOL_BYTES = 256 * 1024 * 1024
PENDING_POINTS = 1_000_000
"""Points held in memory while the disk does not keep up; one frame of them stays below its bound."""


class Table:
    """Series of one worker that get their points together, and so share x and t.

    One thread appends and one takes, without a lock: an append to a list and the removal of its head are each
    whole under the interpreter's lock. An append costs a fraction of a microsecond.
    """

    def __init__(self, worker: int, keys: tuple[str, ...]) -> None:
        self.worker = worker
        self.keys = keys
        self._rows: list[tuple[float, ...]] = []

    def add(self, *row: float) -> None:
        """Record x (a version), t (seconds since 1970) and one value for each key."""
        self._rows.append(row)

    def take(self) -> list[Points]:
        """Hand out what was recorded since the last call."""
        count = len(self._rows)
        rows = self._rows[:count]
        if not rows:
            return []
        del self._rows[:count]
        xs, ts, *columns = zip(*rows, strict=True)
        x, t = array("q", xs).tobytes(), array("d", ts).tobytes()
        pairs = zip(self.keys, columns, strict=True)
        return [Points(self.worker, key, x, t, array("d", ys).tobytes()) for key, ys in pairs]


class Spool:
    """Numbered append-only files, as `workers.events` describes them. Owned by the reporter's thread."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, total_bytes: int = SPOOL_BYTES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._total_bytes = total_bytes
        self._number = 1
        self._fd = self._open()

    def _open(self) -> int:
        path = self._folder / events.SPOOL_NAME.format(self._number)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def has_room(self) -> bool:
        """Count what lies on disk, for the supervisor deletes what it has stored."""
        used = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith("spool-"):
                    used += entry.stat().st_size
        return used < self._total_bytes

    def write(self, frame: bytes) -> None:
        """Append a whole frame or nothing. Raises OSError."""
        size = os.fstat(self._fd).st_size
        if size and size + len(frame) > self._file_bytes:
            os.close(self._fd)
            self._number += 1
            self._fd, size = self._open(), 0
        try:
            rest = memoryview(frame)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        os.close(self._fd)


class Reporter:
    """Collects points, events and progress of one child and writes them every `flush_seconds`."""

    def __init__(self, folder: Path, *, spool: Spool | None = None, clock: Callable[[], float] = time.time) -> None:
        self._spool = spool or Spool(folder)
        self._clock = clock
        self.flush_seconds = FLUSH_SECONDS
        self._lock = threading.Lock()
        self._tables: list[Table] = []
        self._singles: dict[tuple[int, str], Table] = {}
        self._events: list[Event] = []
        self._progress: Callable[[], Progress] | None = None
        self._last_progress: Progress | None = None
        self._sequence = 0
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def table(self, worker: int, keys: tuple[str, ...]) -> Table:
        table = Table(worker, keys)
        self._tables.append(table)
        return table

    def point(self, worker: int, key: str, x: int, y: float) -> None:
        """Record a single point. x must rise within a series."""
        table = self._singles.get((worker, key))
        if table is None:
            table = self._singles[worker, key] = self.table(worker, (key,))
        table.add(x, self._clock(), y)

    def event(self, kind: str, message: str, *, level: str = "info", **data: Any) -> None:
        happened = Event(kind, self._clock(), message, level, data)
        with self._lock:
            self._events.append(happened)

    def warn(self, message: str, **data: Any) -> None:
        self.event("warning", message, level="warning", **data)

    def watch(self, progress: Callable[[], Progress]) -> None:
        """Ask `progress` where the run stands at every flush; it is called from the reporter's thread."""
        self._progress = progress

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what is left and stop."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self.flush()
        self._spool.close()

    def _run(self) -> None:
        while not self._closing.wait(self.flush_seconds):
            self.flush()

    def flush(self) -> None:
        """Write one frame of what came since the last. Losing points is better than losing the run."""
        try:
            batch = self._take()
            if batch is not None:
                self._write(batch)
        except Exception as error:  # noqa: BLE001 - nothing may reach training from here
            print(f"telemetry was lost: {error!r}", file=sys.stderr)

    def _take(self) -> Batch | None:
        points = [p for table in list(self._tables) for p in table.take()]
        with self._lock:
            happened, self._events = self._events, []
        progress = self._progress() if self._progress else None
        if progress == self._last_progress:
            progress = None
        if not points and not happened and progress is None:
            return None
        count = sum(p.count for p in points)
        if points and (count > PENDING_POINTS or not self._spool.has_room()):
            self._dropped += count
            points = []
        return Batch(self._sequence + 1, points, happened, progress, self._dropped)

    def _write(self, batch: Batch) -> None:
        try:
            self._spool.write(events.encode(batch))
        except OSError as error:
            self._dropped += sum(p.count for p in batch.points)
            with self._lock:
                self._events[:0] = batch.events
            print(f"spool: {error}; {self._dropped} points dropped so far", file=sys.stderr)
            return
        self._sequence = batch.sequence
        self._last_progress = batch.progress or self._last_progress
        self._dropped = 0
