"""`manage.py up`, started for real: it serves, it supervises, and it leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks import (
    Up,
    free_port,
    manage,
    new_base,
    processes_of,
    runtime_dir_of,
    shm_of,
    up,
)
from tests.waiting import eventually
from trainhub import places
from trainhub.processes import start_ticks

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home that several stacks in turn are started on, as a person's is."""
    base = new_base()
    yield base / "home"
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def running() -> Iterator[Up]:
    """A stack that several tests look at and hurt, one after the other."""
    base = new_base()
    with up(base / "home") as stack:
        yield stack
    shutil.rmtree(base, ignore_errors=True)


def nothing_is_left(home: Path) -> None:
    eventually(lambda: not processes_of(home), seconds=5)
    assert processes_of(home) == []
    assert not runtime_dir_of(home).exists()
    assert shm_of(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_pages_and_leaves_nothing_when_stopped(home: Path, number: signal.Signals) -> None:
    with up(home) as stack:
        assert stack.status() == 200
        assert set(stack.processes()) == {"PostgreSQL", "Redis", "web", "scheduler", "node agent"}
        assert stack.stop(number) == 0
    assert stack.said().endswith("Stopped.\n")
    nothing_is_left(home)


def test_the_first_admin_gets_a_link_and_later_ones_by_name(running: Up) -> None:
    assert f"http://127.0.0.1:{running.port}/sign-in/" in running.said()
    fresh = manage(running.home, "signin", "admin")
    assert fresh.stdout.startswith(f"http://127.0.0.1:{running.port}/sign-in/")
    assert "no active user named 'carol'" in manage(running.home, "signin", "carol").stderr


def test_no_process_that_runs_users_code_inherits_an_address(running: Up) -> None:
    environ = Path(f"/proc/{running.processes()['node agent']}/environ").read_bytes()
    assert b"TRAINHUB_HOME=" in environ
    assert b"DATABASE_URL" not in environ
    assert b"REDIS_URL" not in environ


def test_a_second_start_on_the_same_home_is_refused(running: Up) -> None:
    second = manage(running.home, "up", "--port", str(free_port()))
    assert second.returncode != 0
    assert f"already runs on {running.home} (process {running.process.pid})" in second.stderr
    assert running.status() == 200


def test_a_busy_port_is_refused_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = manage(home, "up", "--port", str(port))
    assert refused.returncode != 0
    assert f"Port {port} on 127.0.0.1 can't be opened" in refused.stderr
    nothing_is_left(home)


@pytest.mark.parametrize("name", ["web", "scheduler", "node agent", "Redis", "PostgreSQL"])
def test_what_is_killed_is_started_again(running: Up, name: str) -> None:
    before = running.processes()[name]
    os.kill(before, signal.SIGKILL)
    running.wait_for(f"{name} was killed by SIGKILL; starting it again")
    eventually(lambda: running.processes().get(name, before) != before)
    eventually(lambda: running.status() == 200)


def test_a_browser_waits_while_web_restarts_instead_of_being_refused(running: Up) -> None:
    os.kill(running.processes()["web"], signal.SIGKILL)
    assert running.status() == 200


@pytest.fixture
def orphan(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A training child as a killed agent leaves it: running, and written down."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    write_child(home, process.pid, start_ticks(process.pid))
    yield process
    process.kill()
    process.wait()


def write_child(home: Path, pid: int, ticks: int | None) -> None:
    folder = home / "runs" / "7" / "1" / "3"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "child.json").write_text(json.dumps({"pid": pid, "start_ticks": ticks}))


def test_what_a_killed_up_left_is_cleaned_by_the_next(home: Path, orphan: subprocess.Popen[bytes]) -> None:
    with up(home) as stack:
        left = stack.processes()
        shared = Path("/dev/shm") / f"trainhub-{places.mark(home)}-7"
        shared.touch()
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait(5)
        with up(home) as following:
            assert orphan.wait(5) == -signal.SIGTERM
            assert not shared.exists()
            assert set(following.processes().values()).isdisjoint(left.values())
    nothing_is_left(home)


def test_a_process_that_reused_a_child_s_pid_is_left_alone(home: Path, orphan: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(orphan.pid)
    assert ticks is not None
    write_child(home, orphan.pid, ticks - 1)
    with up(home):
        pass
    assert orphan.poll() is None


def test_given_services_are_used_and_reach_nobody_s_environment(short_dir: Path) -> None:
    home = short_dir / "home"
    given = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    with up(home, environ=given) as stack:
        processes = stack.processes()
        assert set(processes) == {"web", "scheduler", "node agent"}
        for pid in processes.values():
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert not any(address.encode() in environ for address in given.values())
        assert (runtime_dir_of(home) / "services.json").stat().st_mode & 0o777 == 0o600
    assert not (home / "postgres").exists()
    nothing_is_left(home)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("postgresql:///trainhub?host=/nowhere", "The database can't be used: connection"),
        ("sqlite:///x.db", "DATABASE_URL must be a PostgreSQL address"),
        ("nonsense", "DATABASE_URL must be a PostgreSQL address"),
    ],
)
def test_a_database_that_can_t_be_used_is_named(short_dir: Path, address: str, complaint: str) -> None:
    given = {"DATABASE_URL": address, "REDIS_URL": os.environ["REDIS_URL"]}
    refused = manage(short_dir / "home", "up", "--port", str(free_port()), environ=given)
    assert refused.returncode != 0
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr
