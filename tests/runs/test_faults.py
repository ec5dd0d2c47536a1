"""kill -9 of every part in the middle of a run: nothing acknowledged is lost, nothing is applied twice."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import numpy as np
import pytest
import redis
from django.db import connection
from django.utils import timezone
from safetensors.numpy import load_file

from tests.runs.conftest import Stack, series
from tests.waiting import eventually
from trainhub.celery import app
from trainhub.models import Artifact, Event, Member, Node, Run, RunState, Slot
from workers.assignment import Role

LEDGER: dict[str, Any] = {"kind": "ledger", "coordinates": 8, "compute_seconds": 0.005}


def kill(pid: int) -> None:
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)


def applied(run: Run) -> dict[int, int]:
    """Gradients applied of each worker, by the stored series."""
    return {w: len(series(run, "staleness", w)[0]) for w in range(run.run_spec.workers.max)}


def counted(run: Run) -> list[float]:
    """What the ledger itself says: the final weights."""
    final = Artifact.objects.get(run=run, final=True)
    tensors = load_file(final.path)
    [ledger] = [t for t in tensors.values() if t.shape == (LEDGER["coordinates"],) and t.dtype == np.float32][:1]
    return [float(v) for v in ledger]


def test_the_ledger_is_exact_when_trainers_are_killed_at_random(stack: Stack) -> None:
    run = stack.submit(problem=LEDGER, workers=4, budget={"updates": 1500}, restarts=20)
    stack.wait_for_version(run, 50)
    random_moments = random.Random(3)
    for worker in (1, 3, 1):
        killed_at = timezone.now()
        kill(stack.child(run, role=Role.TRAINER, worker=worker))
        gang = Member.objects.filter(attempt__run=run, worker=worker)
        eventually(gang.filter(state="lost", ended_at__gt=killed_at).exists)
        eventually(gang.filter(state="running").exists)
        time.sleep(random_moments.uniform(0.05, 0.3))
    done = stack.wait(run, RunState.COMPLETED)
    assert Event.objects.filter(run=run, kind="lost").count() == 3
    assert (done.attempt, done.restarts) == (1, 3)
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 1501))
    assert counted(run)[:4] == [float(n) for n in applied(run).values()]


def test_a_killed_server_goes_on_from_its_checkpoint(stack: Stack) -> None:
    run = stack.submit(
        problem=LEDGER, workers=2, budget={"updates": 800}, checkpoints={"every_seconds": 0.2, "keep_last": 2}
    )
    eventually(lambda: Artifact.objects.filter(run=run, version__gt=50).exists())
    kill(stack.child(run, role=Role.SERVER))
    done = stack.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts, done.epoch) == (2, 1, 2)
    assert sum(counted(run)) == 800
    assert Event.objects.get(run=run, kind="restarting").data["detail"].endswith("was killed by SIGKILL")


def test_training_goes_on_while_its_agent_is_dead_and_a_new_agent_adopts_it(stack: Stack) -> None:
    run = stack.submit(problem=LEDGER | {"compute_seconds": 0.02}, workers=2, budget={"updates": 500})
    stack.wait_for_version(run, 50)
    server = stack.child(run, role=Role.SERVER)
    stack.kill("agent")
    stack.start("agent")
    stack.wait_for_version(run, Run.objects.get(pk=run.pk).version + 50)
    assert stack.child(run, role=Role.SERVER) == server, "it is the same process"
    done = stack.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts) == (1, 0)
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 501)), "what was reported meanwhile was stored, once"


def test_a_submission_is_kept_while_scheduler_and_agent_are_dead(stack: Stack) -> None:
    stack.kill("scheduler")
    stack.kill("agent")
    run = stack.submit(problem=LEDGER, budget={"updates": 50})
    assert Run.objects.get(pk=run.pk).state == RunState.QUEUED
    stack.start("agent")
    stack.start("scheduler")
    stack.wait(run, RunState.COMPLETED)


def test_a_deadlock_costs_a_moment(stack: Stack) -> None:
    """Somebody locks two of the slots in the other order, one before and one after the scheduler has locked its own."""
    first, _, third, *_ = Slot.objects.filter(kind="cpu").order_by("pk").values_list("pk", flat=True)
    somebody = connection.get_new_connection(connection.get_connection_params())
    somebody.autocommit = False
    try:
        somebody.execute("SELECT 1 FROM trainhub_slot WHERE id = %s FOR UPDATE", [third])
        run = stack.submit(problem=LEDGER, budget={"updates": 50})
        eventually(somebody_waits)
        somebody.execute("SELECT 1 FROM trainhub_slot WHERE id = %s FOR UPDATE", [first])
    finally:
        somebody.close()
    stack.wait(run, RunState.COMPLETED, seconds=10)
    assert "goes first: deadlock detected" in (stack.folder / "scheduler.log").read_text(), "the fault did not fire"


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        return cursor.fetchone() is not None


def test_connections_cut_in_mid_run_cost_nothing(stack: Stack) -> None:
    run = stack.submit(problem=LEDGER, budget={"updates": 400})
    stack.wait_for_version(run, 50)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        row = cursor.fetchone()
    assert row is not None
    assert row[0] >= 3, "the fault did not fire"
    done = stack.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts) == (1, 0)
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 401))


def test_redis_may_forget_everything_in_mid_run(stack: Stack) -> None:
    run = stack.submit(problem=LEDGER, budget={"updates": 400})
    stack.wait_for_version(run, 50)
    redis.Redis.from_url(os.environ["REDIS_URL"]).flushall()
    assert stack.wait(run, RunState.COMPLETED).attempt == 1


def test_a_doorbell_rung_many_times_makes_one_child(stack: Stack) -> None:
    run = stack.submit(problem=LEDGER, budget={"updates": 400})
    stack.wait_for_version(run, 20)
    for member in Member.objects.filter(attempt__run=run).values_list("pk", flat=True):
        for _ in range(3):
            app.send_task("workers.tasks.supervise", args=[member], queue="node.test", ignore_result=True)
    assert stack.wait(run, RunState.COMPLETED).restarts == 0
    assert Member.objects.filter(attempt__run=run).count() == 3
    assert sum(counted(run)) == 400


def test_a_broker_that_is_away_only_slows(stack: Stack) -> None:
    """A scheduler that can't ring: the agent finds its members by itself."""
    stack.kill("scheduler")
    stack.start("scheduler", REDIS_URL=os.environ["REDIS_URL"].replace(".sock", ".gone"))
    run = stack.submit(problem=LEDGER, budget={"updates": 50})
    stack.wait(run, RunState.COMPLETED)
    assert "broker does not answer" in (stack.folder / "scheduler.log").read_text(), "the fault did not fire"
    stack.kill("scheduler")
    stack.start("scheduler")


@pytest.mark.usefixtures("stack")
def test_the_node_is_still_online_after_all_this() -> None:
    assert Node.objects.get(name="test").online
