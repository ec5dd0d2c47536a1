"""Texts in UTF-8: each character, or each byte, becomes a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.datasets.archives import read_whole
from workers.datasets.errors import BadData
from workers.datasets.limits import Limits, size
from workers.datasets.options import Options
from workers.datasets.progress import Progress
from workers.datasets.writing import Folder
from workers.problems.splits import TEST_SHARE

FIRST_CHARACTERS = 500
LEAST_CHARACTERS = 100
BYTES = 256


def write(path: Path, options: Options, folder: Folder, limits: Limits, progress: Progress) -> dict[str, Any]:
    """Write both parts: the test's is the last fifth. Returns what is known. Raises BadData and OSError."""
    data = read_whole(path, limits).removeprefix(b"\xef\xbb\xbf")
    if len(data) > limits.text_bytes:
        raise BadData("file", f"is a text of {size(len(data))}; at most {size(limits.text_bytes)} are taken")
    text = decoded(data)
    if options.vocabulary == "bytes":
        numbers, vocabulary = np.frombuffer(data, np.uint8), None
    else:
        numbers, vocabulary = numbered(text, limits)
    if len(numbers) < LEAST_CHARACTERS:
        raise BadData("file", f"is a text of {len(numbers)} characters; at least {LEAST_CHARACTERS} are needed")
    progress.begin(len(numbers))
    kept = len(numbers) - round(len(numbers) * TEST_SHARE)
    for name, part in (("train", numbers[:kept]), ("test", numbers[kept:])):
        folder.whole_array(name, part)
        progress.advance(len(part))
    return {
        "kind": "text",
        "train": kept,
        "test": len(numbers) - kept,
        "split": "the last fifth",
        "vocabulary": vocabulary,
        "vocabulary_size": BYTES if vocabulary is None else len(vocabulary),
        "sample": text[:FIRST_CHARACTERS],
        "notes": [],
    }


def decoded(data: bytes) -> str:
    """Raises BadData that says where it is no UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadData("file", f"is no text in UTF-8: line {line}, byte {error.start:,} of the file") from None
    if "\0" in text:
        raise BadData("file", "is no text: it holds bytes of zero")
    return text


def numbered(text: str, limits: Limits) -> tuple[npt.NDArray[Any], list[str]]:
    """Each character's number, and the characters in the order of their numbers. Raises BadData."""
    found, numbers = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    if len(found) > limits.characters:
        raise BadData(
            "file",
            f"has {len(found):,} different characters; at most {limits.characters:,} are taken. "
            "Give option vocabulary: bytes",
        )
    return numbers.astype(np.uint8 if len(found) <= BYTES else np.uint16), [chr(c) for c in found.tolist()]
