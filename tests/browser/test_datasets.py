"""Data sets in a real browser: uploaded, looked at, deleted."""

from __future__ import annotations

import random

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, FilePayload, Page, expect

from tests import factories
from tests.browser.opening import open_as, widest
from tests.webs import Web
from trainhub.models import Dataset, Role, RunState

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


@pytest.fixture
def alice(transactional_db: None) -> User:
    factories.project(alice=Role.ADMIN, vera=Role.VIEWER)
    return factories.person("alice")


def flowers(name: str = "my flowers.csv", *, broken: bool = False) -> FilePayload:
    """A table with two numbers and the kind of flower to predict."""
    chance = random.Random(3)
    rows = [f"{chance.random():.3f},{chance.random() * 9:.3f},{chance.choice(['iris', 'rose'])}" for _ in range(60)]
    lines = ["petal,stem,kind", *rows] if not broken else ["petal,petal,kind", *rows]
    return {"name": name, "mimeType": "text/csv", "buffer": "\n".join(lines).encode()}


def test_a_table_is_uploaded_and_its_page_opens(page: Page, web: Web, alice: User) -> None:
    open_as(page, web, "alice", "/datasets/")
    expect(page.get_by_label("Column to predict")).to_be_hidden()
    page.locator("#file").set_input_files(flowers())
    expect(page.get_by_label("Name")).to_have_value("my-flowers")
    page.get_by_label("Column to predict").fill("kind")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("h1")).to_have_text("my-flowers", timeout=30_000)
    made = Dataset.objects.get()
    assert (made.kind, made.examples, made.project.name) == ("table", 60, "vision")
    for told in ("kind (classification)", "petal", "iris", made.sha256, "dataset: my-flowers"):
        expect(page.locator("#dataset")).to_contain_text(told)
    assert all(wide <= width for width, wide in widest(page).items())


def test_what_is_wrong_is_told_beside_its_field(context: BrowserContext, web: Web, alice: User) -> None:
    page = context.new_page()  # the browser itself tells of a refusal on its console, which fails the usual page
    open_as(page, web, "alice", "/datasets/")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#file-error")).to_have_text("choose one")
    page.locator("#file").set_input_files(flowers())
    page.get_by_label("Name").fill("no spaces, please")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#name-error")).to_contain_text("1 to 80 letters")
    expect(page.get_by_label("Name")).to_be_focused()
    page.get_by_label("Name").fill("flowers")
    page.get_by_label("Column to predict").fill("colour")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#target-error")).to_contain_text("there is no column 'colour'", timeout=30_000)
    expect(page.locator("#name-error")).to_be_hidden()
    assert not Dataset.objects.exists()


def test_what_belongs_to_no_field_is_told_below_the_form(context: BrowserContext, web: Web, alice: User) -> None:
    page = context.new_page()
    open_as(page, web, "alice", "/datasets/")
    page.locator("#file").set_input_files(flowers(broken=True))
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-error")).to_contain_text("petal", timeout=30_000)
    expect(page.get_by_role("button", name="Upload")).to_be_enabled()


def test_a_data_set_in_use_stays_and_a_free_one_is_deleted(context: BrowserContext, web: Web, alice: User) -> None:
    page = context.new_page()
    values = {"kind": "table", "format": "csv", "sha256": "ab" * 32, "size_bytes": 9, "examples": 9}
    made = Dataset.objects.create(
        project=factories.project(), owner=alice, name="flowers", path="datasets/none", **values
    )
    spec = factories.spec() | {"problem": {"kind": "table", "dataset": "flowers"}}
    run = factories.run(owner=alice, within=made.project, spec=spec)
    open_as(page, web, "alice", made.get_absolute_url())
    delete(page)
    expect(page.locator("#failed")).to_contain_text(f"run {run.pk} (queued) trains on flowers")
    assert Dataset.objects.exists()
    run.state = RunState.CANCELLED
    run.save()
    delete(page)
    expect(page.locator("h1")).to_have_text("Data sets")
    assert not Dataset.objects.exists()


def delete(page: Page) -> None:
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete it").click()
