"""The command starts fast, and without what a shell does not need."""

from __future__ import annotations

import subprocess

from tests.cli.conftest import COMMAND
from tests.test_architecture import loaded_after
from tests.webs import ROOT
from trainhub.command import GROUPS, NAMES, load

HEAVY = {"django", "torch", "celery", "channels", "numpy"}


def test_neither_django_nor_torch_is_loaded() -> None:
    modules = ", ".join(f"trainhub.command.{name}" for name in ("login", "submit", "runs", "show", "export", "acting"))
    assert loaded_after(f"import trainhub.client, trainhub.command, {modules}") & HEAVY == set()


def test_help_loads_not_even_the_client() -> None:
    loaded = loaded_after("from trainhub.command import main\ntry: main(['--help'])\nexcept SystemExit: pass")
    assert loaded & {*HEAVY, "httpx", "rich", "pydantic", "yaml"} == set()


def test_help_lists_every_command_in_its_group() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=30)
    positions = [done.stdout.index(f"\n{title}:\n") for title in GROUPS]
    assert positions == sorted(positions)
    for name, text in NAMES.items():
        assert f"  {name:<10}{text}\n" in done.stdout


def test_every_command_has_help_of_its_own() -> None:
    for name in NAMES:
        assert load(name).HELP.endswith("."), name


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert [name for name in NAMES if f"`{name}" not in page and f"trainhub {name} " not in page] == []
