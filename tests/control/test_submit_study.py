"""`manage.py submit_study`: a study's file becomes an experiment of queued runs."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from trainhub.models import Experiment, Project, Run, RunState

STUDY = """\
name: Two rates
about: Which of the two.
base:
  problem: {kind: digits, model: {kind: mlp, hidden: [16]}}
  optimizer: {kind: sgd, learning_rate: 0.05}
  budget: {passes: 1}
  execution: {kind: simulate}
methods:
  - {label: plain}
  - {label: inverse, set: {rate: {kind: staleness-inverse}}}
axes:
  workers: [2, 8]
final: {seeds: {count: 3}}
"""
TUNED = STUDY + "tune: {grid: [0.05, 0.1], seeds: {first: 100, count: 1}}\n"


def submit(folder: Path, text: str, *options: str) -> str:
    file, out = folder / "study.yaml", StringIO()
    file.write_text(text)
    call_command("submit_study", str(file), *options, stdout=out)
    return out.getvalue()


def test_every_cell_is_a_queued_simulation(db: None, tmp_path: Path) -> None:
    said = submit(tmp_path, STUDY)
    made = Experiment.objects.get()
    assert said == f"Queued 12 runs: {made.get_absolute_url()}\n"
    assert (made.name, made.notes, made.owner.username) == ("Two rates", "Which of the two.", "admin")
    assert {(r.state, r.least_slots, r.is_simulated) for r in made.runs.all()} == {(RunState.QUEUED, 1, True)}
    labelled = {(r.labels["method"], r.labels["workers"], r.labels["seed"]) for r in made.runs.all()}
    assert len(labelled) == 12
    assert all(r.run_spec.workers.max == r.labels["workers"] for r in made.runs.all())


def test_what_is_still_to_be_tuned_is_said_to_be_missing(db: None, tmp_path: Path) -> None:
    assert "their rate is not known yet" in submit(tmp_path, TUNED)
    assert {r.labels["stage"] for r in Run.objects.all()} == {"tune"}


def test_it_belongs_to_whom_and_where_it_is_said_to(project: Project, alice: User, tmp_path: Path) -> None:
    submit(tmp_path, STUDY, "--owner", "alice", "--project", "vision")
    made = Experiment.objects.get()
    assert (made.owner, made.project) == (alice, project)


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("name: [", [], "this is not YAML"),
        (STUDY.replace("kind: staleness-inverse", "kind: guess"), [], "rate"),
        (STUDY.replace("count: 3", "count: 900").replace("[2, 8]", "[1, 2, 3]"), [], "5400"),
        (STUDY, ["--owner", "nobody"], "no active user named 'nobody'"),
        (STUDY, ["--project", "nowhere"], "no project named 'nowhere'"),
    ],
    ids=["no-yaml", "unknown-method", "too-many", "no-owner", "no-project"],
)
def test_what_can_not_be_is_refused_in_words(
    db: None, tmp_path: Path, text: str, options: list[str], complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        submit(tmp_path, text, *options)
    assert not Run.objects.exists()
