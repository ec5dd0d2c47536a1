"""A real scheduler and a real node agent on the tests' own services; runs are submitted and watched through rows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from tests.waiting import PATIENCE_SECONDS, eventually
from trainhub.actions import access, runs
from trainhub.models import Member, Node, Project, Run, RunState, SeriesChunk
from workers.spec import RunSpec

SLOTS = 8


@dataclass
class Stack:
    """The two programs that carry runs, and what a test does with them."""

    folder: Path
    environ: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    owner: User = field(init=False)
    project: Project = field(init=False)

    def start(self, name: str, **environ: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), name]
        self.processes[name] = subprocess.Popen(command, env=self.environ | environ, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        assert process.wait(10) == -9, "the fault did not fire"

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(25)

    def submit(self, **spec: Any) -> Run:
        defaults = {"name": "a test", "optimizer": {"kind": "sgd", "learning_rate": 1.0}, "workers": 2}
        return runs.submit(project=self.project, owner=self.owner, spec=RunSpec.parse(defaults | spec))

    def wait(self, run: Run, *states: RunState, seconds: float = PATIENCE_SECONDS) -> Run:
        """Until the run is in one of these states; returns it anew. Ends early when it can't be any more."""
        seen: list[Run] = []

        def there() -> bool:
            seen[:] = [Run.objects.get(pk=run.pk)]
            return seen[0].state in states or seen[0].has_ended

        eventually(there, seconds=seconds)
        assert seen[0].state in states, (seen[0].state, seen[0].cause, seen[0].detail, self.logs())
        return seen[0]

    def wait_for_version(self, run: Run, version: int) -> None:
        def there() -> bool:
            now = Run.objects.get(pk=run.pk)
            assert not now.has_ended, (now.state, now.cause, now.detail, self.logs())
            return now.version >= version

        eventually(there)

    def child(self, run: Run, **member: Any) -> int:
        """Pid of a living member's child."""
        found = Member.objects.get(attempt__run=run, ended_at=None, **member)
        note = Path(found.work_dir) / "child.json"
        eventually(note.exists)
        return int(json.loads(note.read_text())["pid"])

    def logs(self) -> str:
        return "\n".join(p.read_text()[-3000:] for p in self.folder.glob("*.log"))


def series(run: Run, key: str, worker: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All stored points of a series, of one worker or of all, in order of x."""
    chunks = SeriesChunk.objects.filter(run=run, key=key).order_by("attempt", "worker", "index")
    if worker is not None:
        chunks = chunks.filter(worker=worker)
    x = np.concatenate([np.frombuffer(c.x, "<i8") for c in chunks])
    y = np.concatenate([np.frombuffer(c.y, "<f8") for c in chunks])
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


@pytest.fixture(scope="package")
def stack(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Runs of this package stay in the database until its last test, as they would in life."""
    folder = tmp_path_factory.mktemp("stack")
    with rows_that_stay(django_db_blocker) as url:
        environ = dict(os.environ)
        environ |= {"DATABASE_URL": url, "TRAINHUB_CPU_SLOTS": str(SLOTS), "TRAINHUB_NODE": "test"}
        running = Stack(folder, environ)
        running.owner, running.project = access.first_admin()
        for name in ("scheduler", "agent"):
            running.start(name)
        try:
            eventually(Node.objects.filter(online=True).exists)
            yield running
        finally:
            running.stop()


@contextlib.contextmanager
def rows_that_stay(blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database that is empty afterwards, which this process and others may use. Yields its address."""
    with blocker.unblock():
        given = connection.settings_dict["NAME"]
        # pytest-django makes a test database only for tests that it wraps in transactions, and these are none.
        ours = not given.startswith("test_")
        database = connection.creation.create_test_db(verbosity=0, serialize=False) if ours else given
        try:
            yield _with_database(os.environ["DATABASE_URL"], database)
        finally:
            call_command("flush", interactive=False, verbosity=0)
            connection.close()
            if ours:
                eventually(_nobody_else_uses_it)
                connection.close()
                connection.creation.destroy_test_db(given, verbosity=0)


def _nobody_else_uses_it() -> bool:
    """Whether the last session of a process that has just ended is gone from the server too."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        row = cursor.fetchone()
    return row is not None and row[0] == 0


def _with_database(url: str, name: str) -> str:
    """The same server, but the database that pytest-django made."""
    before, _, after = url.partition("?")
    return before.rsplit("/", 1)[0] + f"/{name}?{after}"
