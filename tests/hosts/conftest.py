"""Two hosts and a wire between them: the service on the first, a node agent on each, and nothing but the wire shared.

The second host's agent has a home of its own, and reaches PostgreSQL and Redis over the wire. Both services are the
test session's; on the first host a port each is opened for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from pytest_django.plugin import DjangoDbBlocker

from tests.hosts import namespaces
from tests.hosts.namespaces import Host
from tests.hosts.wire import Door, Wire, wire
from tests.runs.conftest import Stack, rows_that_stay
from tests.waiting import eventually
from trainhub.actions import access
from trainhub.models import Node, RunState

FIRST, SECOND = "10.77.0.1", "10.77.0.2"
POSTGRES, REDIS = 5432, 6379
SLOTS = {"first": "2", "second": "3"}


@dataclass
class Hosts(Stack):
    """A stack whose agents are on two hosts."""

    first: Host = field(kw_only=True)
    second: Host = field(kw_only=True)
    between: Wire = field(kw_only=True)
    environs: dict[str, dict[str, str]] = field(kw_only=True)

    def start(self, name: str, **environ: str) -> None:
        """`name` is the scheduler, or the name of a node whose agent is meant."""
        log = (self.folder / f"{name}.log").open("ab")
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "agent" if name in SLOTS else name]
        host = self.second if name == "second" else self.first
        given = self.environs.get(name, self.environ) | environ
        self.processes[name] = host.start(command, given, log)

    def start_agent(self, name: str, **environ: str) -> None:
        """Start a node's agent, and wait until it is registered."""
        before = set(Node.objects.filter(name=name).values_list("agent", flat=True))
        self.start(name, **environ)
        eventually(Node.objects.filter(name=name, online=True).exclude(agent__in=before).exists)

    def stop_agent(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        process.wait(25)

    def calm(self) -> None:
        """Put the wire right again, and wait until both nodes are there."""
        self.between.is_cut, self.between.delay_seconds, self.between.bytes_per_second = False, 0.0, 0.0
        if Node.objects.filter(name="first", address="").exists():
            self.stop_agent("first")
            self.start_agent("first")
        eventually(lambda: Node.objects.filter(online=True).count() == len(SLOTS))


@pytest.fixture(scope="package")
def two_hosts(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    if reason := namespaces.missing():
        pytest.skip(f"two hosts can't be made: {reason}")
    folder = tmp_path_factory.mktemp("hosts")
    number = os.getpid() % 100_000
    with (
        rows_that_stay(django_db_blocker) as database,
        namespaces.hosts(FIRST, SECOND) as (first, second),
        wire(first, second, number) as between,
    ):
        at, redis = urlsplit(database), urlsplit(os.environ["REDIS_URL"])
        sockets = parse_qs(at.query)["host"][0]
        doors = [
            Door(first, f"{sockets}/.s.PGSQL.{POSTGRES}", POSTGRES),
            Door(first, redis.path, REDIS),
        ]
        here = dict(os.environ) | {"DATABASE_URL": database}
        environs = {
            name: here | {"TRAINHUB_NODE": name, "TRAINHUB_CPU_SLOTS": SLOTS[name], "TRAINHUB_INTERFACE": address}
            for name, address in (("first", FIRST), ("second", SECOND))
        }
        environs["second"] |= {
            "DATABASE_URL": f"postgresql://{at.username}:{at.password}@{FIRST}:{POSTGRES}{at.path}",
            "REDIS_URL": f"redis://:{redis.password}@{FIRST}:{REDIS}/0",
            "TRAINHUB_HOME": str(folder / "home-of-the-second"),
            "TRAINHUB_LABELS": "rack=7",
        }
        running = Hosts(folder, here, first=first, second=second, between=between, environs=environs)
        running.owner, running.project = access.first_admin()
        for name in ("scheduler", *SLOTS):
            running.start(name)
        try:
            running.calm()
            # Both forkservers load torch before their first child; no test is to measure that.
            run = running.submit(problem={"kind": "ledger"}, workers=4, budget={"updates": 8}, restarts=9)
            running.wait(run, RunState.COMPLETED, seconds=80)
            yield running
        finally:
            running.between.is_cut = False
            running.stop()
            for door in doors:
                door.close()


@pytest.fixture
def hosts(two_hosts: Hosts) -> Hosts:
    """The two hosts as they are meant to be, whatever a test before did to them."""
    two_hosts.calm()
    return two_hosts


def replay(run_dir: Path, attempt: int, server: int) -> str:
    """What `trainhub replay` says of a gradient log and the run's last checkpoint. Fails where they differ."""
    log = run_dir / str(attempt) / str(server) / "gradients.log"
    [last] = sorted((run_dir / "checkpoints").glob("*.safetensors"), key=lambda f: f.stat().st_mtime)[-1:]
    trainhub = "import sys; from trainhub.command import main; sys.exit(main())"
    command = [sys.executable, "-c", trainhub, "replay", str(log), "--checkpoint", str(last)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=settings.BASE_DIR)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sleep_cut(between: Wire, seconds: float) -> None:
    """Cut the wire for so long."""
    between.is_cut = True
    time.sleep(seconds)  # this is the fault, not a wait for something
    between.is_cut = False
