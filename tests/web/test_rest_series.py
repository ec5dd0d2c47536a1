"""A hundred thousand points, of which a chart sees what matters."""

from __future__ import annotations

import json

import numpy as np
import pytest
from django.contrib.auth.models import User

from tests import factories
from tests.web.rest import session
from trainhub.models import Project, Run, SeriesChunk

pytestmark = pytest.mark.django_db

POINTS = 100_000
CHUNK = 1000
SPIKE, NAN, INFINITY = 54_321, 77_777, 12_345


@pytest.fixture
def measured(project: Project, alice: User) -> Run:
    """A quiet series with one spike, one NaN and one infinity."""
    run = factories.run(owner=alice, within=project)
    y = np.sin(np.arange(POINTS) / 500)
    y[SPIKE], y[NAN], y[INFINITY] = 1e6, np.nan, np.inf
    x = np.arange(POINTS, dtype="<i8")
    SeriesChunk.objects.bulk_create(chunk(run, x[i : i + CHUNK], y[i : i + CHUNK]) for i in range(0, POINTS, CHUNK))
    return run


def chunk(run: Run, x: np.ndarray, y: np.ndarray) -> SeriesChunk:
    finite = y[np.isfinite(y)]
    return SeriesChunk(
        run=run,
        attempt=0,
        worker=-1,
        key="loss",
        index=int(x[0]) // CHUNK,
        sequence=1,
        count=len(x),
        nonfinite=len(y) - len(finite),
        first_x=int(x[0]),
        last_x=int(x[-1]),
        low=finite.min(),
        high=finite.max(),
        last=float(y[-1]),
        x=x.tobytes(),
        t=y.tobytes(),
        y=y.astype("<f8").tobytes(),
    )


def test_spikes_and_what_is_no_number_survive_the_thinning(measured: Run) -> None:
    answer = session("vera").get(f"runs/{measured.pk}/series", key="loss", points=500)
    [line] = answer.json()["series"]
    seen = dict(zip(line["x"], line["y"], strict=True))
    assert (seen[SPIKE], seen[NAN], seen[INFINITY]) == (1e6, "NaN", "Infinity")
    assert (line["count"], line["exact"]) == (POINTS, False)
    assert len(line["x"]) < 1500


def test_an_answer_is_json_that_everybody_reads(measured: Run) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    answer = session("vera").get(f"runs/{measured.pk}/series")
    json.loads(answer.content, parse_constant=refuse)


def test_a_stretch_is_told_exactly(measured: Run) -> None:
    asked = {"key": "loss", "first": SPIKE - 5, "last": SPIKE + 5}
    [line] = session("vera").get(f"runs/{measured.pk}/series", **asked).json()["series"]
    assert line["x"] == list(range(SPIKE - 5, SPIKE + 6))
    assert line["exact"]


def test_totals_are_over_all_finite_points(measured: Run) -> None:
    [total] = session("vera").get(f"runs/{measured.pk}/totals", key="loss").json()["totals"]
    assert total["count"] == POINTS - 2
    assert total["last_x"] == POINTS - 1
