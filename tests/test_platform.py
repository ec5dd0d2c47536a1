"""Addresses, secrets, places and static files."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from kombu import Connection

from tests.stacks import ROOT, environ_for, manage
from trainhub import places
from trainhub.services import Services, write_private
from trainhub.static_files import Scope, StaticFiles

EMBEDDED = Services("postgresql://trainhub:pw@/trainhub?host=/Run/Pg", "unix://:pw@/Run/redis.sock?db=0")


def test_an_address_on_a_socket_keeps_the_path_s_letters() -> None:
    options = EMBEDDED.databases()["default"]["OPTIONS"]
    assert options["host"] == "/Run/Pg"


def test_the_broker_is_the_same_redis_under_kombu_s_name() -> None:
    assert EMBEDDED.broker_url() == "redis+socket://:pw@/Run/redis.sock?virtual_host=0"
    assert Services(redis_url="rediss://h:1/0").broker_url() == "rediss://h:1/0"


def test_celery_reaches_the_session_s_redis() -> None:
    broker = Services(redis_url=os.environ["REDIS_URL"]).broker_url()
    with Connection(broker, transport_options=settings.CELERY_BROKER_TRANSPORT_OPTIONS) as connection:
        queue = connection.SimpleQueue("node.test", no_ack=True)
        queue.put({"member": 1})
        assert queue.get(timeout=5).payload == {"member": 1}
        queue.close()


def test_only_postgres_will_do() -> None:
    with pytest.raises(ValueError, match="DATABASE_URL must be a PostgreSQL address"):
        Services(database_url="sqlite:///x.db").databases()


def test_addresses_are_not_shown_when_printed() -> None:
    assert "pw" not in repr(EMBEDDED)


def test_the_environment_goes_before_what_up_left(tmp_path: Path) -> None:
    file = tmp_path / "services.json"
    EMBEDDED.write(file)
    assert file.stat().st_mode & 0o777 == 0o600
    found = Services.find({"DATABASE_URL": "postgresql://mine/x"}, file)
    assert found == Services("postgresql://mine/x", EMBEDDED.redis_url)


def test_a_private_file_is_private_even_where_an_open_one_was(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)


def test_without_a_database_the_error_says_what_to_do(short_dir: Path) -> None:
    done = manage(short_dir / "home", "showmigrations")
    assert done.returncode != 0
    assert "Start everything with `python manage.py up`" in done.stderr


def test_without_a_database_types_and_migrations_can_be_checked(short_dir: Path) -> None:
    home = short_dir / "home"
    assert manage(home, "check").returncode == 0
    assert "No changes detected" in manage(home, "makemigrations", "--check", "--dry-run").stdout
    assert not home.exists()


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_of_slots_is_named(given: str) -> None:
    with pytest.raises(ValueError, match=f"TRAINHUB_CPU_SLOTS must be a whole number of at least 1, got '{given}'"):
        places.cpu_slots({"TRAINHUB_CPU_SLOTS": given})


def test_two_homes_have_sockets_and_cookies_of_their_own() -> None:
    first, second = (places.runtime_dir({}, Path(home)) for home in ("/a", "/b"))
    assert first != second
    assert settings.SESSION_COOKIE_NAME.endswith(places.mark(settings.HOME))


async def get(
    path: str, method: str = "GET", headers: dict[bytes, bytes] | None = None
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask the static files' application as a server would."""
    sent: list[dict[str, Any]] = []

    async def pages(scope: Scope, receive: object, send: object) -> None:
        raise LookupError("not a static file")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list((headers or {}).items())}
    await StaticFiles(pages)(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


PLOTLY = "/static/vendor/plotly/plotly.min.js"


async def test_plotly_comes_compressed_from_its_wheel() -> None:
    status, headers, body = await get(PLOTLY, headers={b"accept-encoding": b"gzip, br"})
    assert (status, headers[b"content-encoding"]) == (200, b"gzip")
    assert headers[b"content-type"].startswith(b"text/javascript")
    assert gzip.decompress(body) == (await get(PLOTLY))[2]


async def test_a_file_that_did_not_change_is_not_sent_again() -> None:
    etag = (await get(PLOTLY))[1][b"etag"]
    assert (await get(PLOTLY, headers={b"if-none-match": etag}))[0::2] == (304, b"")


async def test_htmx_comes_from_its_package() -> None:
    assert (await get("/static/django_htmx/htmx-2.min.js"))[0] == 200


@pytest.mark.parametrize("name", ["none.js", "../settings.py", "%2e%2e/settings.py", "/etc/passwd", "x\0y", ""])
async def test_nothing_outside_of_the_static_folders_is_given(name: str) -> None:
    assert (await get(f"/static/{name}"))[0] == 404


async def test_a_file_is_only_read() -> None:
    assert (await get(PLOTLY, "POST"))[0] == 405
    assert (await get(PLOTLY, "HEAD"))[2] == b""


async def test_other_paths_are_the_pages_business() -> None:
    with pytest.raises(LookupError):
        await get("/runs/")


def make(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", "setup", f"VENV={home / 'venv'}", *arguments],
        cwd=ROOT,
        env=environ_for(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    done = make("PYTHON=", home=tmp_path)
    assert done.returncode != 0
    assert "TrainHub needs Python 3.11 or newer" in done.stdout


def test_make_says_when_the_venv_module_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\ncase "$*" in *venv*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    done = make(f"PYTHON={bare}", home=tmp_path)
    assert done.returncode != 0
    assert "has no venv module. Install it" in done.stdout
