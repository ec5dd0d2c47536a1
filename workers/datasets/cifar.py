"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their binary version, as it is downloaded: a tar.gz of .bin files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from workers.datasets.archives import Archive, open_archive
from workers.datasets.errors import BadData
from workers.datasets.images import InMemory, LabelledImages
from workers.datasets.limits import Limits
from workers.datasets.options import Options

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
PICKLED = ("data_batch_1", "test_batch", "batches.meta", "train", "test", "meta")
NAMES = {"batches.meta.txt", "fine_label_names.txt"}


def read(path: Path, options: Options, limits: Limits) -> LabelledImages:
    """Raises BadData."""
    archive = open_archive(path, limits)
    files = {PurePosixPath(name).name: name for name in archive.names}
    batches = sorted(name for name in files if name.endswith(".bin"))
    if not batches:
        refuse_pickles(files)
        raise BadData("file", "holds no .bin files: this is no binary version of CIFAR")
    # CIFAR-100 has two labels an image; its files are train.bin and test.bin
    label_bytes = 2 if set(batches) <= {"train.bin", "test.bin"} else 1
    train = [name for name in batches if "test" not in name]
    test = [name for name in batches if "test" in name]
    if not train or not test:
        raise BadData("file", "should hold batches for the training and one for the test")
    parts = [records(archive, [files[name] for name in names], label_bytes) for names in (train, test)]
    count = 1 + max(int(part.labels.max(initial=0)) for part in parts)
    return LabelledImages(parts[0], parts[1], class_names(archive, files, count), SHAPE)


def refuse_pickles(files: dict[str, str]) -> None:
    """Raises BadData where these are the files of the Python version."""
    if any(name in files for name in PICKLED):
        raise BadData(
            "file",
            "this is the Python version of CIFAR: pickle files, which can run code when they are read. "
            "Upload the binary version instead (cifar-10-binary.tar.gz or cifar-100-binary.tar.gz)",
        )


def records(archive: Archive, names: list[str], label_bytes: int) -> InMemory:
    """Each record is its labels, the finest last, then red, green and blue, line by line. Raises BadData."""
    pieces = []
    for name in names:
        data = np.frombuffer(archive.read(name), np.uint8)
        if not len(data) or len(data) % (label_bytes + PIXELS):
            raise BadData("file", f"{name} is no batch of records of {label_bytes + PIXELS} bytes")
        pieces.append(data.reshape(-1, label_bytes + PIXELS))
    joined = np.concatenate(pieces)
    labels = joined[:, label_bytes - 1].astype(np.int64)
    return InMemory(labels, joined[:, label_bytes:].reshape(-1, *SHAPE))


def class_names(archive: Archive, files: dict[str, str], count: int) -> list[str]:
    """Those of the file that comes along, else numbers."""
    for name in sorted(NAMES & files.keys()):
        lines = archive.read(files[name]).decode("utf-8", "replace").split()
        if len(lines) >= count:
            return lines
    return [str(c) for c in range(count)]
