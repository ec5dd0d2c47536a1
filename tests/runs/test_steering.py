"""Pause, resume, cancel and kill of runs that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runs.conftest import Stack, series
from tests.waiting import eventually
from trainhub.actions import runs
from trainhub.models import Artifact, Attempt, Member, Run, RunState

LONG: dict[str, Any] = {
    "problem": {"kind": "ledger", "compute_seconds": 0.01},
    "budget": {"updates": 100_000},
}


@pytest.fixture
def training(stack: Stack) -> Run:
    run = stack.submit(**LONG)
    stack.wait_for_version(run, 20)
    return run


def test_a_paused_run_gives_its_slots_back_and_goes_on_where_it_was(stack: Stack) -> None:
    run = stack.submit(problem=LONG["problem"], budget={"updates": 400})
    stack.wait_for_version(run, 50)
    runs.ask_to_pause(run, by=stack.owner)
    paused = stack.wait(run, RunState.PAUSED)
    eventually(lambda: not Member.objects.filter(attempt__run=run, ended_at=None).exists())
    saved = Artifact.objects.filter(run=run).latest("version")
    assert saved.version == paused.version

    runs.resume(run, by=stack.owner)
    stack.wait(run, RunState.COMPLETED)
    again = Attempt.objects.get(run=run, number=2)
    assert again.restored_version == saved.version
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 401)), "no version twice, none left out"
    assert Run.objects.get(pk=run.pk).metrics["total"] == 400, "each gradient was applied exactly once"


def test_a_cancelled_run_keeps_its_last_checkpoint(stack: Stack, training: Run) -> None:
    runs.ask_to_cancel(training, by=stack.owner)
    ended = stack.wait(training, RunState.CANCELLED)
    assert Artifact.objects.filter(run=training).latest("version").version == ended.version


def test_a_killed_run_ends_at_once(stack: Stack, training: Run) -> None:
    runs.ask_to_kill(training, by=stack.owner)
    stack.wait(training, RunState.CANCELLED, seconds=5)
    eventually(lambda: not Member.objects.filter(attempt__run=training, ended_at=None).exists())


def test_a_run_whose_checkpoint_to_start_from_is_gone_fails_and_says_so(stack: Stack) -> None:
    first = stack.wait(stack.submit(problem={"kind": "ledger"}, budget={"updates": 5}), RunState.COMPLETED)
    for artifact in first.artifacts.all():
        Path(artifact.path).unlink()
    start = {"kind": "checkpoint", "run": first.pk}
    run = stack.wait(stack.submit(problem={"kind": "ledger"}, budget={"updates": 5}, start=start), RunState.FAILED)
    assert (run.cause, run.detail) == ("spec", f"start.run: the checkpoint of run {first.pk} is gone or damaged")
