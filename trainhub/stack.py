"""The whole of TrainHub on one machine: services, web, scheduler and node agent as children of this process.

One owner: the home's lock is held from before the first process starts until the last has ended. Whatever is started
is written down with pid and start time, so that a start after a kill -9 finds it and ends it first.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from django.db.utils import OperationalError

from trainhub import embedded
from trainhub.processes import Program, Supervisor, end, is_alive
from trainhub.services import FILE_NAME, SECRET_VARIABLES, Services, write_private

AGENT_GRACE_SECONDS = 20.0
"""What the agent may take to let its runs write their checkpoints."""

STOP_ORDER = ("node agent", "scheduler", "web", "Redis", "PostgreSQL")
"""Those who store before what they store in."""

WATCH_SECONDS = 0.1


class StackError(RuntimeError):
    """The stack can't be started. The text says what to do."""


@dataclass(frozen=True)
class Layout:
    """Where this stack's things are, and whether somebody else runs its services.

    `given`: addresses that the environment set; what is None there is started from its wheel.
    """

    base: Path
    home: Path
    runtime_dir: Path
    secret_key_file: Path
    shm_prefix: str
    given: Services

    @property
    def records(self) -> Path:
        return self.runtime_dir / "processes.json"

    @property
    def services(self) -> Path:
        return self.runtime_dir / FILE_NAME

    @property
    def address(self) -> Path:
        """Where the pages are, for commands that print links while the stack runs."""
        return self.runtime_dir / "address"


def open_port(host: str, port: int, *, any_when_busy: bool = False) -> socket.socket:
    """Listen on the port, before anything is started. Raises StackError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listening.bind((host, port))
        except OSError:
            if not any_when_busy:
                raise
            listening.bind((host, 0))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise StackError(
            f"Port {port} on {host} can't be opened ({error.strerror}). "
            f"Choose another one: `make up PORT={port + 1}` or `python manage.py up --port {port + 1}`."
        ) from None
    return listening


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home's lock. Raises StackError when another process does; the kernel frees it when its holder dies."""
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"TrainHub already runs on {home} (process {holder(lock)}). Stop it first.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def holder(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "unknown"


