"""What a run learns, in words."""

from __future__ import annotations

from typing import Any

import pytest

from trainhub import words


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"kind": "digits", "model": {"kind": "cnn"}}, "Handwritten digits, CNN"),
        ({"kind": "images", "dataset": "shapes", "model": {"kind": "resnet20"}}, "shapes, ResNet-20"),
        ({"kind": "text", "dataset": "rhymes", "model": {"kind": "transformer"}}, "rhymes, Transformer"),
        ({"kind": "installed", "name": "diabetes"}, "diabetes"),
    ],
)
def test_a_problem_goes_by_its_data_and_its_model(chosen: dict[str, Any], told: str) -> None:
    assert words.problem({"problem": chosen}) == told
