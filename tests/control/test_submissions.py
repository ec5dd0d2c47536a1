"""Drafts understood, and written once: seeds, grids, keys, rights, data."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection, transaction

from tests.control.conftest import SPEC, spec
from trainhub.actions import runs, submissions
from trainhub.actions.errors import KeyReused, NoDataset, NotAllowedToRunCode, WrongKey
from trainhub.models import AuditEntry, Dataset, Experiment, Project, Run
from trainhub.submissions import Draft, Submission, understand
from workers.spec import RunSpec
from workers.spec_errors import SpecError

pytestmark = pytest.mark.django_db


def draft(**more: Any) -> Draft:
    return Draft(spec=SPEC, **more)


def refused(**more: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        understand(draft(**more))
    return [str(finding) for finding in caught.value.findings]


def values(submission: Submission, axis: str) -> list[Any]:
    return [cell.labels[axis] for cell in submission.cells]


def test_a_spec_as_data_and_as_yaml_is_the_same_submission() -> None:
    text = RunSpec.parse(SPEC).as_yaml()
    assert understand(Draft(yaml=text)).cells == understand(draft()).cells


def test_a_draft_is_either_data_or_yaml() -> None:
    for wrong in (Draft(), Draft(spec=SPEC, yaml="name: x")):
        with pytest.raises(SpecError, match="give either a spec or its yaml"):
            understand(wrong)


def test_seeds_make_a_run_each() -> None:
    made = understand(draft(seeds=[3, 5]))
    assert [cell.spec.seed for cell in made.cells] == values(made, "seed") == [3, 5]


def test_a_grid_makes_every_combination_and_a_kind_replaces_its_whole_part() -> None:
    grid: dict[str, list[Any]] = {"gate.kind": ["async", "sync"], "optimizer.learning_rate": [0.5, 1.0]}
    made = understand(Draft(spec=SPEC | {"gate": {"kind": "softsync", "c": 2}}, grid=grid, seeds=[0, 1]))
    assert len(made.cells) == 8
    assert {(c.spec.gate.kind, c.spec.optimizer.learning_rate, c.spec.seed) for c in made.cells} == {
        (gate, rate, seed) for gate in ("async", "sync") for rate in (0.5, 1.0) for seed in (0, 1)
    }


def test_a_value_of_a_grid_may_be_a_whole_part() -> None:
    made = understand(draft(grid={"rate": [{"kind": "constant"}, {"kind": "adadelay", "kappa": 2}]}))
    assert values(made, "rate") == ["constant", "adadelay (kappa 2)"]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"grid": {"batch_size": [0, 8]}}, "grid.batch_size: must be greater than or equal to 1, got 0 (with 0)"),
        ({"grid": {"rate.kind": ["magic"]}}, "grid.rate.kind: must be one of constant, "),
        ({"grid": {"batch_size": []}}, "grid.batch_size: must have 1 to 100 values, got 0"),
        ({"grid": {"batch_size": [8, 8]}}, "grid.batch_size: has 8 more than once"),
        ({"grid": {"name": ["a", "b"]}}, "grid.name: can't be varied"),
        ({"grid": {"speed": [1]}}, "grid.speed: no such field; check its spelling"),
        ({"grid": {"seed": [1]}, "seeds": [2]}, "grid.seed: is given in seeds too"),
        ({"seeds": [-1]}, "seeds: must be greater than or equal to 0, got -1"),
        ({"grid": {"seed": list(range(50)), "batch_size": [1, 2, 3, 4, 5]}}, "grid: makes 250 runs; 200 at most"),
        ({"grid": {"workers": [2, 3], "gate": [{"kind": "softsync", "c": 3}]}}, "grid.gate: must be at most workers"),
    ],
)  # fmt: skip
def test_it_names_the_axis_that_can_t_be(more: dict[str, Any], error: str) -> None:
    assert refused(**more)[0].startswith(error)


def test_what_is_wrong_with_every_seed_is_told_once() -> None:
    grid = {"rate": [{"kind": "adadelay", "kappa": 1}]}
    with pytest.raises(SpecError) as caught:
        understand(Draft(spec=SPEC | {"schedule": {"kind": "cosine"}}, grid=grid, seeds=[1, 2, 3]))
    [finding] = caught.value.findings
    assert finding.field == "schedule.kind"
    assert finding.message.endswith("(with rate adadelay (kappa 1))")


def test_the_stored_spec_is_the_canonical_one_to_the_byte(project: Project, alice: User) -> None:
    submissions.submit(project=project, owner=alice, draft=draft())
    stored = json.dumps(Run.objects.get().spec, sort_keys=True, separators=(",", ":"))
    assert stored == RunSpec.parse(SPEC).canonical()


def test_a_submission_is_audited(project: Project, alice: User) -> None:
    submissions.submit(project=project, owner=alice, draft=draft(seeds=[0, 1], name="twice"))
    entry = AuditEntry.objects.get()
    assert (entry.by, entry.action, entry.project) == (alice, "submit", project)
    assert entry.message == "Submitted twice: 2 runs"


def test_the_same_key_finds_what_it_made(project: Project, alice: User) -> None:
    first = submissions.submit(project=project, owner=alice, draft=draft(), key="k")
    again = submissions.submit(project=project, owner=alice, draft=draft(), key="k")
    assert again.experiment == first.experiment
    assert (first.replayed, again.replayed) == (False, True)
    assert Run.objects.count() == 1


def test_a_key_stands_for_one_submission_and_for_one_person(project: Project, alice: User) -> None:
    submissions.submit(project=project, owner=alice, draft=draft(), key="k")
    with pytest.raises(KeyReused):
        submissions.submit(project=project, owner=alice, draft=draft(seeds=[1]), key="k")
    bob = User.objects.create(username="bob")
    assert not submissions.submit(project=project, owner=bob, draft=draft(seeds=[1]), key="k").replayed


def test_a_key_that_can_t_be_is_refused(project: Project, alice: User) -> None:
    for key in ("x" * 201, "a\nb"):
        with pytest.raises(WrongKey):
            submissions.submit(project=project, owner=alice, draft=draft(), key=key)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_under_one_key_make_one_experiment(project: Project, alice: User) -> None:
    barrier, replayed = threading.Barrier(2, timeout=10), []

    def one() -> None:
        barrier.wait()
        replayed.append(submissions.submit(project=project, owner=alice, draft=draft(), key="k").replayed)
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(replayed) == [False, True]
    assert Experiment.objects.count() == 1


def test_code_by_its_path_takes_a_right(project: Project, alice: User) -> None:
    wanted = spec(problem={"kind": "python", "target": "os:system"})
    with pytest.raises(NotAllowedToRunCode, match=r"problem\.kind"):
        runs.submit(project=project, owner=alice, spec=wanted)
    alice.user_permissions.add(Permission.objects.get(codename="run_code"))
    assert runs.submit(project=project, owner=User.objects.get(pk=alice.pk), spec=wanted).state == "queued"


def test_data_must_be_there_and_of_the_kind_the_problem_takes(project: Project, alice: User) -> None:
    wanted = spec(problem={"kind": "table", "dataset": "iris"}, budget={"passes": 1})
    with pytest.raises(NoDataset, match=r"problem\.dataset: project vision has no data set named 'iris'"):
        runs.submit(project=project, owner=alice, spec=wanted)
    made = Dataset.objects.create(
        project=project, owner=alice, name="iris", kind="images", sha256="0", size_bytes=1, examples=1, path="p"
    )
    with pytest.raises(NoDataset, match=r"iris holds images; problem\.kind images takes it"):
        runs.submit(project=project, owner=alice, spec=wanted)
    made.kind = "table"
    made.save()
    assert runs.submit(project=project, owner=alice, spec=wanted).state == "queued"


def test_a_grid_of_values_that_are_long_or_deep_is_refused_before_it_multiplies() -> None:
    delays = [[{"kind": "factor", "factor": 2, "workers": list(range(-5000, 0))}]]
    assert refused(grid={"delays": delays}) == [
        "grid.delays: has a value of more than 2,000 characters; put it into the spec"
    ]
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert refused(grid={"delays": [deep]}) == ["grid.delays: a spec may be nested 40 levels deep at most"]
    assert refused(seeds=[deep]) == ["seeds: a spec may be nested 40 levels deep at most"]
    assert refused(grid={"x" * 300: [1]}) == ["grid: names a field of more than 200 characters"]


def test_many_runs_of_a_long_spec_are_refused() -> None:
    parameters = {str(n): "x" * 100 for n in range(20_000)}
    wanted = SPEC | {"problem": {"kind": "installed", "name": "x", "parameters": parameters}}
    assert len(understand(Draft(spec=wanted, seeds=[0, 1])).cells) == 2
    with pytest.raises(SpecError, match="grid: makes 50 runs of a spec this long; 16 MiB"):
        understand(Draft(spec=wanted, seeds=list(range(50))))


def table_of(project: Project, owner: User, sha256: str = "0") -> Dataset:
    return Dataset.objects.create(
        project=project, owner=owner, name="iris", kind="table", sha256=sha256, size_bytes=1, examples=1, path="p"
    )


@pytest.mark.django_db(transaction=True)
def test_a_data_set_can_t_go_while_a_run_of_it_is_written(project: Project, alice: User) -> None:
    made, found = table_of(project, alice), []

    def delete() -> None:
        try:
            with transaction.atomic():
                Dataset.objects.select_for_update(nowait=True).get(pk=made.pk)
        except OperationalError as error:
            found.append(str(error))
        connection.close()

    with transaction.atomic():
        wanted = spec(problem={"kind": "table", "dataset": "iris"}, budget={"passes": 1})
        runs.submit(project=project, owner=alice, spec=wanted)
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(20)
    assert "could not obtain lock" in found[0]
