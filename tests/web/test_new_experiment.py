"""The page of a new experiment: who may open it, what it begins with, and that no field of the schema is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests import factories
from tests.web.conftest import client_of
from trainhub import form_schema
from trainhub.form_schema import Node, Tree
from trainhub.models import Dataset, Project, Role, Run
from trainhub.presets import preset, presets
from workers import catalog
from workers.spec import RunSpec

pytestmark = pytest.mark.django_db

ADDRESS = "/experiments/new/"


def script(body: str, name: str) -> Any:
    """The data a page hands to its scripts under this name."""
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', body, re.DOTALL)
    assert found, name
    return json.loads(found[1])


def begun(name: str, query: str = "") -> Any:
    return script(client_of(name).get(f"{ADDRESS}{query}").content.decode(), "begun")


def inner(node: Node) -> Iterator[Node]:
    """The nodes right below a field: those of a group, of all members of a union, of a list's items."""
    yield from node.get("fields", ())
    for member in node.get("options", ()):
        yield from member.get("fields", ())
    if isinstance(node.get("of"), dict):
        yield from inner(node["of"])


def names(nodes: Iterator[Node] | list[Node], path: str = "") -> Iterator[str]:
    for node in nodes:
        here = f"{path}.{node['name']}".lstrip(".")
        yield here
        yield from names(inner(node), here)