@dataclass
class Stack:
    """Starts, watches and stops. `say` writes a line to the terminal.

    `asked_to_stop` is set by Ctrl-C and SIGTERM, and may be set by whoever runs the stack.
    """

    layout: Layout
    listening: socket.socket
    say: Callable[[str], None]
    cpu_slots: int | None = None
    asked_to_stop: threading.Event = field(default_factory=threading.Event)
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(say=self.say, record=self._record)

    @property
    def address(self) -> str:
        host, port = self.listening.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything up inside, nothing left outside, whatever happens in between."""
        home = self.layout.home
        account = embedded.system_account() if self.layout.given.database_url is None else None
        embedded.make_folder(home, passable_by=account)
        with only_one(home), self._signals():
            clean_up(self.layout, say=self.say)
            embedded.make_folder(self.layout.runtime_dir, passable_by=account)
            try:
                self._start(account)
                yield
            finally:
                self.supervisor.stop(STOP_ORDER)
                clean_up(self.layout, say=self.say)

    def watch(self, seconds: float | None = None) -> bool:
        """Keep the stack up until asked to stop, or for so long. True: asked to stop."""
        waited = 0.0
        while seconds is None or waited < seconds:
            self.supervisor.watch()
            if self.asked_to_stop.wait(WATCH_SECONDS):
                return True
            waited += WATCH_SECONDS
        return False

    def _start(self, account: embedded.Account | None) -> None:
        services = self._start_services(account)
        services.write(self.layout.services)
        write_private(self.layout.address, self.address)
        ensure_secret_key(self.layout.secret_key_file)
        try:
            prepare_django(services, self.layout.secret_key_file)
        except (ValueError, OperationalError) as error:  # a malformed address, or one where nobody answers
            raise StackError(f"The database can't be used: {error}") from None
        for program in self._programs():
            self.supervisor.start(program)

    def _start_services(self, account: embedded.Account | None) -> Services:
        given, layout = self.layout.given, self.layout
        database_url, redis_url = given.database_url, given.redis_url
        redis = embedded.Redis(home=layout.home, runtime_dir=layout.runtime_dir)
        postgres = embedded.PostgreSQL(home=layout.home, runtime_dir=layout.runtime_dir, account=account)
        if database_url is None:
            postgres.prepare()
            postgres.clean()
            self.supervisor.start(postgres.program())
        if redis_url is None:
            redis.prepare()
            self.supervisor.start(redis.program())
            redis.wait(self.supervisor.running["Redis"].process)
            redis_url = redis.url
        if database_url is None:
            postgres.wait(self.supervisor.running["PostgreSQL"].process)
            database_url = postgres.url
        return Services(database_url, redis_url)

    def _programs(self) -> list[Program]:
        environ = environ_without_secrets(os.environ)
        environ["TRAINHUB_HOME"] = str(self.layout.home)
        environ["PYTHONUNBUFFERED"] = "1"
        if self.cpu_slots is not None:
            environ["TRAINHUB_CPU_SLOTS"] = str(self.cpu_slots)
        fd = self.listening.fileno()
        manage = str(self.layout.base / "manage.py")
        logs = self.layout.home / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)

        def python(name: str, *arguments: str, grace: float, fds: tuple[int, ...] = ()) -> Program:
            return Program(
                name=name,
                arguments=[sys.executable, *arguments],
                environ=environ,
                cwd=self.layout.base,
                output=logs / f"{name.replace(' ', '-')}.log",
                grace_seconds=grace,
                pass_fds=fds,
            )

        return [
            python("web", "-m", "trainhub.web", "--fd", str(fd), grace=5, fds=(fd,)),
            python("scheduler", manage, "scheduler", grace=5),
            python("node agent", manage, "agent", grace=AGENT_GRACE_SECONDS),
        ]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM ask for an orderly stop; a second Ctrl-C changes nothing, the deadlines hold."""
        former = {
            number: signal.signal(number, lambda *_: self.asked_to_stop.set())
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _record(self, processes: dict[str, tuple[int, int]]) -> None:
        if self.layout.runtime_dir.exists():
            write_private(self.layout.records, json.dumps(processes))


def environ_without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment is inherited by children, and the agent's children run users' code."""
    return {name: value for name, value in environ.items() if name not in SECRET_VARIABLES}


def ensure_secret_key(file: Path) -> None:
    if not file.exists():
        given = os.environ.get("TRAINHUB_SECRET_KEY")
        write_private(file, given or secrets.token_urlsafe(48))


def prepare_django(services: Services, secret_key_file: Path) -> None:
    """Tell this process of the services, and bring the tables up to date."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    from trainhub.services import use

    use(services)
    settings.SECRET_KEY = secret_key_file.read_text().strip()
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")  # an index on a large table takes its time
        call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
        connection.close()


def clean_up(layout: Layout, *, say: Callable[[str], None]) -> None:
    """End and remove what a stack of this home left: processes, training children, sockets, shared memory.

    Called under the home's lock, before a start and after a stop; after an orderly stop it finds little.
    """
    left = recorded(layout.records)
    for name in STOP_ORDER:
        if name not in left:
            continue
        ask = signal.SIGINT if name == "PostgreSQL" else signal.SIGTERM
        grace = AGENT_GRACE_SECONDS if name == "node agent" else 5.0
        if end(*left[name], ask=ask, grace_seconds=grace):
            say(f"Ended {name} (process {left[name][0]}), left by a killed `up`.")
        if name == "node agent":
            end_children(layout.home, say=say)
    if not left:
        end_children(layout.home, say=say)
    if layout.runtime_dir.is_dir() and layout.runtime_dir.stat().st_uid == os.geteuid():
        shutil.rmtree(layout.runtime_dir, ignore_errors=True)
    for file in Path("/dev/shm").glob(f"{layout.shm_prefix}*"):
        file.unlink(missing_ok=True)


def recorded(file: Path) -> dict[str, tuple[int, int]]:
    try:
        found = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: (int(pid), int(ticks)) for name, (pid, ticks) in found.items()}


def end_children(home: Path, *, say: Callable[[str], None]) -> None:
    """End training children that outlived their agent. Asked all at once, so that they take one deadline together."""
    left = [child for file in home.glob("runs/*/*/*/child.json") if (child := living_child(file))]
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for pid, ticks in left:
        if end(pid, ticks, grace_seconds=5.0):
            say(f"Ended a training process ({pid}) that had lost its node agent.")


def living_child(file: Path) -> tuple[int, int] | None:
    try:
        child = json.loads(file.read_text())
        pid, ticks = int(child["pid"]), int(child["start_ticks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (pid, ticks) if is_alive(pid, ticks) else None
