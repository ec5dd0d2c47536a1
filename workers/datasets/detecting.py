"""Tells a file's format by its contents: a name says little, and uploads lose theirs."""

from __future__ import annotations

import csv
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from workers.datasets.archives import GZIP, ZIP, beginning, open_archive
from workers.datasets.errors import BadData
from workers.datasets.image_folder import ENDINGS
from workers.datasets.limits import Limits
from workers.datasets.options import FORMATS, Format
from workers.datasets.table_files import DELIMITERS

PARQUET = b"PAR1"
LOOK_BYTES = 65_536
LOOK_LINES = 20
BY_NAME: dict[str, Format] = {"csv": "csv", "tsv": "csv", "txt": "text"}
"""Where the contents may be either: a text can look like a table."""
CHOICE = f"give its format: {', '.join(FORMATS)}"


def detect(path: Path, limits: Limits) -> Format:
    """Raises BadData where it can't be told."""
    with path.open("rb") as file:
        head = file.read(len(PARQUET))
    if not head:
        raise BadData("file", "is empty")
    if head == PARQUET:
        return "parquet"
    if head in ZIP or is_tar(path, head):
        return of_archive(path, limits)
    return BY_NAME.get(path.name.removesuffix(".gz").rpartition(".")[2].lower()) or of_text(beginning(path, LOOK_BYTES))


def is_tar(path: Path, head: bytes) -> bool:
    """Whether it is a tar file, plain or compressed. A compressed one is unpacked as far as its first entry's head."""
    packed = head[:2] == GZIP or head[:3] == b"BZh" or head.startswith(b"\xfd7zX")
    try:
        return (packed or beginning(path, 265)[257:262] == b"ustar") and tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def of_archive(path: Path, limits: Limits) -> Format:
    """By what lies in it. Raises BadData."""
    names = [PurePosixPath(name.lower()) for name in open_archive(path, limits).names]
    plain = [n.name.removesuffix(".gz") for n in names]
    if names and all(n.suffix == ".npy" for n in names):
        return "npz"
    if any(n.suffix in ENDINGS for n in names):
        return "image-folder"
    if any("idx" in n or n.endswith("ubyte") for n in plain):
        return "idx"
    if any(n.endswith(".bin") for n in plain) or "batches.meta" in plain or {"train", "meta"} <= set(plain):
        return "cifar"
    held = ", ".join(sorted(map(str, names))[:5]) or "nothing"
    raise BadData(
        "file", f"is an archive of {held}: no images, arrays, IDX or CIFAR files. Upload tables and texts as they are"
    )


def of_text(start: bytes) -> Format:
    """A table where its first lines have the same number of cells, and more than one. Raises BadData."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # a character may be cut off at the end
            raise BadData("file", f"is of no format that is known here; {CHOICE}") from None
        text = start[: error.start].decode("utf-8")
    lines = text.splitlines()
    lines = (lines[:-1] if len(start) == LOOK_BYTES else lines)[:LOOK_LINES]  # the last one may be cut off
    if len(lines) > 1:
        rows = csv.reader(lines, delimiter=max(DELIMITERS, key=lines[0].count))
        cells = {len(row) for row in rows if row}
        if len(cells) == 1 and cells.pop() > 1:
            return "csv"
    return "text"
