"""Following a run: to its end, through a service that goes away, and not for ever."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests import factories
from tests.cli.conftest import Start, secret_of
from tests.webs import Web
from trainhub.client import Client, TookTooLong
from trainhub.client.wire import Clock
from trainhub.models import Project, Run, RunState, Wish


class Steps:
    """A clock whose every pause is a step of the story."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.steps:
            self.steps.pop(0)()

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: sum(self.pauses), sleep=self.sleep)


def moved(run: Run, state: str, **more: object) -> None:
    Run.objects.filter(pk=run.pk).update(state=state, **more)


@pytest.fixture
def queued(alice: User, project: Project) -> Run:
    return factories.run(owner=alice, within=project)


def test_each_change_is_told_until_the_end(web: Web, queued: Run) -> None:
    steps = Steps(
        lambda: moved(queued, RunState.RUNNING, version=10, fraction=0.25),
        lambda: None,
        lambda: moved(queued, RunState.RUNNING, version=30, fraction=0.75, metrics={"accuracy": 0.9}),
        lambda: moved(queued, RunState.COMPLETED, version=40, fraction=1.0),
    )
    with Client(web.address, secret_of("alice"), clock=steps.clock) as client:
        told = [(each.run.state, each.run.version) for each in client.follow(queued.pk)]
    assert told == [("queued", 0), ("running", 10), ("running", 30), ("completed", 40)]
    assert steps.steps == []


def test_loss_and_staleness_are_those_of_the_last_updates(web: Web, alice: User, project: Project) -> None:
    training = factories.Training(updates=400)
    run, _ = factories.trained_run(owner=alice, within=project, training=training, part=1.0)
    with Client(web.address, secret_of("alice")) as client:
        standing = client.progress(run.pk)
    assert standing.loss is not None
    assert 0 < standing.loss < 0.2  # it began at 2.3
    # Of four trainers one is three times slower: 3 versions behind, on the mean.
    assert standing.staleness == pytest.approx(3, abs=1)


def test_it_waits_for_a_service_that_is_started_again(web: Web, queued: Run) -> None:
    def restarted() -> None:
        web.kill()
        moved(queued, RunState.CANCELLED)
        web.start()

    steps = Steps(restarted)
    with Client(web.address, secret_of("alice"), clock=steps.clock) as client:
        assert [each.run.state for each in client.follow(queued.pk)] == ["queued", "cancelled"]


def test_looks_become_rarer_while_nothing_moves_and_end_with_the_time_given(web: Web, queued: Run) -> None:
    steps = Steps()
    with Client(web.address, secret_of("alice"), clock=steps.clock) as client:
        with pytest.raises(TookTooLong, match="longer than 10 s"):
            list(client.follow(queued.pk, seconds=10))
    assert steps.pauses == sorted(steps.pauses)
    assert (steps.pauses[0], steps.pauses[-1]) == (0.5, 2.0)


def test_a_log_is_followed_to_its_last_line(web: Web, queued: Run) -> None:
    server, trainer, *_ = factories.gang(queued)
    factories.printed(server, "one")

    def failed() -> None:
        factories.printed(server, "four")
        moved(queued, RunState.FAILED)

    steps = Steps(lambda: factories.printed(trainer, "two", "three"), failed)
    with Client(web.address, secret_of("alice"), clock=steps.clock) as client:
        assert [line.text for line in client.follow_logs(queued.pk)] == ["one", "two", "three", "four"]


@pytest.mark.parametrize(("end", "status"), [("completed", 0), ("failed", 1), ("cancelled", 3)])
def test_submitting_can_stay_to_the_end_and_exits_with_it(started: Start, spec: Path, end: str, status: int) -> None:
    command = started("submit", spec, "--follow", "--json")
    experiment = json.loads(command.line())
    run = Run.objects.get(pk=experiment["runs"][0]["id"])
    assert json.loads(command.line())["state"] == "queued"
    moved(run, RunState.RUNNING, version=7)
    assert json.loads(command.line())["version"] == 7
    moved(run, end, version=40)
    said = command.ending()
    assert said.status == status, said.err
    assert json.loads(said.out)["state"] == end


def test_people_are_told_in_lines_where_there_is_no_terminal(started: Start, spec: Path) -> None:
    command = started("submit", spec, "--follow")
    assert command.line().split() == ["run", "page", "name"]
    number = int(command.line().split()[0])
    moved(Run.objects.get(pk=number), RunState.FAILED, version=40, cause="diverged", detail="the loss is not finite")
    said = command.ending()
    assert said.status == 1
    assert said.out == f"{number}  digits from a shell: failed, version 40, diverged: the loss is not finite\n"
    assert f"run {number} failed" in said.err


def test_many_are_followed_until_the_last_has_ended(started: Start, spec: Path) -> None:
    command = started("submit", spec, "--follow", "--json", "--seeds", "0-2")
    ids = [each["id"] for each in json.loads(command.line())["runs"]]
    assert {json.loads(command.line())["run"] for _ in ids} == set(ids)
    for number, state in zip(ids, ["completed", "cancelled", "completed"], strict=True):
        Run.objects.filter(pk=number).update(state=state)
    said = command.ending()
    assert said.status == 3
    last = {told["run"]: told["state"] for told in map(json.loads, said.out.splitlines())}
    assert last == dict(zip(ids, ["completed", "cancelled", "completed"], strict=True))


def test_ctrl_c_leaves_the_run_as_it_is_and_says_so(started: Start, spec: Path) -> None:
    command = started("submit", spec, "--follow", "--json")
    number = json.loads(command.line())["runs"][0]["id"]
    command.line()
    command.process.send_signal(signal.SIGINT)
    said = command.ending()
    assert said.status == 130
    assert f"Run {number} goes on without you. `trainhub show {number}` tells how far." in said.err
    assert "Traceback" not in said.err
    run = Run.objects.get(pk=number)
    assert (run.state, run.wish) == (RunState.QUEUED, Wish.NONE)
