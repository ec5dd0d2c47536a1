"""Lists, one run, its log, its events, comparisons: for people and for programs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.utils import timezone

from tests import factories
from tests.cli.conftest import Shell, Start
from trainhub.actions import people
from trainhub.client import Client
from trainhub.models import LogLine, Member, Node, Project, Run, RunState


@pytest.fixture
def trained(project: Project) -> tuple[Run, list[Member]]:
    """A run in the middle of its training."""
    training = factories.Training(updates=1000)
    return factories.trained_run(owner=factories.person("alice"), within=project, training=training)


def many(project: Project, count: int) -> list[Run]:
    owner = factories.person("alice")
    return [factories.run(owner=owner, within=project, name=f"run {index}") for index in range(count)]


def data(shell: Shell, *words: object) -> Any:
    said = shell(*words, "--json")
    assert said.status == 0, said.err
    return json.loads(said.out)


def test_runs_are_listed_with_state_and_numbers(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    run, _ = trained
    head, line = shell("runs").out.splitlines()
    assert head.split()[:3] == ["run", "name", "state"]
    assert line.split()[0] == str(run.pk)
    assert "running" in line
    assert "accuracy 0.9722" in line
    assert "\x1b" not in line  # no colours where nobody sees them


def test_lists_and_single_runs_are_json_on_request(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    run, _ = trained
    assert [each["id"] for each in data(shell, "runs")] == [run.pk]
    told = data(shell, "show", run.pk)
    assert (told["id"], told["state"], told["version"]) == (run.pk, "running", run.version)


def test_a_list_without_runs_says_what_to_do_next(shell: Shell) -> None:
    said = shell("runs")
    assert (said.status, said.out) == (0, "")
    assert "`trainhub submit SPEC` makes one." in said.err
    assert data(shell, "runs") == []


def test_filters_narrow_the_list(shell: Shell, project: Project) -> None:
    one, two, _ = many(project, 3)
    Run.objects.filter(pk=one.pk).update(state=RunState.FAILED)
    Run.objects.filter(pk=two.pk).update(state=RunState.CANCELLED)
    found = data(shell, "runs", "--state", "failed", "--state", "cancelled")
    assert {each["id"] for each in found} == {one.pk, two.pk}
    assert data(shell, "runs", "--project", "elsewhere") == []
    assert [each["id"] for each in data(shell, "runs", "--experiment", one.experiment_id)] == [one.pk]


def test_an_unknown_state_is_wrong_usage(shell: Shell) -> None:
    said = shell("runs", "--state", "dreaming")
    assert said.status == 2
    assert "state" in said.err


def test_pages_are_turned_until_the_last(client: Client, project: Project) -> None:
    made = many(project, 5)
    assert [run.id for run in client.runs(page=2)] == [run.pk for run in reversed(made)]


def test_a_limit_is_a_limit_over_pages(shell: Shell, project: Project) -> None:
    made = many(project, 5)
    assert [each["id"] for each in data(shell, "runs", "--limit", 3)] == [run.pk for run in reversed(made[2:])]
    assert len(data(shell, "runs", "--limit", 0)) == 5


def test_a_run_is_shown_with_members_and_checkpoints(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    run, _ = trained
    out = shell("show", run.pk).out
    assert f"{run.pk}  {run.name}" in out
    assert f"version {run.version:,}" in out
    assert "training loss" in out
    assert " versions" in out
    assert "trainer 3" in out
    assert "1.1 MiB" in out


@pytest.mark.parametrize(
    ("state", "status"),
    [("completed", 0), ("failed", 1), ("cancelled", 3), ("running", 5), ("queued", 5), ("paused", 5)],
)
def test_an_exit_status_tells_the_state(shell: Shell, project: Project, state: str, status: int) -> None:
    run = factories.run(owner=factories.person("alice"), within=project, state=state)
    said = shell("show", run.pk, "--exit-code")
    assert (said.status, said.err) == (status, "")
    assert shell("show", run.pk).status == 0


def test_a_run_that_is_not_there_or_not_for_us_is_the_same(shell: Shell) -> None:
    other = factories.run(owner=factories.person("carol"), within=factories.project("elsewhere"))
    strange, missing = shell("show", other.pk), shell("show", 10**9)
    assert (strange.status, missing.status) == (4, 4)
    assert strange.err == missing.err


def test_the_log_is_printed_of_all_or_of_one(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    run, (server, *_) = trained
    lines = shell("logs", run.pk).out.splitlines()
    assert len(lines) == 10
    assert "digits: 1437 training examples" in lines[0]
    assert [line.split()[1] for line in shell("logs", run.pk, "--member", "server").out.splitlines()] == ["server"] * 2
    assert "trainer 2" in shell("logs", run.pk, "--member", 2, "--lines", 1).out
    assert {each["member"] for each in data(shell, "logs", run.pk, "--member", server.title)} == {"server"}


def test_an_unknown_member_is_told_who_there_is(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    said = shell("logs", trained[0].pk, "--member", "9")
    assert said.status == 2
    assert "its members: server, trainer 0" in said.err.replace(
        "its members: trainer 0", "its members: server, trainer 0"
    )


def test_events_are_printed_oldest_first(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    run, _ = trained
    told = [each["message"] for each in data(shell, "events", run.pk)]
    assert told[0] == "Submitted by alice"
    out = shell("events", run.pk).out
    assert out.index("Submitted by alice") < out.index("Training began")


def test_runs_are_compared_by_what_they_differ_in(shell: Shell, project: Project) -> None:
    owner = factories.person("alice")
    runs = [
        factories.run(owner=owner, within=project, name=f"rate {rate}", spec=factories.spec(rate={"kind": rate}))
        for rate in ("constant", "staleness-inverse")
    ]
    out = shell("compare", *(run.pk for run in runs)).out
    assert "rate.kind" in out
    assert "constant" in out
    assert "optimizer.learning_rate" not in out
    assert "optimizer.learning_rate" in shell("compare", *(run.pk for run in runs), "--all").out
    told = data(shell, "compare", *(run.pk for run in runs))
    differing = {each["field"]: each["values"] for each in told["parameters"] if each["differs"]}
    assert differing["rate.kind"] == ["constant", "staleness-inverse"]


def test_nodes_are_listed_with_their_slots(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    told = data(shell, "nodes")
    assert [each["name"] for each in told] == ["node-a"]
    out = shell("nodes").out
    assert "online" in out
    assert "8.0 GiB" in out
    assert "of 5 idle" in out
    facts = {"name": "NVIDIA H100", "memory_bytes": 80 << 30, "driver": "580.65", "capability": "9.0", "uuid": "GPU"}
    Node.objects.update(environment={"gpus": [{"index": index} | facts for index in range(2)]})
    assert "2 × NVIDIA H100" in shell("nodes").out


def test_only_operators_drain_nodes(shell: Shell, trained: tuple[Run, list[Member]]) -> None:
    refused = shell("nodes", "--drain", "node-a")
    assert refused.status == 4
    people.make_operator(factories.person("alice"), by=factories.person("alice"))
    assert "drained" in shell("nodes", "--drain", "node-a").out
    assert Node.objects.get().drained
    assert "online" in shell("nodes", "--undrain", "node-a").out
    assert not Node.objects.get().drained


def test_a_series_comes_whole_where_it_is_asked_for_whole(client: Client, trained: tuple[Run, list[Member]]) -> None:
    run, _ = trained
    lines = list(client.whole_series(run.pk, "learning_rate"))
    assert all(line.exact for line in lines)
    versions = sorted(x for line in lines for x in line.x)
    assert versions == list(range(1, run.version + 1))


def test_whoever_stops_reading_ends_it_quietly(started: Start, project: Project) -> None:
    many(project, 3)
    command = started("runs")
    assert command.process.stdout is not None
    command.process.stdout.close()
    assert command.process.wait(30) == 141
    assert command.process.stderr is not None
    assert command.process.stderr.read() == ""


def test_tokens_are_made_listed_and_revoked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shell("tokens", "make", "for a script", "--read-only")
    assert said.status == 0, said.err
    [made] = [each for each in data(shell, "tokens") if each["name"] == "for a script"]
    assert made["scopes"] == ["read"]
    assert "secret" not in made
    assert "for a script" in shell("tokens").out
    assert shell("tokens", "revoke", made["id"]).status == 0
    monkeypatch.setenv("TRAINHUB_TOKEN", said.out.strip())
    assert shell("runs").status == 4


def test_what_others_named_and_printed_commands_no_terminal(shell: Shell, project: Project) -> None:
    evil = "a\x1b]0;owned\x07b\x9b31m"
    run = factories.run(owner=factories.person("alice"), within=project, name=evil)
    member = factories.gang(run)[0]
    LogLine.objects.create(run=run, member=member, at=timezone.now(), text=evil)
    for words in (("runs",), ("show", run.pk), ("logs", run.pk), ("cancel", run.pk), ("compare", run.pk, run.pk)):
        said = shell(*words)
        assert not re.search(r"[\x07\x1b\x9b]", said.out + said.err), words
    assert "a␛]0;owned␇b�31m" in shell("runs").out
