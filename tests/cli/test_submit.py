"""Submitting: the same spec, and the same refusals, as at every other door."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests.cli.conftest import SPEC, Shell, secret_of
from tests.cli.proxies import losing
from tests.webs import Web
from trainhub.client import ApiError, Client
from trainhub.models import Experiment, Run
from trainhub.submissions import Draft, understand
from workers.spec import RunSpec
from workers.spec_errors import SpecError


def findings(**draft: object) -> list[str]:
    with pytest.raises(SpecError) as refused:
        understand(Draft(**draft))  # type: ignore[arg-type]
    return str(refused.value).splitlines()


def test_a_file_is_stored_as_it_is_understood_here(shell: Shell, spec: Path) -> None:
    said = shell("submit", spec)
    assert said.status == 0, said.err
    run = Run.objects.get()
    assert run.run_spec.canonical() == RunSpec.parse_yaml(SPEC).canonical()
    assert run.spec == json.loads(RunSpec.parse_yaml(SPEC).canonical())
    assert f"/runs/{run.pk}/" in said.out
    assert "1 run queued in project vision" in said.err


def test_a_spec_comes_on_standard_input_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(SPEC))
    assert shell("submit", "-").status == 0
    assert Run.objects.get().name == "digits from a shell"


def test_every_spec_of_the_examples_is_taken_unchanged(shell: Shell) -> None:
    file = Path(__file__).parent.parent.parent / "examples" / "digits-async.yaml"
    assert shell("submit", file).status == 0
    assert Run.objects.get().run_spec.canonical() == RunSpec.parse_yaml(file.read_text()).canonical()


def test_a_wrong_spec_is_refused_in_the_words_of_the_schema(shell: Shell, spec: Path) -> None:
    wrong = SPEC.replace("workers: 2", "workers: 0\nbudge: 3").replace("kind: sgd", "kind: sdg")
    spec.write_text(wrong)
    said = shell("submit", spec)
    assert (said.status, said.out) == (2, "")
    assert said.err.splitlines() == [f"trainhub submit: {spec} is refused:", *findings(yaml=wrong)]
    assert not Run.objects.exists()


def test_what_is_no_yaml_is_refused_in_the_same_words(shell: Shell, spec: Path) -> None:
    spec.write_text("name: [")
    said = shell("submit", spec, "--set", "workers=3")
    assert said.status == 2
    assert said.err.splitlines()[1:] == findings(yaml="name: [")


def test_a_file_that_is_not_there_is_wrong_usage(shell: Shell) -> None:
    said = shell("submit", "none.yaml")
    assert (said.status, said.err) == (2, "trainhub submit: There is no file none.yaml.\n")


def test_seeds_and_a_grid_make_their_product(shell: Shell, spec: Path) -> None:
    grid = ["--grid", "optimizer.learning_rate=0.1,1e-3", "--grid", "rate.kind=constant,staleness-inverse"]
    said = shell("submit", spec, "--seeds", "0-1,7", *grid, "--name", "a sweep")
    assert said.status == 0, said.err
    experiment = Experiment.objects.get()
    assert experiment.name == "a sweep"
    assert experiment.runs.count() == 12
    specs = [run.run_spec for run in experiment.runs.all()]
    assert {spec.seed for spec in specs} == {0, 1, 7}
    assert {spec.optimizer.learning_rate for spec in specs} == {0.1, 0.001}
    assert {spec.rate.kind for spec in specs} == {"constant", "staleness-inverse"}


def test_a_value_of_the_grid_that_can_t_be_is_named(shell: Shell, spec: Path) -> None:
    said = shell("submit", spec, "--grid", "workers=2,0")
    assert said.status == 2
    assert said.err.splitlines()[1:] == findings(yaml=SPEC, grid={"workers": [2, 0]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "one"], "--seeds: must look like 0-4 or 0,1,2, got 'one'"),
        (["--seeds", "4-0"], "--seeds: 4-0 makes no runs"),
        (["--grid", "workers"], "--grid: must look like field=value, got 'workers'"),
        (["--set", "workers=[1"], "--set: 'workers=[1' has no value that YAML understands"),
        (["--set", "name.first=x"], "--set: name.first: can't be set"),
    ],
)
def test_words_that_can_t_be_are_refused_here(logged_out: Shell, spec: Path, words: list[str], said: str) -> None:
    refused = logged_out("submit", spec, *words)
    assert refused.status == 2
    assert said in refused.err


def test_fields_are_set_before_it_is_submitted(shell: Shell, spec: Path) -> None:
    said = shell("submit", spec, "--set", "workers=3", "--set", "rate={kind: constant}", "--set", "name=other")
    assert said.status == 0, said.err
    stored = Run.objects.get().run_spec
    assert (stored.workers.max, stored.rate.kind, stored.name) == (3, "constant", "other")


def test_checking_submits_nothing(shell: Shell, spec: Path) -> None:
    said = shell("submit", spec, "--check", "--seeds", "0-2")
    assert said.status == 0, said.err
    assert "3 runs" in said.out
    assert "2 trainers" in said.out
    assert not Run.objects.exists()


def test_checking_finds_what_submitting_would_refuse(shell: Shell, spec: Path) -> None:
    wrong = SPEC.replace("workers: 2", "workers: 0")
    spec.write_text(wrong)
    said = shell("submit", spec, "--check")
    assert said.status == 2
    assert said.err.splitlines()[1:] == findings(yaml=wrong)
    told = json.loads(shell("submit", spec, "--check", "--json").out)
    assert told["valid"] is False
    assert [f"{each['field']}: {each['message']}" for each in told["errors"]] == findings(yaml=wrong)


def test_whoever_may_only_look_submits_nothing(shell: Shell, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINHUB_TOKEN", secret_of("vera"))
    said = shell("submit", spec, "--project", "vision")
    assert said.status == 4
    assert "You may look at project vision, but not change it." in said.err


def test_a_token_that_may_only_read_submits_nothing(shell: Shell, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINHUB_TOKEN", secret_of("alice", scopes=["read"]))
    assert shell("submit", spec).status == 4
    assert shell("submit", spec, "--check").status == 0
    assert not Run.objects.exists()


def test_a_project_that_is_not_there_is_told_of(shell: Shell, spec: Path) -> None:
    assert shell("submit", spec, "--project", "nowhere").status == 4


def test_a_lost_answer_makes_one_experiment(web: Web, alice: User) -> None:
    waits: list[str] = []
    with losing(web.address) as proxy:
        told = Client(proxy.address, secret_of("alice"), on_wait=lambda why, _: waits.append(why))
        with told as client:
            experiment = client.submit(yaml=SPEC)
    assert proxy.lost == 1
    assert len(waits) == 1
    assert [found.pk for found in Experiment.objects.all()] == [experiment.id]


def test_the_command_survives_a_lost_answer_too(
    shell: Shell, web: Web, spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with losing(web.address) as proxy:
        monkeypatch.setenv("TRAINHUB_URL", proxy.address)
        said = shell("submit", spec, "--json")
    assert (said.status, proxy.lost) == (0, 1)
    assert json.loads(said.out)["id"] == Experiment.objects.get().pk
    assert "trying again" in said.err


def test_the_same_key_is_the_same_experiment_and_never_another_one(client: Client) -> None:
    first, second = (client.submit(yaml=SPEC, key="morning") for _ in range(2))
    assert first.id == second.id
    with pytest.raises(ApiError, match="another submission") as refused:
        client.submit(yaml=SPEC, seeds=[1, 2], key="morning")
    assert (refused.value.status, refused.value.code) == (409, "key-reused")
    assert Experiment.objects.count() == 1


def test_each_submission_is_its_own_without_a_key(client: Client) -> None:
    assert client.submit(yaml=SPEC).id != client.submit(yaml=SPEC).id


def test_a_spec_as_data_is_the_same_as_its_yaml(client: Client) -> None:
    client.submit(RunSpec.parse_yaml(SPEC).model_dump(mode="json"))
    assert Run.objects.get().run_spec == RunSpec.parse_yaml(SPEC)
