"""An uploaded file becomes a folder that problems read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workers.datasets import cifar, idx, image_folder, images, npz, table_files, tables, text_files
from workers.datasets.detecting import detect
from workers.datasets.errors import BadData, check_words
from workers.datasets.images import LabelledImages
from workers.datasets.limits import Limits, size
from workers.datasets.options import Format, Options, check
from workers.datasets.progress import Progress
from workers.datasets.writing import Folder, folder

READERS = {
    "npz": npz.read,
    "csv": table_files.read_csv,
    "parquet": table_files.read_parquet,
    "image-folder": image_folder.read,
    "idx": idx.read,
    "cifar": cifar.read,
}


def prepare(
    source: Path,
    target: Path,
    *,
    file_format: Format | None = None,
    options: Options | None = None,
    limits: Limits | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Make the folder `target` of the file `source`; returns what was found: its `info.json`.

    None of `file_format`: the contents tell. Raises BadData, and OSError where the disk fails; then there is no folder.
    """
    limits, options = limits or Limits(), options or Options()
    found_format = file_format or detect(source, limits)
    check(options, found_format)
    with folder(target) as written:
        info = {"format": found_format} | _write(source, found_format, options, written, limits, progress)
        info["examples"] = info["train"] + info["test"]
        check_words(info)
        if (told := len(json.dumps(info))) > limits.info_bytes:
            raise BadData("file", f"has names of {size(told)}; at most {size(limits.info_bytes)} are taken")
        written.info(info)
    return info


def _write(
    source: Path, file_format: Format, options: Options, written: Folder, limits: Limits, progress: Progress
) -> dict[str, Any]:
    if file_format == "text":
        return text_files.write(source, options, written, limits, progress)
    found = READERS[file_format](source, options, limits)
    if isinstance(found, LabelledImages):
        return images.write(found, written, limits, progress)
    return tables.write(found, written, limits, progress)
