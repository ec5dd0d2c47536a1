"""Pause, resume, cancel, kill and requeue from a shell."""

from __future__ import annotations

import json

import pytest

from tests import factories
from tests.cli.conftest import Shell, secret_of
from trainhub.models import Project, Run, RunState, Wish


def made(project: Project, state: str) -> Run:
    run = factories.run(owner=factories.person("alice"), within=project)
    factories.gang(run)
    run.state = state
    run.save()
    return run


@pytest.mark.parametrize("action", ["pause", "cancel", "kill"])
def test_it_asks_for_it(shell: Shell, project: Project, action: str) -> None:
    run = made(project, RunState.RUNNING)
    said = shell(action, run.pk)
    assert said.status == 0, said.err
    assert f"asked to {action}" in said.err
    run.refresh_from_db()
    assert run.wish == action


@pytest.mark.parametrize(("action", "before"), [("resume", "paused"), ("requeue", "failed"), ("requeue", "cancelled")])
def test_it_queues_again(shell: Shell, project: Project, action: str, before: str) -> None:
    run = made(project, before)
    assert shell(action, run.pk).status == 0
    run.refresh_from_db()
    assert run.state == RunState.QUEUED


def test_several_at_once_and_one_that_refuses(shell: Shell, project: Project) -> None:
    done, running = made(project, RunState.COMPLETED), made(project, RunState.RUNNING)
    said = shell("pause", done.pk, running.pk, "--json")
    assert said.status == 1
    assert f"run {done.pk}: a run that is completed can't be paused" in said.err
    assert [each["id"] for each in json.loads(said.out)] == [running.pk]
    running.refresh_from_db()
    assert running.wish == Wish.PAUSE


def test_a_viewer_is_not_let(shell: Shell, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(project, RunState.RUNNING)
    monkeypatch.setenv("TRAINHUB_TOKEN", secret_of("vera"))
    said = shell("kill", run.pk)
    assert said.status == 4
    assert "You may look at this run, but not change it." in said.err
