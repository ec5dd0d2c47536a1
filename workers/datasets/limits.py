"""How large an upload may become, and how much of the machine its preparation may take."""

from __future__ import annotations

import contextlib
import resource
import signal
from dataclasses import dataclass

from workers.datasets.errors import BadData

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read from a file, each checked before the memory is taken."""

    unpacked_bytes: int = 8 * GIB
    """All that an archive or a compressed file holds."""
    unpacked_ratio: int = 200
    """Unpacked bytes per packed byte, beyond the first `free_bytes`: images and text stay far below."""
    free_bytes: int = 16 * MIB
    entries: int = 6_000_000
    """Files in an archive."""
    examples: int = 5_000_000
    stored_bytes: int = 64 * GIB
    """Arrays on disk, all together."""
    side_pixels: int = 4096
    classes: int = 10_000
    columns: int = 10_000
    info_bytes: int = 4 * MIB
    """What is told of a data set: names of its classes and columns, mainly. It goes into the database."""
    categories: int = 64
    """Different texts in one column of a table."""
    text_bytes: int = 1 * GIB
    characters: int = 4096
    """Different characters in a text."""

    def check_unpacked(self, unpacked: int, packed: int) -> None:
        """Raises BadData."""
        if unpacked > self.unpacked_bytes:
            raise BadData("file", f"holds {size(unpacked)} unpacked; at most {size(self.unpacked_bytes)} are taken")
        if unpacked > self.free_bytes and unpacked > self.unpacked_ratio * max(1, packed):
            raise BadData(
                "file", f"unpacks to more than {self.unpacked_ratio} times its size: pack it less, or not at all"
            )

    def check_examples(self, count: int) -> None:
        """Raises BadData."""
        if count > self.examples:
            raise BadData("file", f"has {count:,} examples; at most {self.examples:,} are taken")

    def check_columns(self, count: int) -> None:
        """Raises BadData."""
        if count > self.columns:
            raise BadData("file", f"has {count:,} columns; at most {self.columns:,} are taken")

    def check_classes(self, count: int, field: str) -> None:
        """Raises BadData."""
        if count > self.classes:
            raise BadData(field, f"has {count:,} classes; at most {self.classes:,} are taken")
        if count < 2:
            raise BadData(field, "has one class only; there is nothing to tell apart")


ADDRESS_SPACE_BYTES = 24 * GIB
PROCESSOR_SECONDS = 3600
GRACE_SECONDS = 30


def size(count: int) -> str:
    """`8.0 GiB`, `12 KiB`."""
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{count / 1024:.0f} KiB"


def confine() -> None:
    """Bound this process. Past its processor time it ends with BadData, past its memory with MemoryError."""
    signal.signal(signal.SIGXCPU, _out_of_time)
    for what, soft, hard in (
        (resource.RLIMIT_CPU, PROCESSOR_SECONDS, PROCESSOR_SECONDS + GRACE_SECONDS),
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with contextlib.suppress(ValueError):  # somebody has bounded it further already
            resource.setrlimit(what, (soft, hard))


def _out_of_time(number: int, frame: object) -> None:
    raise BadData("file", f"takes more than {PROCESSOR_SECONDS} s of processor time to prepare")
