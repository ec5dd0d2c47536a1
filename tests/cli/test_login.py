"""Logging in, and what happens where one is not."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from tests.cli.conftest import Shell, secret_of
from tests.webs import Web
from trainhub.client import BadAddress, Login
from trainhub.client.login import file_of, keep, tidy, travels_in_the_open
from trainhub.models import Token


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_login_is_checked_and_kept_for_the_next_command(
    web: Web, alice: User, logged_out: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, f"{secret_of('alice')}\n")
    said = logged_out("login", web.address)
    assert said.status == 0, said.err
    assert said.out == f"alice at {web.address}. Projects: vision (admin).\n"
    assert logged_out("runs").status == 0


def test_a_login_is_for_its_owner_alone(
    web: Web, alice: User, logged_out: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    (home / "token").write_text(secret_of("alice"))
    assert logged_out("login", web.address, "--token-file", "token").status == 0
    kept = home / "config" / "trainhub" / "login.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in kept.parent.iterdir()] == ["login.json"]


def test_a_token_that_opens_nothing_is_not_kept(
    web: Web, alice: User, logged_out: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "th_made-up")
    said = logged_out("login", web.address)
    assert (said.status, said.out) == (4, "")
    assert "refuses this token" in said.err
    assert not (home / "config").exists()


def test_logging_out_forgets(logged_out: Shell, home: Path) -> None:
    file = keep(Login("http://127.0.0.1:8000", "th_x"))
    assert file == home / "config" / "trainhub" / "login.json"
    assert logged_out("login", "--logout").err == "Forgotten.\n"
    assert not file.exists()
    assert logged_out("login", "--logout").err == "Nobody was logged in.\n"


def test_a_refused_token_says_what_to_do(shell: Shell) -> None:
    Token.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    said = shell("runs")
    assert (said.status, said.out) == (4, "")
    assert "Run `trainhub login` with a new one." in said.err


def test_nobody_logged_in_is_told_how(logged_out: Shell) -> None:
    said = logged_out("runs")
    assert said.status == 4
    assert "Run `trainhub login`, or set TRAINHUB_URL and TRAINHUB_TOKEN." in said.err


def test_a_service_that_is_not_there_is_told_of_at_once(logged_out: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("TRAINHUB_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TRAINHUB_TOKEN", "th_x")
    began = time.monotonic()
    said = logged_out("runs")
    assert (said.status, said.out) == (4, "")
    assert f"http://127.0.0.1:{port} does not answer: no connection" in said.err
    assert time.monotonic() - began < 2


def test_something_else_than_trainhub_is_told_apart(
    web: Web, logged_out: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINHUB_TOKEN", "th_x")
    said = logged_out("runs", "--url", f"{web.address}/sign-in")
    assert said.status == 4
    assert f"{web.address}/sign-in" in said.err


def test_a_kept_token_goes_to_its_own_address_only(logged_out: Shell) -> None:
    keep(Login("http://127.0.0.1:8000", "th_x"))
    said = logged_out("runs", "--url", "http://127.0.0.1:9999")
    assert said.status == 4
    assert "There is no token for http://127.0.0.1:9999." in said.err


def test_the_environment_goes_before_the_file(home: Path) -> None:
    keep(Login("http://127.0.0.1:8000", "th_file"))
    assert Login.find() == Login("http://127.0.0.1:8000", "th_file")
    assert Login.find({**os.environ, "TRAINHUB_TOKEN": "th_environment"}).token == "th_environment"
    there = {**os.environ, "TRAINHUB_URL": "example.org", "TRAINHUB_TOKEN": "th_environment"}
    assert Login.find(there) == Login("https://example.org", "th_environment")


def test_a_damaged_file_is_no_login(home: Path, logged_out: Shell) -> None:
    keep(Login("http://127.0.0.1:8000", "th_x"))
    file_of().write_text(json.dumps({"url": "http://127.0.0.1:8000"}))
    assert "No TrainHub is known yet." in logged_out("runs").err


def test_a_login_shows_no_token() -> None:
    assert "th_secret" not in repr(Login("http://127.0.0.1:8000", "th_secret"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("hub.example.org", "https://hub.example.org"),
        ("http://hub.example.org/api/v1", "http://hub.example.org"),
        (" https://hub.example.org/hub/ ", "https://hub.example.org/hub"),
    ],
)
def test_addresses_are_understood_as_people_type_them(typed: str, meant: str) -> None:
    assert tidy(typed) == meant


@pytest.mark.parametrize("typed", ["", "ftp://example.org", "http://", "localhost:port", "http://localhost:0"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(BadAddress, match="is no address of a TrainHub"):
        tidy(typed)


def test_a_token_in_the_open_is_warned_of() -> None:
    assert travels_in_the_open("http://hub.example.org")
    assert not travels_in_the_open("https://hub.example.org")
    assert not travels_in_the_open("http://127.0.0.1:8000")
