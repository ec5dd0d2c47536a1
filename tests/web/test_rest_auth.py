"""Who is let in, by which token or cookie."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.web import rest
from tests.web.conftest import client_of
from tests.web.rest import Asker, bearer, session
from trainhub.actions import tokens
from trainhub.models import Token

pytestmark = pytest.mark.django_db


def by(header: str, client: Client | None = None) -> Asker:
    return Asker(client or Client(enforce_csrf_checks=True), Authorization=header)


def test_a_token_speaks_for_its_user(alice: User) -> None:
    assert bearer("alice").get("me").json()["username"] == "alice"


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer th_nonsense", "Bearer nonsense", "Basic YTpi", "th_nonsense", "Bearer thé", ""]
)
def test_what_is_no_token_of_ours_opens_nothing(alice: User, header: str) -> None:
    answer = by(header).get("me")
    assert answer.status_code == 401
    assert answer.json()["code"] == "not-signed-in"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_expired_token_opens_nothing(alice: User) -> None:
    secret = rest.secret_of("alice")
    Token.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert by(f"Bearer {secret}").get("me").status_code == 401


def test_a_revoked_token_opens_nothing(alice: User) -> None:
    secret = rest.secret_of("alice")
    tokens.revoke(Token.objects.get(), by=alice)
    assert by(f"Bearer {secret}").get("me").status_code == 401


def test_a_token_of_somebody_who_may_not_come_in_opens_nothing(alice: User) -> None:
    secret = rest.secret_of("alice")
    User.objects.update(is_active=False)
    assert by(f"Bearer {secret}").get("me").status_code == 401


def test_the_token_decides_whatever_the_cookie_says(alice: User) -> None:
    signed_in = client_of("bob")
    assert by(f"Bearer {rest.secret_of('alice')}", signed_in).get("me").json()["username"] == "alice"
    assert by("Bearer th_nonsense", signed_in).get("me").status_code == 401


def test_a_token_needs_no_csrf_token(alice: User) -> None:
    assert bearer("alice").post("tokens", {"name": "another"}).status_code == 201


def test_a_cookie_needs_one(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    refused = Asker(strict).post("tokens", {"name": "another"})
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf-failed")
    csrf = "a" * 32
    strict.cookies[rest.csrf_cookie()] = csrf
    assert Asker(strict).post("tokens", {"name": "another"}, X_CSRFToken=csrf).status_code == 201


def test_a_forged_form_of_another_site_does_nothing(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post("/api/v1/datasets", {"name": "x"}).status_code == 403


def test_a_secret_is_told_once(alice: User) -> None:
    made = session("alice").post("tokens", {"name": "laptop", "scopes": ["read"], "days": 7}).json()
    assert made["secret"].startswith(made["hint"])
    [listed] = session("alice").get("tokens").json()["items"]
    assert listed == {key: value for key, value in made.items() if key != "secret"}
    assert by(f"Bearer {made['secret']}").get("me").status_code == 200


def test_a_token_gives_itself_no_longer_life(alice: User) -> None:
    token, secret = tokens.make(alice, name="short", days=1)
    assert by(f"Bearer {secret}").post("tokens", {"name": "long", "days": 300}).status_code == 201
    assert Token.objects.get(name="long").expires_at == token.expires_at


def test_a_revoked_token_is_gone(alice: User) -> None:
    made = session("alice").post("tokens", {"name": "laptop"}).json()
    assert session("alice").delete(f"tokens/{made['id']}").status_code == 204
    assert session("alice").get("tokens").json()["items"] == []
    assert session("alice").delete(f"tokens/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x", "scopes": ["write"]}, "/scopes"),
        ({"name": "x", "scopes": ["read", "all"]}, "/scopes"),
        ({"name": "x", "days": 0}, "/days"),
        ({"name": "x", "day": 3}, "/day"),
        ({"name": "\x00"}, "/name"),
        ({}, "/name"),
        ([], ""),
    ],
)
def test_a_token_that_cannot_be_names_the_field(alice: User, given: object, pointer: str) -> None:
    answer = session("alice").post("tokens", given)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_people_see_their_own_tokens_alone(alice: User) -> None:
    rest.secret_of("alice")
    factories.person("bob")
    assert session("bob").get("tokens").json()["items"] == []
