"""Drafts checked before they are submitted: the same findings at every door, and what a submission would meet."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User

from tests import factories
from tests.control.conftest import make_node
from tests.web import rest
from tests.web.rest import session
from trainhub.models import Dataset, Experiment, Project
from workers.spec import RunSpec

pytestmark = pytest.mark.django_db

BAD: list[dict[str, Any]] = [
    rest.SPEC | {"workers": 0},
    rest.SPEC | {"optimizer": {"kind": "sgd", "learning_rate": -1, "nesterov": True}},
    rest.SPEC | {"gate": {"kind": "softsync", "c": 9}, "rate": {"kind": "window"}},
    rest.SPEC | {"batchsize": 3, "problem": {"kind": "nothing"}},
    {"name": "empty"},
]


def checked(body: dict[str, Any], who: str = "bob") -> Any:
    answer = session(who).post("specs/check", body)
    assert answer.status_code == 200
    return answer.json()


def test_a_good_draft_is_told_in_full_in_brief_and_in_words(project: Project) -> None:
    told = checked({"yaml": rest.YAML, "seeds": [0, 1, 2]})
    assert (told["valid"], told["errors"], told["runs"]) == (True, [], 3)
    assert RunSpec.parse(told["spec"]) == RunSpec.parse_yaml(told["yaml"]) == RunSpec.parse(rest.SPEC)
    assert told["words"]["trainers"] == "2 trainers"
    assert not Experiment.objects.exists()


@pytest.mark.parametrize("spec", BAD)
def test_a_bad_spec_is_told_the_same_as_data_and_as_yaml_checked_and_submitted(
    project: Project, spec: dict[str, Any]
) -> None:
    bodies: list[dict[str, Any]] = [{"spec": spec}, {"yaml": yaml.safe_dump(spec)}]
    findings = [checked(body)["errors"] for body in bodies]
    findings += [session("bob").post("experiments", body).json()["errors"] for body in bodies]
    assert findings[0]
    assert all(each == findings[0] for each in findings)


def test_a_bad_draft_has_nothing_but_its_errors(project: Project) -> None:
    told = checked({"spec": BAD[0]})
    nothing = {key: told[key] for key in ("valid", "spec", "yaml", "runs", "slots", "words")}
    assert nothing == {"valid": False, "spec": None, "yaml": None, "runs": 0, "slots": None, "words": None}


def test_data_that_the_project_lacks_are_named_beside_their_field(project: Project, alice: User) -> None:
    draft = {"spec": rest.SPEC | {"problem": {"kind": "images", "dataset": "digits"}}}
    told = checked(draft)
    assert (told["valid"], told["errors"][0]["pointer"]) == (False, "/spec/problem/dataset")
    assert told["spec"]["problem"]["dataset"] == "digits"
    Dataset.objects.create(project=project, owner=alice, name="digits", kind="images", size_bytes=1, examples=1)
    assert checked(draft)["valid"]


def test_whoever_may_submit_nowhere_can_check_all_the_same(project: Project) -> None:
    factories.person("carol")
    assert checked({"spec": rest.SPEC}, "carol")["valid"]
    assert session("carol").post("specs/check", {"spec": rest.SPEC, "project": "vision"}).status_code == 404
    assert session("vera").post("specs/check", {"spec": rest.SPEC, "project": "vision"}).status_code == 403


def waits(body: dict[str, Any]) -> str:
    return str(checked(body)["slots"]["wait"])


def test_slots_say_whether_it_would_start(project: Project, alice: User) -> None:
    assert waits({"spec": rest.SPEC}) == "Can't start: it needs 3 slots, but no node offers any."
    make_node("one", 4)
    assert checked({"spec": rest.SPEC})["slots"] == {
        "needed": 3,
        "least": 3,
        "idle": 4,
        "total": 4,
        "wait": "Starts at once.",
    }
    assert waits({"spec": rest.SPEC | {"workers": 4}}) == (
        "Can't start: it needs 5 slots, but all nodes together offer 4 slots."
    )
    assert waits({"spec": rest.SPEC, "grid": {"workers": [2, 4, 9]}}) == (
        "2 of 3 runs can't start: they need up to 10 slots, but all nodes together offer 4 slots."
    )
    assert waits({"spec": rest.SPEC | {"workers": {"min": 2, "max": 6}}}).startswith("Starts at once, with fewer")
    assert waits({"spec": rest.SPEC, "seeds": [0, 1]}) == "1 of 2 runs start at once; the others wait for slots."


def test_slots_count_the_runs_ahead_in_the_queue(project: Project) -> None:
    make_node("one", 4)
    session("bob").post("experiments", {"spec": rest.SPEC})
    assert waits({"spec": rest.SPEC}) == "Waits: needs 3 slots, 1 idle."
    assert waits({"spec": rest.SPEC | {"priority": 5}}) == "Starts at once."


def test_the_schema_describes_what_the_parser_takes(project: Project) -> None:
    schema = session("bob").get("specs/schema").json()
    assert set(schema["properties"]) == set(RunSpec.model_fields)


def test_presets_are_specs_that_can_be_submitted(project: Project) -> None:
    presets = session("bob").get("specs/presets").json()
    assert len(presets) >= 10
    for preset in presets:
        assert RunSpec.parse_yaml(preset["yaml"]) == RunSpec.parse(preset["spec"])


def test_the_catalog_tells_of_every_method_and_problem(project: Project) -> None:
    rooms = {
        room["field"]: [entry["kind"] for entry in room["entries"]] for room in session("bob").get("methods").json()
    }
    assert "softsync" in rooms["gate"]
    assert {"digits", "images", "table", "text"} <= set(rooms["problem"])
