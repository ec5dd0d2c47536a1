"""The problem of very many classes: the same for the same numbers, honest, and learnt by a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.harness import spec_of
from workers import spec
from workers.problems.glyphs import SIGNS, Glyphs, codes, rendered, signs
from workers.simulator.files import simulation


def part(**changes: Any) -> spec.Glyphs:
    return spec.Glyphs(kind="glyphs", **changes)


def test_no_two_classes_have_the_same_code_and_signs_differ() -> None:
    words = codes(0, 65_536)
    assert len(np.unique(words, axis=0)) == 65_536
    assert (words.min(), words.max()) == (0, SIGNS - 1)
    drawn = signs(0).reshape(SIGNS, -1)
    apart = [np.abs(a - b).sum() for i, a in enumerate(drawn) for b in drawn[:i]]
    assert min(apart) >= 4


def test_the_same_number_makes_the_same_images_and_another_does_not() -> None:
    first = Glyphs(part(classes=50)).dataset("train")
    rendered.cache_clear()
    again, other = Glyphs(part(classes=50)).dataset("train"), Glyphs(part(classes=50, alphabet=1)).dataset("train")
    assert torch.equal(first.images, again.images)  # type: ignore[attr-defined]
    assert not torch.equal(first.images, other.images)  # type: ignore[attr-defined]


def test_there_are_as_many_images_of_each_class_as_asked_and_the_test_has_its_own() -> None:
    problem = Glyphs(part(classes=300, examples=3))
    train, test = problem.dataset("train"), problem.dataset("test")
    assert torch.bincount(train.labels).tolist() == [3] * 300  # type: ignore[attr-defined]
    assert sorted(test.labels.tolist()) == list(range(300))  # type: ignore[attr-defined]
    assert train.images.shape == (900, 1, 16, 16)  # type: ignore[attr-defined]
    assert abs(float(train.images.mean())) < 1e-3  # type: ignore[attr-defined]


def test_nearest_images_do_not_solve_it() -> None:
    """Moved, faint, noisy and erased: to compare pixels with the training images finds few classes."""
    problem = Glyphs(part(classes=500, examples=2))
    train, test = problem.dataset("train"), problem.dataset("test")
    flat = [d.images.flatten(1) for d in (train, test)]  # type: ignore[attr-defined]
    nearest = torch.cdist(flat[1], flat[0]).argmin(1)
    right = train.labels[nearest] == test.labels  # type: ignore[attr-defined]
    assert 0.05 < float(right.float().mean()) < 0.7


@pytest.mark.slow
def test_a_group_of_two_devices_learns_hundreds_of_classes() -> None:
    run = spec_of(
        problem={"kind": "glyphs", "classes": 400, "examples": 20, "noise": 0.1},
        optimizer={"kind": "adamw", "learning_rate": 0.01},
        schedule={"kind": "cosine"},
        batch_size=128,
        layout={"kind": "hybrid", "shards": 2},
        budget={"passes": 4},
        evaluation={"every_passes": 4},
        execution={"kind": "simulate"},
    )
    with simulation(run, None) as simulated:
        found = simulated.run().evaluations[-1].metrics
    assert found["accuracy"] > 0.3  # one of 400 by chance
    assert found["among_five"] > found["accuracy"]
