"""Answers that are given without being checked are what they are said to be, of a run that has everything."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from pydantic import BaseModel, TypeAdapter

from tests import factories
from tests.web.rest import session
from trainhub.api.compare import ComparisonShape
from trainhub.api.runs import RunSummary
from trainhub.api.series import EventsAnswer, LogAnswer, SeriesAnswer, TotalsAnswer
from trainhub.models import Project, Run, RunState

pytestmark = pytest.mark.django_db


@pytest.fixture
def trained(project: Project, alice: User) -> Run:
    training = factories.Training(updates=400, diverges_at=300)
    run, _ = factories.trained_run(owner=alice, within=project, training=training, part=1, state=RunState.COMPLETED)
    return run


def declared(shape: type[BaseModel], told: Any) -> bool:
    """Whether the answer has all fields of its schema, of their types, and no others."""
    return bool(TypeAdapter(shape).validate_python(told).model_dump(mode="json") == told)


@pytest.mark.parametrize(
    ("path", "shape", "filled"),
    [
        ("", RunSummary, ("members", "attempts", "checkpoints", "metrics")),
        ("series", SeriesAnswer, ("series", "keys")),
        ("totals", TotalsAnswer, ("totals",)),
        ("events", EventsAnswer, ("events",)),
        ("log", LogAnswer, ("log",)),
    ],
)
def test_what_is_told_of_a_run_is_as_described(
    trained: Run, path: str, shape: type[BaseModel], filled: tuple[str, ...]
) -> None:
    told = session("vera").get(f"runs/{trained.pk}/{path}").json()
    assert all(told[name] for name in filled)
    assert declared(shape, told)


def test_a_comparison_is_as_described(trained: Run, project: Project, alice: User) -> None:
    other = factories.run(owner=alice, within=project, spec=factories.spec(seed=1))
    told = session("vera").get("compare", run=[trained.pk, other.pk]).json()
    assert told["groups"]
    assert declared(ComparisonShape, told)
