"""Reads what a child printed, line by line, from where the last reader stopped."""

from __future__ import annotations

from pathlib import Path

READ_BYTES = 64 * 1024
LINE_CHARACTERS = 2000


class LogReader:
    """Tails one file. The caller moves `offset` when it has stored what it read."""

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def read(self) -> tuple[list[str], int]:
        """Whole lines behind `offset`, and the offset behind them. A line longer than a read is cut."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                raw = file.read(READ_BYTES)
        except FileNotFoundError:
            return [], self.offset
        end = raw.rfind(b"\n") + 1 or (len(raw) if len(raw) == READ_BYTES else 0)
        # PostgreSQL's text holds no NUL.
        text = raw[:end].decode(errors="replace").replace("\x00", "\ufffd")
        return [line[:LINE_CHARACTERS] for line in text.splitlines()], self.offset + end
