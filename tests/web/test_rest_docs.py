"""The commands of docs/api.md work as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests import factories
from tests.web import rest
from tests.webs import Web, serving
from trainhub.models import Dataset, Experiment, Role, Run

PAGE = Path(settings.BASE_DIR) / "docs" / "api.md"

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the commands take curl and jq"),
]


@pytest.fixture
def web(django_db_setup: None, transactional_db: None) -> Iterator[Web]:
    with serving() as web:
        yield web


def commands() -> str:
    """All indented lines but those that show an answer, and those that a reader fills in."""
    lines = [line[4:] for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    shown = ("export ", '{"type"', ' "detail"', ' "errors"')
    return "\n".join(line for line in lines if not line.startswith(shown))


def test_the_commands_do_what_the_page_says(web: Web, tmp_path: Path) -> None:
    factories.project("demo", bob=Role.MEMBER)
    environ = os.environ | {"TRAINHUB_URL": web.address, "TRAINHUB_TOKEN": rest.secret_of("bob")}
    script = f"set -euo pipefail\n{commands()}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"optimizer.learning_rate"' in done.stdout  # of the draft that is checked
    assert '"cancelled"' in done.stdout
    assert (Experiment.objects.count(), Run.objects.count()) == (1, 4)
    assert Dataset.objects.get().kind == "table"
