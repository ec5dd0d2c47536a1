"""Real runs, judged by what was stored of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from tests.runs.conftest import Stack, series
from tests.waiting import eventually
from trainhub.models import Artifact, Attempt, Event, Member, Run, RunState, Slot
from trainhub.queries import progress
from workers.assignment import Role
from workers.problems import registry
from workers.spec import RunSpec

TRAINERS = 4


@pytest.fixture(scope="module")
def digits(stack: Stack) -> Run:
    """Digits on four equal trainers and a server, to its end."""
    run = stack.submit(
        problem={"kind": "digits", "model": {"kind": "cnn", "width": 8}},
        optimizer={"kind": "sgd", "learning_rate": 0.1},
        workers=TRAINERS,
        budget={"passes": 10},
        delays=[{"kind": "gamma", "mean_seconds": 0.03}],
    )
    return stack.wait(run, RunState.COMPLETED)


def test_one_server_and_four_trainers_were_promoted_out_of_workers(digits: Run) -> None:
    roles = list(Member.objects.filter(attempt__run=digits).order_by("rank").values_list("role", "worker"))
    assert roles == [(Role.SERVER, None), *((Role.TRAINER, n) for n in range(TRAINERS))]
    assert {"promoted", "training", "completed"} <= set(digits.events.values_list("kind", flat=True))


def test_every_version_was_made_once(digits: Run) -> None:
    versions, _ = series(digits, "staleness")
    assert digits.version > 200
    assert versions.tolist() == list(range(1, digits.version + 1))


def test_the_conservation_identity_is_exact_in_integers(digits: Run) -> None:
    """At every instant: sum over applied (d + 1 + skip) + sum over trainers (v_now - v_i) = N * v_now."""
    versions, staleness = series(digits, "staleness")
    _, skips = series(digits, "skip")
    owner = {int(x): worker for worker in range(TRAINERS) for x in series(digits, "staleness", worker)[0]}
    read = dict.fromkeys(range(TRAINERS), 0)
    total = 0
    for version, delay, skip in zip(versions.tolist(), staleness.tolist(), skips.tolist(), strict=True):
        worker = owner[version]
        assert read[worker] == version - 1 - int(delay), "a delay is what was applied since its trainer read"
        read[worker] = version + int(skip)
        total += int(delay) + 1 + int(skip)
        assert total + sum(version - r for r in read.values()) == TRAINERS * version


def test_the_mean_delay_is_the_number_of_trainers(digits: Run) -> None:
    _, staleness = series(digits, "staleness")
    _, skips = series(digits, "skip")
    assert np.mean(staleness + 1 + skips) == pytest.approx(TRAINERS, rel=0.05)


def test_it_learned(digits: Run) -> None:
    assert digits.metrics["accuracy"] > 0.9
    assert progress(digits.pk).fraction == 1.0


def test_batch_norm_is_reported_by_each_worker_and_by_the_server(digits: Run) -> None:
    known = set(digits.series_chunks.values_list("key", flat=True))
    keys = [k for k in known if k.startswith("batch_norm/") and k.endswith(("/mean", "/variance"))]
    assert len(keys) == 4, "two layers, mean and variance"
    for key in keys:
        assert set(digits.series_chunks.filter(key=key).values_list("worker", flat=True)) == {-1, 0, 1, 2, 3}


def test_the_final_checkpoint_is_as_good_as_the_page_says_in_plain_pytorch(digits: Run) -> None:
    final = Artifact.objects.get(run=digits, final=True)
    assert hashlib.sha256(Path(final.path).read_bytes()).hexdigest() == final.sha256
    problem = registry.load(RunSpec.parse(digits.spec).problem)
    model = problem.model()
    tensors = load_file(final.path)
    model.load_state_dict({k: v for k, v in tensors.items() if k in model.state_dict()}, strict=True)
    assert any(isinstance(m, _BatchNorm) for m in model.modules())
    model.eval()
    dataset = problem.dataset("test")
    batch = next(iter(DataLoader(dataset, batch_size=1000, collate_fn=problem.collate)))
    with torch.no_grad():
        _, metrics = problem.loss(model, batch)
    assert float(metrics["accuracy"]) == pytest.approx(digits.metrics["accuracy"], abs=1e-6)
    assert final.metrics["accuracy"] == digits.metrics["accuracy"]


def test_the_environment_of_the_attempt_is_kept(digits: Run) -> None:
    environment = Attempt.objects.get(run=digits).environment
    assert environment["packages"]["torch"].startswith("2.")
    assert environment["host"]


def test_nothing_is_left_of_a_run_that_has_ended(digits: Run, stack: Stack) -> None:
    eventually(lambda: not Slot.objects.exclude(member=None).exists())
    left = [p for p in Path("/dev/shm").glob("trainhub-*") if f"r{digits.pk}e" in p.name]
    assert left == []
    assert not Path(digits.endpoint or "/nowhere").exists()


def test_a_fault_in_the_users_problem_is_told(stack: Stack) -> None:
    target = {"kind": "python", "target": "tests.runs.faulty:Faulty"}
    run = stack.submit(problem=target, budget={"updates": 50})
    eventually(lambda: Run.objects.get(pk=run.pk).has_ended)
    run.refresh_from_db()
    assert (run.state, run.cause) == (RunState.FAILED, "user-code")
    assert "the faulty problem's third batch" in run.detail


def test_a_problem_that_is_not_there_is_told(stack: Stack) -> None:
    run = stack.submit(problem={"kind": "python", "target": "nowhere.at_all:Thing"}, budget={"updates": 50})
    eventually(lambda: Run.objects.get(pk=run.pk).has_ended)
    run.refresh_from_db()
    assert (run.state, run.cause) == (RunState.FAILED, "spec")
    assert run.detail == "problem.target: nowhere can't be imported on this node"


def test_a_run_larger_than_all_slots_waits_and_says_why(stack: Stack) -> None:
    run = stack.submit(problem={"kind": "ledger"}, workers=20, budget={"updates": 5})
    reason = "needs 21 slots, but all nodes together have 8"
    eventually(lambda: Run.objects.get(pk=run.pk).waiting_reason == reason)
    assert Event.objects.filter(run=run).count() == 1
    Run.objects.filter(pk=run.pk).update(state=RunState.CANCELLED)


def test_no_child_is_told_the_address_of_database_or_broker(stack: Stack) -> None:
    run = stack.submit(problem={"kind": "ledger", "compute_seconds": 0.05}, budget={"updates": 60})
    stack.wait_for_version(run, 1)
    environ = Path(f"/proc/{stack.child(run, role=Role.TRAINER, worker=0)}/environ").read_bytes()
    assert b"TRAINHUB_" in environ
    assert b"postgresql://" not in environ
    stack.wait(run, RunState.COMPLETED)
