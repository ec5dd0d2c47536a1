"""The files of MNIST and its kin (LeCun, Cortes & Burges, 1998): IDX, each gzip or plain, together in a zip or tar.

Four files, of which those of the test have `t10k` or `test` in their names; or one pair of images and labels.
"""

from __future__ import annotations

from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.datasets.archives import gunzipped, open_archive
from workers.datasets.errors import BadData
from workers.datasets.images import InMemory, LabelledImages
from workers.datasets.limits import Limits
from workers.datasets.options import Options

BYTES = 0x08
"""IDX's number for unsigned bytes, the only kind that images and labels come in."""
TEST_NAMES = ("t10k", "test")


def parse(name: str, data: bytes) -> npt.NDArray[np.uint8]:
    """Raises BadData."""
    if len(data) < 4 or data[:2] != b"\0\0":
        raise BadData(name, "is no IDX file: it should begin with two bytes of zero")
    kind, dimensions = data[2], data[3]
    if kind != BYTES:
        raise BadData(name, f"holds numbers of type {kind:#04x}; only unsigned bytes (0x08) are taken")
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist()) if len(data) >= start else ()
    if not shape or len(data) - start != prod(shape):
        raise BadData(name, f"has another length than its head says ({' × '.join(map(str, shape)) or 'no head'})")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read(path: Path, options: Options, limits: Limits) -> LabelledImages:
    """Raises BadData."""
    archive = open_archive(path, limits)
    found: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
    for name in archive.names:
        array = parse(name, gunzipped(archive.read(name), limits))
        part = "test" if any(t in PurePosixPath(name).name.lower() for t in TEST_NAMES) else "train"
        what = {1: "labels", 3: "images"}.get(array.ndim)
        if what is None:
            raise BadData(name, f"has {array.ndim} dimensions: images have 3, labels 1")
        if (part, what) in found:
            raise BadData(name, f"is the second file with {what} of the {part} part")
        found[part, what] = array
    train = pair(found, "train")
    test = pair(found, "test") if any(part == "test" for part, _ in found) else None
    classes = 1 + max(int(p.labels.max(initial=0)) for p in (train, test) if p)
    if test and test.pixels.shape[1:] != train.pixels.shape[1:]:
        raise BadData("file", "images of the training and of the test part differ in size")
    shape = (1, train.pixels.shape[2], train.pixels.shape[3])
    return LabelledImages(train, test, [str(c) for c in range(classes)], shape)


def pair(found: dict[tuple[str, str], npt.NDArray[Any]], part: str) -> InMemory:
    missing = [what for what in ("images", "labels") if (part, what) not in found]
    if missing:
        raise BadData("file", f"has no {' and no '.join(missing)} of the {part} part")
    images, labels = found[part, "images"], found[part, "labels"]
    if len(images) != len(labels):
        raise BadData("file", f"has {len(images):,} images and {len(labels):,} labels in the {part} part")
    return InMemory(labels.astype(np.int64), images[:, None])
