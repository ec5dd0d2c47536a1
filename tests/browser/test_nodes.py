"""Nodes and tokens in a real browser."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect

from tests import factories
from tests.browser.opening import open_as, widest
from tests.webs import Web
from trainhub.models import Node, Role, Slot, Token

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


@pytest.fixture
def olga(transactional_db: None) -> User:
    """An operator."""
    factories.project(alice=Role.ADMIN)
    return factories.operator("olga")


@pytest.fixture
def node(olga: User) -> Node:
    now = timezone.now()
    made = Node.objects.create(
        name="box-1",
        agent=uuid.uuid4(),
        cores=8,
        memory_bytes=16 << 30,
        registered_at=now,
        seen_at=now,
        environment={"python": "3.11.9"},
    )
    Slot.objects.bulk_create(Slot(node=made, index=index) for index in range(4))
    return made


def test_an_operator_drains_a_node_and_takes_it_back(page: Page, web: Web, node: Node) -> None:
    open_as(page, web, "olga", "/nodes/")
    page.get_by_role("button", name="Drain…").click()
    page.get_by_role("button", name="Keep it in use").click()
    assert not drained()
    page.get_by_role("button", name="Drain…").click()
    page.get_by_role("button", name="Drain it").click()
    expect(page.locator(".node-drained")).to_have_text("drained")
    assert drained()
    page.get_by_role("button", name="Take back into use").click()
    page.get_by_role("button", name="Take it back").click()
    expect(page.locator(".node-drained")).to_have_count(0)
    assert not drained()


def drained() -> bool:
    return Node.objects.get().drained


def test_who_gets_a_slot_is_seen_and_what_was_opened_stays_open(page: Page, web: Web, node: Node) -> None:
    open_as(page, web, "alice", "/nodes/")
    page.get_by_text("Environment").click()
    expect(page.get_by_text("3.11.9")).to_be_visible()
    run = factories.run(owner=factories.person("alice"), within=factories.project(), name="takes a slot")
    [member, *_] = factories.gang(run, trainers=1)
    Slot.objects.filter(node=node, index=2).update(member=member)
    expect(page.locator(".place.taken")).to_contain_text("takes a slot")
    expect(page.get_by_text("3.11.9")).to_be_visible()
    expect(page.get_by_role("button", name="Drain…")).to_have_count(0)
    assert all(wide <= width for width, wide in widest(page).items())


def test_a_token_is_told_once_opens_the_api_and_is_revoked(page: Page, web: Web, olga: User) -> None:
    open_as(page, web, "alice", "/tokens/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make the token").click()
    secret = page.locator("#secret")
    expect(secret).to_contain_text("th_")
    told = secret.inner_text()
    expect(page.locator("#login")).to_have_text(f"trainhub login {web.address}")
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#tokens tbody tr")).to_have_count(1)
    assert told not in page.content()
    assert status(page, web, told) == 200
    page.get_by_role("button", name="Revoke laptop").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.locator("#tokens tbody tr")).to_contain_text("revoked")
    assert status(page, web, told) == 401
    assert all(wide <= width for width, wide in widest(page).items())


def test_a_token_without_a_name_is_refused_beside_the_field(context: BrowserContext, web: Web, olga: User) -> None:
    page = context.new_page()  # the browser itself tells of a refusal on its console, which fails the usual page
    open_as(page, web, "alice", "/tokens/")
    page.get_by_role("button", name="Make the token").click()
    expect(page.locator("#name-error")).to_contain_text("must have 1 to 80 characters")
    expect(page.get_by_label("Name")).to_be_focused()
    assert not Token.objects.exists()


def status(page: Page, web: Web, secret: str) -> int:
    """What the API answers to a token alone, without the browser's session."""
    browser = page.context.browser
    assert browser is not None
    alone = browser.new_context(extra_http_headers={"Authorization": f"Bearer {secret}"})
    answer = alone.request.get(f"{web.address}/api/v1/me").status
    alone.close()
    return answer
