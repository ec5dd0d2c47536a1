"""What a person at a terminal sees: colours, bars, and tables that fit."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import factories
from tests.cli.conftest import COMMAND, Shell
from tests.waiting import eventually
from tests.webs import ROOT, Web
from trainhub.models import Project, Run, RunState

Terminal = Callable[..., "Session"]


class Session:
    """The command in a terminal of its own."""

    def __init__(self, words: list[str], columns: int) -> None:
        self._ours, theirs = pty.openpty()
        environ = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
        environ |= {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen([*COMMAND, *words], env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.seen = ""

    def read(self) -> bool:
        """Take what is there. False: the command has ended, and nothing is left."""
        try:
            self.seen += os.read(self._ours, 65536).decode(errors="replace")
        except BlockingIOError:
            pass
        except OSError:  # as Linux tells that nobody holds the other side any more
            return False
        return True

    def sees(self, text: str) -> None:
        eventually(lambda: (self.read(), text in self.seen)[1])

    def type(self, text: str) -> None:
        os.write(self._ours, f"{text}\n".encode())

    def end(self) -> int:
        eventually(lambda: not self.read())
        return self.process.wait(10)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(shell: Shell) -> Iterator[Terminal]:
    running: list[Session] = []

    def start(*words: object, columns: int = 100) -> Session:
        running.append(Session([str(word) for word in words], columns))
        return running[-1]

    yield start
    for each in running:
        each.close()


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_states_have_colours_and_words(terminal: Terminal, project: Project) -> None:
    factories.run(owner=factories.person("alice"), within=project, state=RunState.FAILED)
    session = terminal("runs")
    assert session.end() == 0
    assert re.search(r"\x1b\[31mfailed", session.seen)


@pytest.mark.parametrize(("columns", "shown"), [(80, False), (220, True)])
def test_a_narrow_terminal_goes_without_some_columns(
    terminal: Terminal, project: Project, columns: int, shown: bool
) -> None:
    factories.run(owner=factories.person("alice"), within=project)
    session = terminal("runs", columns=columns)
    session.end()
    lines = without_codes(session.seen).splitlines()
    assert len(lines) == 2
    assert ("project" in lines[0]) == shown
    assert all(len(line) <= columns for line in lines)


def test_a_token_is_asked_for_without_echo(terminal: Terminal, web: Web, home: Path) -> None:
    secret = os.environ["TRAINHUB_TOKEN"]
    session = terminal("login")
    session.sees("Address [http://127.0.0.1:8000]: ")
    session.type(web.address)
    session.sees("Token: ")
    session.type(secret)
    assert session.end() == 0
    assert f"alice at {web.address}" in session.seen
    assert secret not in session.seen
    assert secret in (home / "config" / "trainhub" / "login.json").read_text()


def test_whoever_types_nothing_is_no_error_of_ours(terminal: Terminal) -> None:
    session = terminal("login")
    session.sees("Address")
    session.type("\x04")
    assert session.end() == 2
    assert "Traceback" not in session.seen


def test_a_run_is_followed_in_one_line_that_lives(terminal: Terminal, spec: Path) -> None:
    session = terminal("submit", spec, "--follow")
    session.sees("queued")
    Run.objects.update(state=RunState.RUNNING, version=7, fraction=0.25, metrics={"accuracy": 0.5})
    session.sees("25 %")
    Run.objects.update(state=RunState.COMPLETED, version=40, fraction=1.0)
    assert session.end() == 0
    seen = without_codes(session.seen)
    assert "v 7, accuracy 0.5" in seen
    assert seen.rstrip().endswith("completed, version 40, accuracy 0.5")
