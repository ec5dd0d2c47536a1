"""What is wrong with an upload, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class BadData(Exception):
    """A file that can't be made into a data set. `field` is `file`, an array, a column, or an option."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


LARGEST = 1e30
"""Beyond it, float32 has no room for squares and sums."""


def check_finite(field: str, values: npt.NDArray[np.floating[Any]]) -> None:
    """Raises BadData for NaN, infinity, and what is as good as that."""
    largest = np.abs(values).max(initial=0)
    if not np.isfinite(largest):
        raise BadData(field, "holds values that are not finite")
    if largest > LARGEST:
        raise BadData(field, f"holds a value beyond {LARGEST:g}")


def check_words(info: object) -> None:
    """Raises BadData for texts that no database stores: those with a character of zero."""
    match info:
        case str() if "\0" in info:
            raise BadData("file", f"holds a character of zero, in {info[:40]!a}")
        case dict():
            check_words([*info.keys(), *info.values()])
        case list():
            for part in info:
                check_words(part)
