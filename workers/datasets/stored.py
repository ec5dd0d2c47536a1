"""A prepared data set: a folder with `info.json` and arrays that all children of a node map: in memory once.

train-x.npy train-y.npy test-x.npy test-y.npy     images and tables: examples and labels or targets
train.npy test.npy                                a text: its characters as numbers
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workers import spec
from workers.assignment import Cause
from workers.failures import Failure
from workers.spec_errors import SpecError

INFO = "info.json"
PREVIEW = "preview.png"


@dataclass(frozen=True)
class Stored:
    folder: Path

    @classmethod
    def of(cls, part: spec.OfDataset, folder: Path | None) -> Stored:
        """The data set a problem names.

        Raises SpecError where there is none or it is of another kind, Failure where its files are not on this node.
        """
        if folder is None:
            raise SpecError.one("problem.dataset", f"no data set named {part.dataset!r} was handed to this run")
        found = cls(folder)
        if found.kind != part.kind:
            raise SpecError.one(
                "problem.dataset", f"{part.dataset} holds {found.kind}; problem.kind {found.kind} takes it"
            )
        return found

    @cached_property
    def info(self) -> dict[str, Any]:
        """What its preparation found. Raises Failure."""
        try:
            read: dict[str, Any] = json.loads((self.folder / INFO).read_text())
        except FileNotFoundError:
            raise Failure(
                Cause.DATA, f"the data set's files are not on this node: {self.folder} has no {INFO}"
            ) from None
        except ValueError as error:
            raise Failure(Cause.DATA, f"{self.folder / INFO} is damaged: {error}") from None
        return read

    @property
    def kind(self) -> str:
        return str(self.info["kind"])

    def array(self, name: str) -> npt.NDArray[Any]:
        """One of its arrays, mapped and not to be written to. Raises Failure."""
        path = self.folder / f"{name}.npy"
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except FileNotFoundError:
            raise Failure(Cause.DATA, f"the data set's files are not on this node: {path} does not exist") from None
        except ValueError as error:
            raise Failure(Cause.DATA, f"{path} is damaged: {error}") from None
