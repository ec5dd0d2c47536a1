"""Plans of machine groups over REST: what both layouts come to, and what can't be planned."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web import rest
from tests.web.rest import session
from trainhub.models import Project

pytestmark = pytest.mark.django_db

GLYPHS: dict[str, Any] = rest.SPEC | {
    "problem": {"kind": "glyphs", "classes": 5000, "examples": 2},
    "layout": {"kind": "hybrid", "shards": 2},
    "batch_size": 64,
}


def planned(project: Project, spec: dict[str, Any], **more: Any) -> Any:
    return session("bob").post("specs/plan", {"spec": spec, "project": project.name, **more})


def test_a_group_of_many_classes_is_recommended_to_be_hybrid(project: Project) -> None:
    plan = planned(project, GLYPHS).json()
    assert (plan["devices"], plan["images"], plan["features"], plan["classes"]) == (2, 64, 64, 5000)
    # 2 (G - 1) B D + 4 (G - 1) B floats, (G - 1) B labels and a loss; against 2 (G - 1) / G C (D + 1) floats.
    assert plan["hybrid"]["last_layer_bytes"] == 4 * (2 * 32 * 64 + 5 * 32 + 1)
    assert plan["data_parallel"]["last_layer_bytes"] == 4 * 5000 * 65
    assert plan["recommended"] == "hybrid"
    assert plan["inequality"].startswith("C > B·G: 5,000 classes > 32 · 2 = 64 images, so hybrid moves less")
    assert plan["hybrid"]["memory_bytes"] < plan["data_parallel"]["memory_bytes"]
    assert plan["hybrid"]["step_seconds"] is None


def test_few_classes_are_not(project: Project) -> None:
    plan = planned(project, GLYPHS | {"problem": {"kind": "digits"}}, shards=4).json()
    assert (plan["devices"], plan["recommended"]) == (4, "data-parallel")
    assert "C ≤ B·G: 10 classes ≤ 16 · 4 = 64 images, so hybrid moves more" in plan["inequality"]


def test_a_step_is_measured_when_asked_for(project: Project) -> None:
    plan = planned(project, GLYPHS, measured=True).json()
    for side in ("hybrid", "data_parallel"):
        assert 0 < plan[side]["step_seconds"] < 10
        assert plan[side]["phases"]["gradient_exchange"] > 0
    assert plan["hybrid"]["phases"]["softmax_exchange"] > 0
    assert "on this machine" in plan["reason"] or "moves less for the last layer, and" in plan["reason"]


def test_a_step_on_gpus_is_not_measured_on_cpus(project: Project) -> None:
    plan = planned(project, GLYPHS | {"device": "cuda"}, measured=True).json()
    assert (plan["recommended"], plan["hybrid"]["step_seconds"]) == ("hybrid", None)
    assert "no step was measured, since that is done on CPUs" in plan["reason"]


@pytest.mark.parametrize(
    ("problem", "field", "words"),
    [
        ({"kind": "ledger"}, "layout.kind", "the model has no Linear layer to cut"),
        ({"kind": "python", "target": "a.b:C"}, "problem.kind", "must be built in to be planned here"),
        ({"kind": "images", "dataset": "none"}, "problem.dataset", "none"),
    ],
)
def test_what_has_no_plan_says_why(project: Project, problem: dict[str, Any], field: str, words: str) -> None:
    answer = planned(project, GLYPHS | {"problem": problem})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert words in error["message"]
