"""The page of one's own tokens."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.web.conftest import client_of
from trainhub.actions import tokens
from trainhub.models import Token

pytestmark = pytest.mark.django_db


def shown(name: str) -> str:
    return client_of(name).get("/tokens/").content.decode()


def test_everybody_sees_their_own_tokens_and_nobody_s_else(alice: User) -> None:
    tokens.make(alice, name="alice at home")
    tokens.make(factories.person("bob"), name="nightly", scopes=["read"])
    assert "alice at home" in shown("alice")
    assert "nightly" not in shown("alice")
    assert "read only" in shown("bob")
    factories.person("root", is_superuser=True)
    assert "alice at home" not in shown("root")


def test_the_page_tells_how_a_secret_begins_and_not_how_it_goes_on(alice: User) -> None:
    _, secret = tokens.make(alice, name="laptop")
    page = shown("alice")
    assert f"{secret[:8]}…" in page
    assert secret not in page


def test_what_opens_nothing_any_more_says_why_and_comes_last(alice: User) -> None:
    revoked, _ = tokens.make(alice, name="revoked one")
    tokens.revoke(revoked, by=alice)
    expired, _ = tokens.make(alice, name="expired one")
    Token.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - dt.timedelta(days=1))
    kept, _ = tokens.make(alice, name="kept one")
    page = shown("alice")
    assert page.index("kept one") < page.index("revoked one")
    assert "revoked 0 s ago" in page
    assert "expired 2" in page
    assert f'data-revoke="{kept.pk}"' in page
    assert page.count("data-revoke=") == 1


def test_without_tokens_the_page_says_what_they_are_for(alice: User) -> None:
    assert "trainhub login http://testserver" in shown("alice")


def test_nobody_is_sent_to_sign_in_and_the_page_is_only_read(alice: User) -> None:
    assert Client().get("/tokens/").headers["Location"] == "/sign-in/?next=/tokens/"
    assert client_of("alice").post("/tokens/").status_code == 405


def test_no_cache_keeps_the_page(alice: User) -> None:
    assert "no-store" in client_of("alice").get("/tokens/").headers["Cache-Control"]


def test_a_name_is_shown_as_text(alice: User) -> None:
    tokens.make(alice, name='"><script>alert(1)</script>')
    assert "<script>alert" not in shown("alice")
