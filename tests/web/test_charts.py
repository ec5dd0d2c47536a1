"""What charts are drawn from."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests import factories
from tests.web.conftest import client_of
from trainhub import charts, queries
from trainhub.charts import Question
from trainhub.models import Attempt, Member, Project, Run, RunState, SeriesChunk
from workers import events

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(queued: Run) -> Member:
    return factories.gang(queued)[0]


def add(server: Member, y: list[float], *, worker: int = 0, first: int = 1, key: str = "loss") -> None:
    x = np.arange(first, first + len(y), dtype="<i8")
    points = events.Points(worker, key, x.tobytes(), x.astype("<f8").tobytes(), np.array(y, "<f8").tobytes())
    server.refresh_from_db()
    factories.store(server, events.Batch(sequence=server.spool_sequence + 1, points=[points]))


def line(server: Member, **question: object) -> charts.Line:
    [found] = charts.lines(server.attempt.run_id, Question(keys=["loss"], **question))  # type: ignore[arg-type]
    return found


def test_a_short_series_comes_whole(server: Member) -> None:
    add(server, [3.0, 2.0, 1.0])
    found = line(server)
    assert found.exact
    assert found.x.tolist() == [1, 2, 3]
    assert found.y.tolist() == [3.0, 2.0, 1.0]


def test_a_long_series_keeps_its_ends_extremes_and_every_nan() -> None:
    y = np.sin(np.arange(50_000) / 500)
    y[12_345], y[23_456], y[34_567] = 9.0, -9.0, np.nan
    kept = charts.thin(np.arange(50_000), y, 1000)
    assert {0, 12_345, 23_456, 34_567, 49_999} <= set(kept.tolist())
    assert len(kept) < 1100


def test_a_series_of_nan_alone_is_thinned_too() -> None:
    assert len(charts.thin(np.arange(9000), np.full(9000, np.nan), 1000)) <= 1000


def test_many_chunks_make_one_line(server: Member) -> None:
    for first in range(1, 4001, 500):
        add(server, [float(v) for v in range(first, first + 500)], first=first)
    assert SeriesChunk.objects.filter(key="loss").count() > 1
    found = line(server, points=5000)
    assert found.y.tolist() == [float(v) for v in range(1, 4001)]


def test_a_stretch_is_asked_for_by_its_versions(server: Member) -> None:
    add(server, [float(v) for v in range(1, 101)])
    assert line(server, first=40, last=42).x.tolist() == [40, 41, 42]


def test_what_is_newer_than_a_sequence_is_in_the_answer(server: Member) -> None:
    add(server, [1.0], worker=0)
    add(server, [2.0], worker=1)
    found = charts.lines(server.attempt.run_id, Question(after=1))
    assert [(f.worker, f.y.tolist()) for f in found] == [(1, [2.0])]


def test_a_restart_hides_what_its_checkpoint_does_not_have(queued: Run, server: Member) -> None:
    add(server, [float(v) for v in range(1, 11)])
    Attempt.objects.create(run=queued, number=2, started_at=timezone.now(), restored_version=6)
    assert line(server).x.tolist() == [1, 2, 3, 4, 5, 6]
    assert charts.totals(queued.pk, ["loss"])[0].last_x == 6


def test_an_attempt_from_scratch_hides_all_before_it(queued: Run, server: Member) -> None:
    add(server, [1.0, 2.0])
    Attempt.objects.create(run=queued, number=2, started_at=timezone.now())
    assert charts.lines(queued.pk, Question()) == []


def test_later_restarts_bind_earlier_attempts(queued: Run, server: Member) -> None:
    for number, restored in ((2, 900), (3, 400)):
        Attempt.objects.create(run=queued, number=number, started_at=timezone.now(), restored_version=restored)
    assert charts.visible_until(queued.pk) == {1: 400, 2: 400}


def test_a_very_long_series_is_told_by_its_chunks(server: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "WHOLE_POINTS", 100)
    add(server, [1.0] * 50 + [99.0] + [1.0] * 49 + [float("nan")] + [1.0] * 100)
    found = line(server)
    assert not found.exact
    assert found.count == 201
    assert np.nanmax(found.y) == 99.0
    assert np.isnan(found.y).sum() == 1


def test_distributions_count_every_point(server: Member) -> None:
    add(server, [0.0, 1.0, 1.0, 2.0], key="staleness")
    [total] = charts.totals(server.attempt.run_id, ["staleness"])
    assert (total.values, total.counts, total.total) == ([0.0, 1.0, 2.0], [1, 2, 1], 4.0)


def test_keys_may_be_named_by_their_beginning(server: Member) -> None:
    add(server, [1.0], key="evaluation/accuracy", worker=-1)
    add(server, [1.0], key="loss")
    found = charts.lines(server.attempt.run_id, Question(keys=["evaluation/*"]))
    assert [f.key for f in found] == ["evaluation/accuracy"]


def test_what_is_no_number_travels_by_name(server: Member) -> None:
    add(server, [1.0, float("nan"), float("inf"), float("-inf")])
    answer = client_of("alice").get(f"/api/v1/runs/{server.attempt.run_id}/series?key=loss").json()
    assert answer["series"][0]["y"] == [1.0, "NaN", "Infinity", "-Infinity"]
    assert answer["sequence"] == 1
    assert answer["keys"] == ["loss"]


def test_progress_is_where_the_run_stands(project: Project, alice: User) -> None:
    training = factories.Training(updates=800)
    run, _ = factories.trained_run(owner=alice, within=project, training=training, part=0.5)
    now = queries.progress(run.pk)
    assert (now.state, now.version, now.fraction) == (RunState.RUNNING, 400, 0.5)
    assert now.metrics == {"loss": 0.0913, "accuracy": 0.9722}
    assert now.loss is not None
    assert now.loss < 1
    assert now.staleness[3] > 2 * now.staleness[0]  # it is three times slower
    assert set(now.scale) == {0, 1, 2, 3}
    assert now.updates_per_second == pytest.approx(167, rel=0.2)


def test_time_left_follows_the_pace_of_this_attempt(queued: Run) -> None:
    factories.gang(queued, restored=500)
    now = timezone.now()
    queued.state, queued.version, queued.fraction = RunState.RUNNING, 750, 0.75
    queued.training_at = now - dt.timedelta(seconds=10)
    # A quarter of the budget took 10 s, from version 500 on; a quarter is left.
    assert queries.seconds_left(queued, now) == pytest.approx(10)


def test_progress_of_a_waiting_run_is_unknown(queued: Run) -> None:
    now = queries.progress(queued.pk)
    assert (now.loss, now.mean_staleness, now.seconds_left, now.fraction) == (None, None, None, None)
