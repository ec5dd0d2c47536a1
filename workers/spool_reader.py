"""Reads what a child has spooled, from where the last reader stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workers.events import MAX_PAYLOAD_BYTES, SPOOL_NAME, Batch, decode

# More than one frame can hold, or a large frame would never be seen whole.
READ_BYTES = 2 * MAX_PAYLOAD_BYTES


class SpoolReader:
    """Tails the numbered spool files of one working directory. The caller says what it has stored."""

    def __init__(self, work_dir: Path, *, file: int = 1, offset: int = 0) -> None:
        self.work_dir = work_dir
        self.file = file
        self.offset = offset

    def read(self) -> Iterator[tuple[Batch, int, int]]:
        """Yield each whole batch and the file and offset behind it. Raises SpoolError for a damaged frame.

        The position moves on when the caller comes back for the next batch: if storing one fails, it is
        read again.
        """
        while True:
            buffer = self._rest()
            at = 0
            while (found := decode(buffer, at)) is not None:
                batch, end = found
                yield batch, self.file, self.offset + end - at
                self.offset += end - at
                at = end
            if at:
                continue  # There may be more than one read's worth
            # The writer opens the next file only when it is done with this one, so look at this one once more.
            if not self._path(self.file + 1).exists() or self._rest():
                return
            self._path(self.file).unlink(missing_ok=True)
            self.file, self.offset = self.file + 1, 0

    def skip_damage(self) -> None:
        """Go on behind a damaged frame: at the next file, or at the end of this one."""
        if self._path(self.file + 1).exists():
            self.file, self.offset = self.file + 1, 0
        else:
            self.offset = self._path(self.file).stat().st_size

    def _path(self, number: int) -> Path:
        return self.work_dir / SPOOL_NAME.format(number)

    def _rest(self) -> bytes:
        try:
            with self._path(self.file).open("rb") as spool:
                spool.seek(self.offset)
                return spool.read(READ_BYTES)
        except FileNotFoundError:
            return b""
