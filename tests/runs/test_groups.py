"""Machine groups on a real service: placed whole, lost whole, replaced whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import Stack, series
from tests.waiting import eventually
from trainhub.models import Event, Member, Run, RunState, Slot
from workers import events
from workers.assignment import Role

GROUPS: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "layout": {"kind": "hybrid", "shards": 2},
    "rate": {"kind": "staleness-inverse"},
}


def held(run: Run) -> dict[int, int]:
    """Slots of each living member, by rank."""
    gang = Member.objects.filter(attempt__run=run, ended_at=None)
    return {m.rank: m.held_slots.count() for m in gang}


def devices(stack: Stack, run: Run, worker: int) -> list[int]:
    """Processes of a group's devices but the first."""
    leader = stack.child(run, role=Role.TRAINER, worker=worker)
    listed = Path(f"/proc/{leader}/task/{leader}/children")
    eventually(lambda: bool(listed.read_text().split()))
    return [int(pid) for pid in listed.read_text().split()]


@pytest.mark.slow
def test_a_group_that_loses_a_device_is_replaced_and_the_run_goes_on(stack: Stack) -> None:
    run = stack.submit(**GROUPS, budget={"updates": 600})
    stack.wait_for_version(run, 20)
    assert held(run) == {0: 1, 1: 2, 2: 2}
    [device] = devices(stack, run, 1)
    os.kill(device, signal.SIGKILL)
    lost = Event.objects.filter(run=run, kind="lost")
    eventually(lost.exists)
    message = lost.get().message
    assert message.startswith("Lost trainer 1 on test/cpu:")
    assert f"device 1 of 2 of machine group 1 (process {device}) was killed by SIGKILL" in message
    eventually(Member.objects.filter(attempt__run=run, worker=1, state="running").exists)
    done = stack.wait(run, RunState.COMPLETED)
    story = [(e.kind, e.message, e.data) for e in Event.objects.filter(run=run).order_by("pk")]
    assert (done.attempt, done.restarts, done.version) == (1, 1, 600), story
    assert done.metrics["accuracy"] > 0.8
    # Its members end one after another, behind the run.
    eventually(lambda: not Slot.objects.exclude(member=None).exists())
    told = Event.objects.filter(run=run, kind="group")
    assert told.count() == 3  # two at the start, and the heir
    for worker in range(2):
        for rank in range(2):
            _, seconds = series(run, events.GROUP_PHASE.format(rank, "conv_forward"), worker)
            assert len(seconds) > 0
            assert (seconds > 0).all()
