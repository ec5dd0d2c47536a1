"""Files inside of files: zip, tar, gzip. Nothing is unpacked to disk, and nothing read before its size is known."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from workers.datasets.errors import BadData
from workers.datasets.limits import Limits

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
PIECE_BYTES = 1024 * 1024
LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


class Archive(ABC):
    """The plain files of a zip or tar file, by name, in the order they lie in it."""

    names: list[str]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file of it. Raises BadData where it is damaged."""


class ZipArchive(Archive):
    def __init__(self, path: Path, limits: Limits) -> None:
        try:
            self._file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise BadData("file", f"this zip file can't be read: {error}") from None
        entries = [e for e in self._file.infolist() if not e.is_dir()]
        check_count(len(entries), limits)
        for entry in entries:
            check_name(entry.filename)
            if entry.flag_bits & 1:
                raise BadData("file", f"{entry.filename} is encrypted")
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise BadData("file", f"{entry.filename} is a link; put in the file itself")
        limits.check_unpacked(sum(e.file_size for e in entries), path.stat().st_size)
        self.names = [e.filename for e in entries if not is_litter(e.filename)]

    def read(self, name: str) -> bytes:
        try:
            return self._file.read(name)  # never more than its entry says: zipfile counts
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise BadData("file", f"{name} can't be unpacked: {error}") from None


class TarArchive(Archive):
    def __init__(self, path: Path, limits: Limits) -> None:
        self._members: dict[str, tarfile.TarInfo] = {}
        total, packed = 0, path.stat().st_size
        try:
            self._file = tarfile.open(path)  # noqa: SIM115 - open as long as this is
            for member in self._file:
                if member.isdir():
                    continue
                check_name(member.name)
                if not member.isreg():
                    raise BadData("file", f"{member.name} is no plain file; put in the file itself")
                total += member.size
                limits.check_unpacked(total, packed)
                check_count(len(self._members) + 1, limits)
                if not is_litter(member.name):
                    self._members[member.name] = member
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
            raise BadData("file", f"this tar file can't be read: {error}") from None
        self.names = list(self._members)

    def read(self, name: str) -> bytes:
        try:
            file = self._file.extractfile(self._members[name])
            assert file is not None, "only plain files are members"
            return file.read()
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
            raise BadData("file", f"{name} can't be unpacked: {error}") from None


def open_archive(path: Path, limits: Limits) -> Archive:
    """Raises BadData."""
    with path.open("rb") as file:
        is_zip = file.read(4) in ZIP
    return ZipArchive(path, limits) if is_zip else TarArchive(path, limits)


def check_count(count: int, limits: Limits) -> None:
    if count > limits.entries:
        raise BadData("file", f"holds more than {limits.entries:,} files")


def check_name(name: str) -> None:
    """Nothing is unpacked to disk; a name that would leave its folder is no honest one all the same. Raises BadData."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name.isprintable():
        raise BadData("file", f"{name!a} is no name that can be shown")
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise BadData("file", f"{name!r} points out of the archive")


def is_litter(name: str) -> bool:
    """What systems leave in archives, and hidden files."""
    return any(part in LITTER or part.startswith(".") for part in PurePosixPath(name).parts)


def gunzipped(data: bytes, limits: Limits) -> bytes:
    """Unpack gzip, no further than the limits go; other bytes as they are. Raises BadData."""
    if not data.startswith(GZIP):
        return data
    pieces, total = [], 0
    try:
        with gzip.open(io.BytesIO(data)) as file:
            while piece := file.read(PIECE_BYTES):
                total += len(piece)
                limits.check_unpacked(total, len(data))
                pieces.append(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData("file", f"the compressed data are damaged: {error}") from None
    return b"".join(pieces)


def read_whole(path: Path, limits: Limits) -> bytes:
    """A file's bytes, unpacked where it is gzip. Raises BadData."""
    limits.check_unpacked(path.stat().st_size, path.stat().st_size)
    return gunzipped(path.read_bytes(), limits)


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file, unpacked where it is gzip. Raises BadData."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            file.seek(0)
            return file.read(count)
    try:
        with gzip.open(path) as packed:
            return packed.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData("file", f"the compressed data are damaged: {error}") from None
