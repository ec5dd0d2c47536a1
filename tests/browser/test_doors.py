"""One spec, four doors: the form, its YAML tab, REST and the command line make the same run, and the same refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from tests import factories
from tests.webs import Web
from trainhub.actions import tokens
from trainhub.actions.access import make_sign_in_link
from trainhub.models import Role, Run
from workers.spec import RunSpec
from workers.spec_errors import SpecError

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SPEC = Path("examples/methods/window.yaml")
NAME = "through every door"
WRONG: dict[str, Any] = {
    "name": "wrong in many ways",
    "problem": {"kind": "digits"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "compensation": {"kind": "gap-aware"},
    "workers": 2,
    "gate": {"kind": "softsync", "c": 5},
    "budget": {"passes": 1, "target": {"metric": "speed", "value": 1, "direction": "max"}},
}


@pytest.fixture
def alice(transactional_db: None) -> User:
    factories.project(alice=Role.ADMIN)
    return factories.person("alice")


@pytest.fixture
def secret(alice: User) -> str:
    return tokens.make(alice, name="doors")[1]


def named(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(SPEC.read_text())
    return data | {"name": name}


def rest(web: Web, secret: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.post(f"{web.address}/api/v1/experiments", json=body, headers=headers, timeout=30)


def command(web: Web, secret: str, folder: Path, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    environ = web.environ | {"TRAINHUB_URL": web.address, "TRAINHUB_TOKEN": secret}
    return subprocess.run(
        [Path(sys.executable).with_name("trainhub"), "submit", str(file)],
        env=environ, capture_output=True, text=True, check=False, timeout=40,
    )  # fmt: skip


def open_form(page: Page, web: Web, alice: User, query: str = "") -> None:
    page.goto(f"{web.address}/sign-in/{make_sign_in_link(alice)}/?next=/experiments/new/%3F{query}")
    expect(page.locator("body")).to_have_attribute("data-ready", "yes", timeout=20_000)


def write_yaml(page: Page, spec: dict[str, Any]) -> None:
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml-text").fill(yaml.safe_dump(spec))


def stored() -> set[str]:
    """The canonical text of every run's spec."""
    return {json.dumps(run.spec, sort_keys=True, separators=(",", ":")) for run in Run.objects.all()}


def test_the_same_spec_is_stored_to_the_byte(page: Page, web: Web, alice: User, secret: str, tmp_path: Path) -> None:
    spec = named(NAME)
    assert rest(web, secret, spec=spec).status_code == 201
    assert rest(web, secret, yaml=yaml.safe_dump(spec)).status_code == 201
    told = command(web, secret, tmp_path, spec)
    assert told.returncode == 0, told.stderr
    open_form(page, web, alice)
    write_yaml(page, spec)
    page.locator("#submit").click()
    expect(page.locator("#state")).to_have_text("queued")
    open_form(page, web, alice, "preset=window")
    page.get_by_label("Name", exact=True).fill(NAME)
    page.locator("#submit").click()
    expect(page.locator("#state")).to_have_text("queued")
    assert Run.objects.count() == 5
    assert stored() == {RunSpec.parse(spec).canonical()}


def test_what_is_wrong_is_told_alike(page: Page, web: Web, alice: User, secret: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        RunSpec.parse(WRONG)
    findings = {str(finding) for finding in caught.value.findings}
    assert len(findings) == 4  # two of gap-aware's, the gate's, the target's
    for body in ({"spec": WRONG}, {"yaml": yaml.safe_dump(WRONG)}):
        answer = rest(web, secret, **body)
        assert answer.status_code == 422
        assert {f"{e['field']}: {e['message']}" for e in answer.json()["errors"]} == findings
    told = command(web, secret, tmp_path, WRONG)
    assert told.returncode == 2
    assert all(finding in " ".join(told.stderr.split()) for finding in findings)
    open_form(page, web, alice)
    write_yaml(page, WRONG)
    expect(page.locator("#yaml-error li")).to_have_count(len(findings))
    assert set(page.locator("#yaml-error li").all_inner_texts()) == findings
    assert Run.objects.count() == 0
