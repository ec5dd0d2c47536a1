"""Simulations as queued runs: one slot, the hash of the command line, and what was stored of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.factories import Cell
from tests.runs.conftest import SLOTS, Stack, series
from tests.runs.test_faults import kill
from tests.waiting import eventually
from trainhub.actions import runs
from trainhub.actions.errors import CannotPause
from trainhub.models import Artifact, Event, Member, Run, RunState, SeriesChunk, Slot
from trainhub.queries import progress, virtual_seconds
from workers.assignment import Role
from workers.checkpoint import read as read_checkpoint
from workers.simulator import files
from workers.simulator.simulation import Result
from workers.spec import RunSpec

TRAINERS = 8
DIGITS: dict[str, Any] = {
    "problem": {"kind": "digits", "model": {"kind": "cnn", "width": 4}},
    "optimizer": {"kind": "sgd", "learning_rate": 0.05},
    "batch_size": 16,
    "workers": TRAINERS,
    "budget": {"passes": 3},
    "execution": {"kind": "simulate", "slow": [{"kind": "straggler", "factor": 4}], "push_seconds": 0.1},
}
LEDGER: dict[str, Any] = {
    "problem": {"kind": "ledger", "coordinates": 8},
    "workers": 8,
    "budget": {"updates": 10_000},
    "execution": {"kind": "simulate"},
}
ENDLESS = LEDGER | {"budget": {"updates": 10_000_000}}


def told(run: Run) -> dict[str, Any]:
    """What its newest attempt said of its result."""
    data: dict[str, Any] = Event.objects.filter(run=run, kind="simulated").latest("pk").data
    return data


def without_a_service(run: Run) -> Result:
    """What the command line makes of the same spec."""
    with files.simulation(run.run_spec, None) as simulation:
        return simulation.run()


@pytest.fixture(scope="module")
def digits(stack: Stack) -> Run:
    return stack.wait(stack.submit(**DIGITS), RunState.COMPLETED)


def test_eight_trainers_take_one_slot_and_one_member(digits: Run) -> None:
    members = Member.objects.filter(attempt__run=digits)
    assert list(members.values_list("role", "worker", "state")) == [(Role.SIMULATION, None, "finished")]
    kinds = set(digits.events.values_list("kind", flat=True))
    assert {"promoted", "training", "evaluated", "budget-spent", "checkpoint", "simulated", "completed"} <= kinds
    eventually(lambda: not Slot.objects.exclude(member=None).exists())


def test_it_comes_to_what_the_command_line_comes_to(digits: Run) -> None:
    same = without_a_service(digits)
    assert (told(digits)["log_hash"], told(digits)["weights_hash"]) == (same.log_hash, same.weights_hash)
    assert digits.version == same.version
    assert digits.metrics["accuracy"] == same.evaluations[-1].metrics["accuracy"]


def test_every_simulated_trainer_has_the_series_of_a_live_one(digits: Run) -> None:
    expected = {"loss", "staleness", "skip", "scale", "learning_rate", "gradient_norm", "train/accuracy"}
    for worker in range(TRAINERS):
        keys = set(digits.series_chunks.filter(worker=worker).values_list("key", flat=True))
        assert expected <= keys
        assert any(k.startswith("batch_norm/") for k in keys)
        assert not {"compute_seconds", "wait_seconds", "transfer_seconds"} & keys, "no real time was measured"
    of_the_run = set(digits.series_chunks.filter(worker=-1).values_list("key", flat=True))
    assert {"mean_delay", "updates_per_second", "evaluation/loss", "evaluation/accuracy"} <= of_the_run


def test_versions_are_conserved_in_what_was_stored(digits: Run) -> None:
    """At every version: sum over applied (d + 1 + skip) + sum over trainers (v_now - v_i) = N * v_now."""
    versions, staleness = series(digits, "staleness")
    assert versions.tolist() == list(range(1, digits.version + 1))
    _, skips = series(digits, "skip")
    owner = {int(x): worker for worker in range(TRAINERS) for x in series(digits, "staleness", worker)[0]}
    read, total = dict.fromkeys(range(TRAINERS), 0), 0
    for version, delay, skip in zip(versions.tolist(), staleness.tolist(), skips.tolist(), strict=True):
        read[owner[version]] = version + int(skip)
        total += int(delay) + 1 + int(skip)
        assert total + sum(version - r for r in read.values()) == TRAINERS * version


def test_its_points_lie_on_the_virtual_clock(digits: Run) -> None:
    begun = Event.objects.get(run=digits, kind="training").data["started_at"]
    chunk = SeriesChunk.objects.filter(run=digits, worker=0, key="loss").earliest("index")
    times = memoryview(bytes(chunk.t)).cast("d")
    assert 3.0 < times[0] - begun < 6.0, "the straggler takes 4 s and 0.1 s for its first push"
    assert virtual_seconds(digits) == pytest.approx(told(digits)["seconds"])


def test_its_final_checkpoint_is_that_version(digits: Run) -> None:
    final = Artifact.objects.get(run=digits, final=True)
    assert hashlib.sha256(Path(final.path).read_bytes()).hexdigest() == final.sha256
    _, meta = read_checkpoint(Path(final.path))
    assert (meta.version, meta.seconds) == (digits.version, told(digits)["seconds"])
    assert final.metrics["accuracy"] == digits.metrics["accuracy"]


def test_its_log_replays_to_its_checkpoint(digits: Run) -> None:
    final = Artifact.objects.get(run=digits, final=True)
    log = Path(Member.objects.get(attempt__run=digits).work_dir) / "gradients.log"
    again = files.replay_file(log, checkpoint=Path(final.path))
    assert (again.log_hash, again.complete, again.differences) == (told(digits)["log_hash"], True, [])


def test_a_killed_simulation_begins_again_and_comes_to_the_same(stack: Stack) -> None:
    run = stack.submit(**LEDGER)
    stack.wait_for_version(run, 1)
    kill(stack.child(run, role=Role.SIMULATION))
    done = stack.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts, done.version) == (2, 1, 10_000)
    assert told(run)["log_hash"] == without_a_service(run).log_hash
    assert Event.objects.get(run=run, kind="restarting").message.startswith("The simulation was lost")


def test_a_simulation_goes_on_while_its_agent_is_replaced(stack: Stack) -> None:
    run = stack.submit(**LEDGER)
    stack.wait_for_version(run, 1)
    child = stack.child(run, role=Role.SIMULATION)
    stack.kill("agent")
    stack.start("agent")
    done = stack.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts) == (1, 0)
    work_dir = Path(Member.objects.get(attempt__run=run).work_dir)
    assert json.loads((work_dir / "child.json").read_text())["pid"] == child
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 10_001)), "what was reported meanwhile was stored, once"


def test_it_can_be_cancelled_but_not_paused(stack: Stack) -> None:
    run = stack.submit(**ENDLESS)
    stack.wait_for_version(run, 1)
    with pytest.raises(CannotPause, match="cancel it instead"):
        runs.ask_to_pause(run, by=stack.owner)
    runs.ask_to_cancel(run, by=stack.owner)
    ended = stack.wait(run, RunState.CANCELLED)
    assert Artifact.objects.get(run=run, final=True).version == ended.version


def test_a_killed_one_ends_at_once(stack: Stack) -> None:
    run = stack.submit(**ENDLESS)
    stack.wait_for_version(run, 1)
    runs.ask_to_kill(run, by=stack.owner)
    stack.wait(run, RunState.CANCELLED, seconds=5)
    eventually(lambda: not Member.objects.filter(attempt__run=run, ended_at=None).exists())


def test_a_simulation_whose_trainers_are_all_lost_fails_once_and_says_so(stack: Stack) -> None:
    crashes = [{"kind": "crash", "worker": worker, "at_seconds": 5} for worker in range(2)]
    run = stack.submit(**LEDGER | {"workers": 2, "execution": {"kind": "simulate", "faults": crashes}})
    eventually(lambda: Run.objects.get(pk=run.pk).has_ended)
    run.refresh_from_db()
    assert (run.state, run.cause, run.detail, run.attempt) == (RunState.FAILED, "spec", "no trainer is left", 1)
    assert Event.objects.filter(run=run, kind="left").count() == 2


def test_a_thousand_trainers_are_stored_as_sixty_four_and_means(stack: Stack) -> None:
    thousand = {"workers": 1000, "problem": {"kind": "ledger", "coordinates": 1000}, "budget": {"updates": 3000}}
    run = stack.submit(**LEDGER | thousand)
    done = stack.wait(run, RunState.COMPLETED)
    workers = set(SeriesChunk.objects.filter(run=done, key="staleness").values_list("worker", flat=True))
    assert len(workers) == 65
    assert {-1, 0, 999} <= workers
    assert Event.objects.get(run=run, kind="series-capped").message.startswith("64 of 1,000 trainers")
    greatest, means = (series(done, key, -1)[1] for key in ("staleness/greatest", "staleness"))
    assert len(means) > 100
    assert (greatest >= means).all()
    assert progress(done.pk).mean_staleness is not None


def test_an_experiment_of_more_runs_than_slots_comes_to_its_end(stack: Stack) -> None:
    spec = {"name": "one of many", "optimizer": {"kind": "sgd", "learning_rate": 1.0}} | LEDGER
    cells = [Cell(RunSpec.parse(spec | {"seed": n, "budget": {"updates": 200}}), {"seed": n}) for n in range(SLOTS + 4)]
    made = runs.submit_many(project=stack.project, owner=stack.owner, name="many", cells=cells)
    eventually(lambda: made.runs.filter(state=RunState.COMPLETED).count() == len(cells))
    assert set(made.runs.values_list("version", "attempt", "restarts")) == {(200, 1, 0)}
    assert Member.objects.filter(attempt__run__experiment=made).count() == len(cells)