def schema_names(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted fields of a JSON schema, found without the code under test."""
    if "$ref" in schema:
        yield from schema_names(definitions[schema["$ref"].rpartition("/")[2]], definitions, path)
    for part in ("anyOf", "oneOf"):
        for each in schema.get(part, ()):
            yield from schema_names(each, definitions, path)
    if isinstance(schema.get("items"), dict):
        yield from schema_names(schema["items"], definitions, path)
    for name, field in schema.get("properties", {}).items():
        if name != "kind":
            yield (here := f"{path}.{name}".lstrip("."))
            yield from schema_names(field, definitions, here)


def all_nodes() -> list[Node]:
    return [node for section in form_schema.tree() for node in section["fields"] + section["more"]]


def unions(nodes: Iterator[Node] | list[Node]) -> Iterator[Node]:
    for node in nodes:
        yield from (part for part in (node, node.get("of")) if isinstance(part, dict) and part["kind"] == "union")
        yield from unions(inner(node))


def test_whoever_is_not_signed_in_is_sent_to_sign_in(db: None) -> None:
    response = client_of(None).get(ADDRESS)
    assert (response.status_code, response["Location"]) == (302, f"/sign-in/?next={ADDRESS}")


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_members_and_admins_of_a_project_get_the_form(project: Project, name: str) -> None:
    body = client_of(name).get(ADDRESS).content.decode()
    assert "<option>vision</option>" in body
    assert 'id="submit"' in body


def test_a_viewer_is_told_why_not_and_what_to_do(project: Project) -> None:
    body = client_of("vera").get(ADDRESS).content.decode()
    assert "a viewer starts nothing. Ask an admin of the project to make you a member" in body
    assert "<strong>vision</strong>" in body
    assert 'id="submit"' not in body


def test_whoever_is_in_no_project_is_told_so(project: Project) -> None:
    body = client_of("carol").get(ADDRESS).content.decode()
    assert "You are in no project" in body
    assert 'id="submit"' not in body


def test_a_project_that_one_may_only_look_into_is_not_offered(project: Project) -> None:
    factories.project("own", vera=Role.MEMBER)
    body = client_of("vera").get(ADDRESS).content.decode()
    assert "<option>own</option>" in body
    assert "<option>vision</option>" not in body


def test_it_only_answers_to_looking(project: Project) -> None:
    assert client_of("alice").post(ADDRESS).status_code == 405


def test_it_begins_with_a_spec_that_runs_as_it_is(project: Project) -> None:
    assert RunSpec.parse(begun("alice")["spec"]).name


def test_a_preset_may_be_chosen_by_the_address(project: Project) -> None:
    start = begun("alice", "?preset=candidate")
    assert (start["from"], start["spec"]["waiting"]["kind"]) == ("candidate", "candidate")


@pytest.mark.parametrize("kind", ["images", "table", "text"])
def test_training_on_a_data_set_begins_with_it(project: Project, alice: User, kind: str) -> None:
    Dataset.objects.create(project=project, owner=alice, name="pets", kind=kind, size_bytes=1, examples=3)
    start = begun("bob", f"?dataset=pets&kind={kind}&project={project.name}")
    assert (start["project"], start["from"], start["spec"]["name"]) == (project.name, "data set pets", "pets")
    assert (start["spec"]["problem"]["kind"], start["spec"]["problem"]["dataset"]) == (kind, "pets")
    assert client_of("carol").get(f"{ADDRESS}?dataset=pets").status_code == 404


@pytest.mark.parametrize(
    "query", ["?preset=nothing", "?dataset=nothing", "?clone=x", "?clone=999", "?continue=-1", "?clone=" + "9" * 30]
)
def test_what_there_is_not_is_not_found(project: Project, query: str) -> None:
    assert client_of("alice").get(f"{ADDRESS}{query}").status_code == 404


def test_a_clone_begins_with_the_run_s_spec_and_project(queued: Run) -> None:
    start = begun("bob", f"?clone={queued.pk}")
    assert (start["spec"], start["project"]) == (queued.spec, "vision")


@pytest.mark.parametrize("what", ["clone", "continue"])
def test_a_stranger_s_clone_is_not_found(queued: Run, what: str) -> None:
    factories.project("own", carol=Role.MEMBER)
    assert client_of("carol").get(f"{ADDRESS}?{what}={queued.pk}").status_code == 404


def test_a_continuation_starts_from_the_run_s_checkpoint(queued: Run) -> None:
    spec = begun("bob", f"?continue={queued.pk}&version=400&take=all")["spec"]
    assert spec["start"] == {"kind": "checkpoint", "run": queued.pk, "version": 400, "take": "all"}
    assert spec["name"] == f"{queued.name} continued"


def test_a_continuation_s_name_is_not_too_long(project: Project, alice: User) -> None:
    run = factories.run(owner=alice, within=project, name="n" * 120)
    spec = begun("alice", f"?continue={run.pk}")["spec"]
    assert RunSpec.parse(spec).name.endswith("n continued")


@pytest.mark.parametrize("query", ["version=last", "take=nothing"])
def test_a_continuation_from_nowhere_is_not_found(queued: Run, query: str) -> None:
    assert client_of("alice").get(f"{ADDRESS}?continue={queued.pk}&{query}").status_code == 404


def test_every_field_of_the_schema_is_in_the_form() -> None:
    schema = RunSpec.model_json_schema()
    wanted = set(schema_names(schema, schema["$defs"]))
    assert len(wanted) > 100
    assert set(names(all_nodes())) == wanted


def test_every_member_of_a_union_can_be_chosen() -> None:
    schema = RunSpec.model_json_schema()
    kinds = {d["properties"]["kind"]["const"] for d in schema["$defs"].values() if "kind" in d.get("properties", {})}
    assert {member["kind"] for union in unions(all_nodes()) for member in union["options"]} == kinds


def test_a_new_top_level_field_comes_into_the_last_section() -> None:
    schema = RunSpec.model_json_schema()
    schema["properties"]["luck"] = {"type": "integer", "default": 3}
    last = Tree(schema).sections()[-1]
    assert {"name": "luck", "label": "Luck", "kind": "number", "whole": True, "default": 3} in last["fields"]


def test_bounds_of_zero_are_bounds() -> None:
    node = {node["name"]: node for node in all_nodes()}["seed"]
    assert (node["min"], node["max"], node["default"]) == (0, 2**31 - 1, 0)


def test_methods_come_with_their_label_source_and_page() -> None:
    gate = {node["name"]: node for node in all_nodes()}["gate"]
    softsync = next(member for member in gate["options"] if member["kind"] == "softsync")
    assert softsync["label"] == catalog.GATES["softsync"].label
    assert softsync["source"] == catalog.GATES["softsync"].source
    assert softsync["page"] == "/methods/gates/"


def test_every_field_says_what_it_is() -> None:
    plain = [node["name"] for node in all_nodes() if not node.get("help")]
    assert plain == []


@pytest.mark.parametrize("slug", [each.slug for each in presets()])
def test_every_preset_is_a_spec(slug: str) -> None:
    found = preset(slug)
    assert found is not None
    assert RunSpec.parse_yaml(found.yaml).name
    assert len(found.title) > 3 < len(found.summary)


def test_presets_have_addresses_of_their_own() -> None:
    slugs = [each.slug for each in presets()]
    assert len(slugs) == len(set(slugs)) > 10


@pytest.mark.parametrize("query", ["clone", "continue"])
def test_a_number_that_no_run_can_have_is_no_run(project: Project, query: str) -> None:
    assert client_of("bob").get(f"/experiments/new/?{query}={'9' * 5000}").status_code == 404
