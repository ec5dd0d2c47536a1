"""A real web process, and a shell in which Alice is logged in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User

from tests import factories
from tests.webs import ROOT, Web, serving
from trainhub.actions import tokens
from trainhub.client import Client
from trainhub.command import main
from trainhub.models import Project, Role

SPEC = """\
name: digits from a shell
problem: {kind: digits, model: {kind: mlp, hidden: [16]}}
optimizer: {kind: sgd, learning_rate: 0.05}
workers: 2
budget: {updates: 40}
"""

# Tests that a shell started in the background ignore Ctrl-C, and what they start would inherit that.
HEEDING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
COMMAND = [sys.executable, "-c", f"{HEEDING}; import sys; from trainhub.command import main; sys.exit(main())"]


class Said(NamedTuple):
    status: int
    out: str
    err: str


Shell = Callable[..., Said]


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[Web]:
    with serving() as web:
        yield web


@pytest.fixture
def project(transactional_db: None) -> Project:
    return factories.project(alice=Role.ADMIN, bob=Role.MEMBER, vera=Role.VIEWER)


@pytest.fixture
def alice(project: Project) -> User:
    return factories.person("alice")


def secret_of(name: str, **more: Any) -> str:
    return tokens.make(factories.person(name), name="shell", **more)[1]


@pytest.fixture
def client(web: Web, alice: User) -> Iterator[Client]:
    with Client(web.address, secret_of("alice")) as client:
        yield client


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account without a login, and without the settings of whoever runs the tests."""
    for name in ("TRAINHUB_URL", "TRAINHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def logged_out(home: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    def run(*words: object) -> Said:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Said(status, *capsys.readouterr())

    return run


@pytest.fixture
def shell(web: Web, alice: User, logged_out: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The command's main function, with its status and what it said."""
    monkeypatch.setenv("TRAINHUB_URL", web.address)
    monkeypatch.setenv("TRAINHUB_TOKEN", secret_of("alice"))
    return logged_out


@pytest.fixture
def spec(home: Path) -> Path:
    file = home / "spec.yaml"
    file.write_text(SPEC)
    return file


@dataclass
class Started:
    """The command as a process of its own."""

    process: subprocess.Popen[str]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ending(self) -> Said:
        out, err = self.process.communicate(timeout=30)
        return Said(self.process.returncode, out, err)


Start = Callable[..., Started]


@pytest.fixture
def started(shell: Shell) -> Iterator[Start]:
    """Start the command beside the test. It is ended with it."""
    running: list[Started] = []

    def start(*words: object) -> Started:
        process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(Started(process))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.communicate()
