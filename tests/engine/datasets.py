"""Small uploads of every format, and data sets made of them."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from workers.datasets import options
from workers.datasets.limits import Limits
from workers.datasets.options import Format
from workers.datasets.preparing import prepare
from workers.datasets.progress import Progress

LINES = ("To be, or not to be, that is the question:", "Whether 'tis nobler", "in the mind, to suffer")
TEXT = "".join(f"{line}\n" for line in LINES) * 20
TABLE = "age,town,score\n" + "".join(f"{i},{'ab'[i % 2]},{2 * i + 0.5}\n" for i in range(40))


def prepared(
    file: Path, out: Path, *, limits: Limits | None = None, file_format: Format | None = None, **given: Any
) -> dict[str, Any]:
    """Prepare a file with the options that are given; returns its info."""
    return prepare(
        file,
        out,
        file_format=file_format,
        options=options.parse(given),
        limits=limits,
        progress=Progress(io.StringIO()),
    )


def arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def plain(shade: int, height: int = 8, width: int = 8) -> bytes:
    """A PNG of one colour."""
    return png(np.full((height, width, 3), shade, np.uint8))


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def npz(path: Path, **given: npt.NDArray[Any]) -> Path:
    np.savez_compressed(path, **given)  # type: ignore[arg-type]
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def idx(array: npt.NDArray[np.uint8], *, packed: bool = True) -> bytes:
    data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    return gzip.compress(data) if packed else data


def squares(count: int = 40, *, side: int = 8, channels: int = 3) -> dict[str, npt.NDArray[Any]]:
    """x and y of images that are dark (0) or bright (1), with some noise."""
    random = np.random.default_rng(0)
    y = np.arange(count) % 2
    x = random.integers(0, 100, (count, channels, side, side)) + 150 * y[:, None, None, None]
    return {"x": x.astype(np.uint8), "y": y}


def images_folder(tmp_path: Path, count: int = 40, side: int = 8) -> Path:
    """A prepared data set of two-class images."""
    prepared(npz(tmp_path / "squares.npz", **squares(count, side=side)), tmp_path / "squares")
    return tmp_path / "squares"


def table_folder(tmp_path: Path, **given: Any) -> Path:
    """A prepared table; its last column is twice the first and a half."""
    prepared(written(tmp_path / "table.csv", TABLE), tmp_path / "table", **given)
    return tmp_path / "table"


def text_folder(tmp_path: Path) -> Path:
    prepared(written(tmp_path / "text.txt", TEXT), tmp_path / "text")
    return tmp_path / "text"


def read_info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "info.json").read_text())
    return found
