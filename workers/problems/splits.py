"""Which examples are held out, where nobody has said so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TEST_SHARE = 0.2
Indices = npt.NDArray[np.int64]


def stratified_split(labels: npt.NDArray[np.int64], number: int = 0) -> tuple[Indices, Indices]:
    """Indices of the training and of the test examples: the same for a number, each class in proportion."""
    random = np.random.default_rng(number)
    train, test = [], []
    by_class = np.argsort(labels, kind="stable")
    for members in np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1):
        mixed = random.permutation(members)
        held_out = round(len(mixed) * TEST_SHARE)
        test.append(mixed[:held_out])
        train.append(mixed[held_out:])
    return np.concatenate(train), np.concatenate(test)


def random_split(examples: int, number: int = 0) -> tuple[Indices, Indices]:
    """The same without classes."""
    return stratified_split(np.zeros(examples, np.int64), number)
