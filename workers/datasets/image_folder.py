"""A zip or tar file of images in a folder for each class: `cat/1.png`, or `train/cat/1.png` and `test/cat/2.png`."""

from __future__ import annotations

import io
import warnings
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.datasets.archives import Archive, open_archive
from workers.datasets.errors import BadData
from workers.datasets.images import LabelledImages
from workers.datasets.limits import Limits
from workers.datasets.options import Options
from workers.problems.splits import Indices

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
READERS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
GRAY = {"1", "L", "LA", "I", "I;16", "F"}
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")


class Files:
    """Images that are decoded when they are asked for."""

    def __init__(self, archive: Archive, names: list[str], labels: npt.NDArray[np.int64], look: Look) -> None:
        self._archive, self._names, self._look = archive, names, look
        self.labels = labels

    def block(self, rows: Indices) -> npt.NDArray[np.uint8]:
        return np.stack([self._look.pixels(self._archive, self._names[row]) for row in rows])


class Look:
    """How every image of a data set is to come out."""

    def __init__(self, archive: Archive, names: list[str], options: Options, limits: Limits) -> None:
        """Looks at the heads of all images. Raises BadData at the first that is not like the others."""
        self._resized, self._limits = options.size, limits
        self._first, self._mode = names[0], "RGB"
        gray, self.side = True, (0, 0)
        for name in names:
            with opened(archive, name, limits) as image:
                gray = gray and image.mode in GRAY
                self._check_side(name, image.size)
        if options.colour == "gray" or (options.colour == "auto" and gray):
            self._mode = "L"

    def _check_side(self, name: str, side: tuple[int, int]) -> None:
        """`side` is (width, height)."""
        if self._resized is not None:
            self.side = (self._resized, self._resized)
        elif name == self._first:
            self.side = side
        elif side != self.side:
            one, other = (f"{w}×{h}" for w, h in (self.side, side))
            raise BadData(
                "file",
                f"{name} is {other} pixels and {self._first} is {one}: make them all the same, "
                "or give option size to have all resized to so many pixels a side",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1 if self._mode == "L" else 3, self.side[1], self.side[0])

    def pixels(self, archive: Archive, name: str) -> npt.NDArray[np.uint8]:
        """(channels, height, width). Raises BadData."""
        with opened(archive, name, self._limits) as image:
            try:
                found = image.convert(self._mode)
                if found.size != self.side:
                    found = found.resize(self.side, Image.Resampling.BILINEAR)
            except (OSError, ValueError, SyntaxError, EOFError) as error:
                raise BadData("file", f"{name} is damaged: {error}") from None
        array = np.asarray(found, np.uint8)
        return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


def opened(archive: Archive, name: str, limits: Limits) -> Image.Image:
    """An image whose head is read, its pixels not yet. Raises BadData."""
    warnings.simplefilter("ignore")  # Pillow's own word about large images: we have a bound
    try:
        image = Image.open(io.BytesIO(archive.read(name)), formats=READERS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadData("file", f"{name} is no image that can be read: {error}") from None
    if max(image.size) > limits.side_pixels:
        width, height = image.size
        raise BadData("file", f"{name} is {width}×{height} pixels; at most {limits.side_pixels} a side are taken")
    return image


def read(path: Path, options: Options, limits: Limits) -> LabelledImages:
    """Raises BadData."""
    archive = open_archive(path, limits)
    images = [name for name in archive.names if PurePosixPath(name).suffix.lower() in ENDINGS]
    notes = []
    if left := len(archive.names) - len(images):
        notes.append(f"{left:,} files that are no images were left out")
    if not images:
        raise BadData("file", "holds no images: there should be a folder for each class, with its images in it")
    limits.check_examples(len(images))
    parts = sorted_out(images)
    classes = sorted({name_of_class for part in parts.values() for name_of_class in part})
    look = Look(archive, images, options, limits)
    sources = {part: files(archive, members, classes, look) for part, members in parts.items()}
    return LabelledImages(sources["train"], sources.get("test"), classes, look.shape, notes=notes)


def files(archive: Archive, members: dict[str, list[str]], classes: list[str], look: Look) -> Files:
    """In the order they lie in the archive: a compressed tar file can only be read from front to back."""
    number = {group: index for index, group in enumerate(classes)}
    label = {name: number[group] for group, names in members.items() for name in names}
    names = [name for name in archive.names if name in label]
    return Files(archive, names, np.array([label[name] for name in names], np.int64), look)


def sorted_out(names: list[str]) -> dict[str, dict[str, list[str]]]:
    """Files by part and class. Raises BadData where a file lies neither in a class nor in a part's class."""
    paths = {name: PurePosixPath(name).parts for name in sorted(names)}
    while len({parts[0] for parts in paths.values()}) == 1 and all(len(parts) > 2 for parts in paths.values()):
        paths = {name: parts[1:] for name, parts in paths.items()}  # one folder around everything
    tops = {parts[0].lower() for parts in paths.values()}
    in_parts = bool(tops & set(TRAIN)) and tops <= {*TRAIN, *TEST} and len(tops) > 1
    held_out = sorted(tops & set(TEST))
    if in_parts and len(held_out) > 1:
        raise BadData("file", f"has folders {' and '.join(held_out)}: one part is held out; take the others away")
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, parts in paths.items():
        if len(parts) != (3 if in_parts else 2):
            where = "train/CLASS/ or test/CLASS/" if in_parts else "a folder that is its class"
            raise BadData("file", f"{name} should lie in {where}")
        part = "test" if in_parts and parts[0].lower() in TEST else "train"
        found[part][parts[-2]].append(name)
    return found
