"""Numbers of the monitoring page, against rows of known load and failures."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests import factories
from tests.web.conftest import client_of
from trainhub import monitoring
from trainhub.models import Event, Member, MemberState, Node, Project, Run, RunState, SeriesChunk, Slot
from workers import events

pytestmark = pytest.mark.django_db

QUERIES = 12
"""Of the board, however many rows there are."""


@pytest.fixture(autouse=True)
def root(project: Project) -> User:
    return factories.person("root", is_staff=True, is_superuser=True)


def points(worker: int, key: str, values: list[float], at: float) -> events.Points:
    x, t = np.arange(1, len(values) + 1, dtype="<i8"), np.full(len(values), at, "<f8")
    return events.Points(worker, key, x.tobytes(), t.tobytes(), np.array(values, "<f8").tobytes())


def training(owner: User, within: Project, staleness: list[float], *, age: float = 1, speed: float = 10) -> Run:
    """A run whose trainers have these mean stalenesses, and whose newest point is `age` seconds old."""
    run = factories.run(owner=owner, within=within, state=RunState.RUNNING)
    server, *_ = factories.gang(run, trainers=len(staleness))
    at = time.time() - age
    series = [points(w, events.STALENESS, [s - 1, s + 1], at) for w, s in enumerate(staleness)]
    series.append(points(-1, events.UPDATES_PER_SECOND, [speed], at))
    factories.store(server, events.Batch(sequence=1, points=series))
    return run


def failed(owner: User, within: Project, cause: str, *, hours: float = 1) -> Run:
    ended = timezone.now() - dt.timedelta(hours=hours)
    return factories.run(owner=owner, within=within, state=RunState.FAILED, cause=cause, ended_at=ended)


def test_slots_are_counted_by_node(project: Project, alice: User) -> None:
    server, *trainers = factories.gang(factories.run(owner=alice, within=project, state=RunState.RUNNING))
    Slot.objects.filter(members=server).update(member=server)
    Slot.objects.filter(members=trainers[0]).update(retired=True)
    [node] = monitoring.board().nodes
    assert (node.name, node.used, node.total, node.words) == ("node-a", 1, 4, "online")


def test_a_node_tells_the_torch_it_trains_with(project: Project, alice: User) -> None:
    factories.gang(factories.run(owner=alice, within=project))
    Node.objects.update(environment={"packages": {"torch": "2.9.1"}, "python": "3.11.7"}, drained=True)
    [node] = monitoring.board().nodes
    assert node.versions == {"torch": "2.9.1", "python": "3.11.7"}
    assert node.words == "online, drained"


def test_the_queue_tells_its_length_its_oldest_and_its_head(project: Project, alice: User) -> None:
    ago = timezone.now() - dt.timedelta(seconds=90)
    factories.run(owner=alice, within=project, queued_at=ago)
    head = factories.run(owner=alice, within=project, priority=3)
    queue = monitoring.board(ago + dt.timedelta(seconds=90)).queue
    assert (queue.length, queue.first) == (2, head)
    assert queue.oldest_seconds == pytest.approx(90)


def test_an_empty_queue_has_no_oldest() -> None:
    assert monitoring.board().queue == monitoring.Queue(0, None, None)


def test_staleness_is_the_mean_over_trainers_and_the_worst_comes_first(project: Project, alice: User) -> None:
    calm = training(alice, project, [1.0, 3.0])
    late = training(alice, project, [4.0, 9.0, 5.0])
    told = [(pace.run.pk, pace.staleness) for pace in monitoring.board().paces]
    assert told == [(late.pk, 6.0), (calm.pk, 2.0)]


def test_updates_of_all_runs_that_train_are_summed(project: Project, alice: User) -> None:
    training(alice, project, [1.0], speed=12.5)
    training(alice, project, [1.0], speed=30.0)
    assert monitoring.board().updates_per_second == pytest.approx(42.5)


def test_a_run_without_points_for_a_minute_is_stalled_and_comes_first(project: Project, alice: User) -> None:
    training(alice, project, [50.0])
    silent = training(alice, project, [1.0], age=75)
    board = monitoring.board()
    assert [pace.run.pk for pace in board.paces if pace.stalled] == [silent.pk]
    assert board.paces[0].run.pk == silent.pk
    assert board.paces[0].silent_seconds == pytest.approx(75, abs=2)


def test_a_run_that_has_said_nothing_yet_is_silent_since_it_began(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project, state=RunState.RUNNING)
    factories.gang(run)
    [pace] = monitoring.board(timezone.now() + dt.timedelta(seconds=70)).paces
    assert pace.stalled
    assert (pace.staleness, pace.updates_per_second) == (None, None)


def test_a_virtual_clock_says_nothing_about_silence(project: Project, alice: User) -> None:
    run = training(alice, project, [1.0], age=10_000)
    run.spec = factories.spec(delays=[], execution={"kind": "simulate"})
    run.save()
    [pace] = monitoring.board().paces
    assert (pace.silent_seconds, pace.stalled) == (None, False)


def test_an_earlier_attempts_points_are_not_the_present_ones(project: Project, alice: User) -> None:
    run = training(alice, project, [7.0])
    factories.gang(run, trainers=1, number=2)
    [pace] = monitoring.board().paces
    assert pace.staleness is None


def test_failures_of_a_day_are_counted_by_cause(project: Project, alice: User) -> None:
    first = failed(alice, project, "oom", hours=2)
    second = failed(alice, project, "oom")
    failed(alice, project, "data")
    failed(alice, project, "crashed", hours=25)
    told = [(each.cause, each.count, each.runs) for each in monitoring.board().failures]
    assert told[0] == ("oom", 2, [second, first])
    assert [cause for cause, _, _ in told] == ["oom", "data"]


def test_members_lost_and_restarts_of_an_hour_are_counted(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project, state=RunState.RUNNING, restarts=2)
    now, members = timezone.now(), factories.gang(run)
    for member, hours in zip(members, (0.5, 2), strict=False):
        ended = now - dt.timedelta(hours=hours)
        Member.objects.filter(pk=member.pk).update(state=MemberState.LOST, ended_at=ended)
        factories.happened(run, "starting again", kind="restarting", at=ended)
    board = monitoring.board(now)
    assert (board.lost_members, board.restarts) == (1, 1)


def test_storage_and_versions_are_told() -> None:
    board = monitoring.board()
    assert board.storage.database > 1_000_000
    assert board.storage.disk_free is not None
    assert set(board.versions) == {"TrainHub", "Django", "PostgreSQL"}


def many(owner: User, within: Project, count: int) -> None:
    """Runs in all states, a tenth of them training."""
    now, experiment = timezone.now(), factories.run(owner=owner, within=within).experiment
    states = [RunState.RUNNING if n % 10 == 0 else RunState.values[n % 7] for n in range(count)]
    values: dict[str, Any] = {"name": "one of many", "spec": factories.spec(), "queued_at": now, "attempt": 1}
    values |= {"training_at": now, "ended_at": now, "live_sequence": 1, "cause": "oom"}
    rows = [Run(experiment=experiment, number=n + 2, state=state, **values) for n, state in enumerate(states)]
    Run.objects.bulk_create(rows)
    Event.objects.bulk_create([Event(run=run, at=now, kind="note", message="here") for run in rows for _ in range(5)])
    packed = {w: points(w, events.STALENESS, [float(w)] * 900, time.time()) for w in range(4)}
    SeriesChunk.objects.bulk_create(
        SeriesChunk(
            run=run,
            attempt=1,
            worker=w,
            key=p.key,
            index=0,
            sequence=1,
            count=900,
            first_x=1,
            last_x=900,
            last=1.0,
            x=p.x,
            t=p.t,
            y=p.y,
        )
        for run in rows
        if run.state == RunState.RUNNING
        for w, p in packed.items()
    )


def test_the_board_takes_the_same_queries_for_a_thousand_runs(
    project: Project, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    many(alice, project, 1000)
    with django_assert_num_queries(QUERIES):
        board = monitoring.board()
    assert sum(count for _, count in board.states) == 1001
    assert len(board.paces) == board.training >= 100


def test_the_page_shows_what_the_board_says(project: Project, alice: User) -> None:
    run = training(alice, project, [4.0, 9.0, 5.0], age=75)
    failed(alice, project, "oom")
    shown = client_of("root").get("/admin/").content.decode()
    for told in ("6.0 versions", "stalled: 1 min", f"{run.pk} {run.name}", "oom", "updates/s together", "node-a"):
        assert told in shown


def test_the_pages_script_gets_the_parts_alone(project: Project) -> None:
    part = client_of("root").get("/admin/monitoring/", headers={"X-TrainHub-Part": "board"})
    assert 'data-part="figures"' in part.content.decode()
    assert "<html" not in part.content.decode()
    assert client_of("root").get("/admin/monitoring/").headers["Location"] == "/admin/"
