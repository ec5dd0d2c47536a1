"""NumPy's archives: arrays x and y, and x_test and y_test where there are any.

They are images or a table, by x's dimensions.
"""

from __future__ import annotations

import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.datasets.archives import ZipArchive
from workers.datasets.errors import BadData, check_finite
from workers.datasets.images import InMemory, LabelledImages
from workers.datasets.limits import Limits, size
from workers.datasets.options import Options
from workers.datasets.tables import Columns, TableParts, Target

NAMES = ("x", "y", "x_test", "y_test")
MOST_CHANNELS = 4
Array = npt.NDArray[Any]


def read(path: Path, options: Options, limits: Limits) -> LabelledImages | TableParts:
    """Raises BadData that names the array."""
    arrays = load(path, limits)
    for part in ("", "_test"):
        check_pair(arrays, part, limits)
    if arrays["x"].ndim == 2:
        return table(arrays, options)
    if options.task == "regression":
        raise BadData("options.task", "must be classification for images")
    return images(arrays, options)


def load(path: Path, limits: Limits) -> dict[str, Array]:
    """Arrays by name, of types that hold no code."""
    names = {name.removesuffix(".npy"): name for name in ZipArchive(path, limits).names}
    for name in names:
        if name not in NAMES:
            raise BadData(name, f"is not known; arrays are {', '.join(NAMES)}")
    for name in ("x", "y", *(("x_test", "y_test") if names.keys() & {"x_test", "y_test"} else ())):
        if name not in names:
            raise BadData(name, "is missing")
    with zipfile.ZipFile(path) as archive:
        return {name: load_one(archive, name, entry, limits) for name, entry in names.items()}


def load_one(archive: zipfile.ZipFile, name: str, entry: str, limits: Limits) -> Array:
    """One array, its head looked at before memory is taken for it. Raises BadData."""
    try:
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = head(file)
        if dtype.hasobject:
            raise BadData(name, "holds Python objects, which can run code when they are read; it must hold numbers")
        if dtype.kind not in "buif":
            raise BadData(name, f"is an array of {dtype}; it must hold numbers")
        if prod(shape) * dtype.itemsize > limits.unpacked_bytes:
            raise BadData(name, f"says it takes {size(prod(shape) * dtype.itemsize)}")
        with archive.open(entry) as file:
            found: Array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise BadData(name, f"can't be read: {error}") from None
    return found


def check_pair(arrays: dict[str, Array], part: str, limits: Limits) -> None:
    if f"x{part}" not in arrays:
        return
    x, y = arrays[f"x{part}"], arrays[f"y{part}"]
    if x.ndim not in (2, 3, 4):
        raise BadData(f"x{part}", f"has {x.ndim} dimensions: tables have 2, gray images 3, images with channels 4")
    if x.shape[1:] != arrays["x"].shape[1:] or x.dtype != arrays["x"].dtype:
        raise BadData(f"x{part}", f"is {x.dtype} {x.shape[1:]} an example, and x is otherwise")
    if y.ndim == 2 and y.shape[1] == 1:
        y = arrays[f"y{part}"] = y[:, 0]
    if y.ndim != 1:
        raise BadData(f"y{part}", f"has {y.ndim} dimensions; it must have 1: one value an example")
    if len(x) != len(y):
        raise BadData(f"y{part}", f"has {len(y):,} values for {len(x):,} examples")
    if not x.size:
        raise BadData(f"x{part}", "is empty")
    limits.check_examples(len(x))
    for name, array in ((f"x{part}", x), (f"y{part}", y)):
        if array.dtype.kind == "f":
            check_finite(name, array)


def labels_of(arrays: dict[str, Array], name: str) -> npt.NDArray[np.int64]:
    """Raises BadData unless they are whole numbers from 0."""
    values = arrays[name]
    if values.dtype.kind == "f":
        raise BadData(name, f"is {values.dtype}; labels must be whole numbers")
    if values.dtype.kind == "u" and values.dtype.itemsize == 8 and values.max() > np.iinfo(np.int64).max:
        raise BadData(name, f"holds the label {values.max()}; labels are 0 to the number of classes − 1")
    labels = values.astype(np.int64)
    if labels.min() < 0:
        raise BadData(name, f"holds the label {labels.min()}; labels are 0 to the number of classes − 1")
    return labels


def classes_of(arrays: dict[str, Array]) -> tuple[dict[str, npt.NDArray[np.int64]], list[str]]:
    """Labels of each part, and the classes' names. Raises BadData where a class has no training example."""
    labels = {name: labels_of(arrays, name) for name in NAMES if name.startswith("y") and name in arrays}
    there = np.unique(labels["y"])
    count = int(there[-1]) + 1
    if len(there) != count:
        absent = next(c for c, found in enumerate(np.append(there, -1)) if c != found)
        raise BadData("y", f"has no example of class {absent}, and one of {count - 1}: number classes without gaps")
    if "y_test" in labels and labels["y_test"].max() >= count:
        raise BadData("y_test", f"holds the label {labels['y_test'].max()}, which y does not")
    return labels, [str(c) for c in range(count)]


def images(arrays: dict[str, Array], options: Options) -> LabelledImages:
    labels, classes = classes_of(arrays)
    first = channels_first(arrays["x"], options)
    pixels = {name: as_pixels(arrays[name], first) for name in NAMES if name.startswith("x") and name in arrays}
    parts = [InMemory(labels[f"y{p}"], pixels[f"x{p}"]) for p in ("", "_test") if f"x{p}" in pixels]
    channels, height, width = pixels["x"].shape[1:]
    dtype = "uint8" if pixels["x"].dtype == np.uint8 else "float32"
    test = parts[1] if len(parts) > 1 else None
    return LabelledImages(parts[0], test, classes, (channels, height, width), dtype)


def channels_first(x: Array, options: Options) -> bool:
    """Raises BadData where the shape does not tell."""
    if x.ndim == 3 or options.layout != "auto":
        return options.layout != "channels-last" or x.ndim == 3
    first, last = (bool(x.shape[axis] <= MOST_CHANNELS) for axis in (1, 3))
    if first == last:
        raise BadData("x", f"has shape {x.shape}: give option layout to say where its channels are")
    return first


def as_pixels(x: Array, first: bool) -> Array:
    """(n, channels, height, width); whole numbers of 0 to 255 as bytes, others as float32."""
    if x.ndim == 3:
        x = x[:, None]
    elif not first:
        x = np.moveaxis(x, 3, 1)
    if x.dtype.kind in "ui" and (x.dtype == np.uint8 or (x.min() >= 0 and x.max() <= 255)):
        return x.astype(np.uint8, copy=False)
    return x.astype(np.uint8) if x.dtype.kind == "b" else x


def table(arrays: dict[str, Array], options: Options) -> TableParts:
    if options.layout != "auto":
        raise BadData("options.layout", "is for images; x has 2 dimensions, which makes it a table")
    names = [f"x{i}" for i in range(arrays["x"].shape[1])]
    regression = options.task == "regression" or (options.task == "auto" and arrays["y"].dtype.kind == "f")
    parts = [p for p in ("", "_test") if f"x{p}" in arrays]
    columns = [Columns.plain(names, arrays[f"x{p}"].astype(np.float64)) for p in parts]
    if regression:
        targets = [Target("y", arrays[f"y{p}"].astype(np.float64), None) for p in parts]
    else:
        labels, classes = classes_of(arrays)
        targets = [Target("y", labels[f"y{p}"], classes) for p in parts]
    test = (columns[1], targets[1]) if len(parts) > 1 else None
    return TableParts(columns[0], targets[0], test)
