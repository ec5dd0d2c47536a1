"""What the tests of the API share: whoever asks, by session or by token, and specs to send."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.test import Client

from tests import factories
from tests.web.conftest import client_of
from trainhub.actions import tokens

API = "/api/v1"

SPEC: dict[str, Any] = {
    "name": "a ledger",
    "problem": {"kind": "ledger"},
    "optimizer": {"kind": "sgd", "learning_rate": 1.0},
    "workers": 2,
    "budget": {"updates": 100},
}
YAML = """\
name: a ledger
problem: {kind: ledger}
optimizer: {kind: sgd, learning_rate: 1.0}
workers: 2
budget: {updates: 100}
"""


class Asker:
    """One person at the API. Each answer is Django's, with its JSON at hand."""

    def __init__(self, client: Client, **headers: str) -> None:
        self.client = client
        self.headers = headers

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"{API}/{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        content = json.dumps(body) if body is not None else ""
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"{API}/{path}", content, content_type="application/json", headers=sent)

    def upload(self, path: str, **fields: Any) -> Any:
        return self.client.post(f"{API}/{path}", fields, headers=self.headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"{API}/{path}", headers=self.headers)


def session(name: str | None) -> Asker:
    """Signed in to the pages. None: nobody is."""
    return Asker(client_of(name))


def secret_of(name: str, *scopes: str, days: int = 90) -> str:
    return tokens.make(factories.person(name), name="test", scopes=scopes or tokens.SCOPES, days=days)[1]


def bearer(name: str, *scopes: str) -> Asker:
    """By a token of theirs, in a client that demands a CSRF token of whoever comes by cookie."""
    return Asker(Client(enforce_csrf_checks=True), Authorization=f"Bearer {secret_of(name, *scopes)}")


def fields_of(answer: Any) -> dict[str, str]:
    """Field → what is wrong with it."""
    return {error["field"]: error["message"] for error in answer.json()["errors"]}


def csrf_cookie() -> str:
    return settings.CSRF_COOKIE_NAME
