"""Starting real `manage.py` programs in homes of their own, and looking at what is left of them."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import eventually
from trainhub import places

ROOT = Path(__file__).resolve().parent.parent


def environ_for(home: Path) -> dict[str, str]:
    """As in a fresh shell: none of what the test session's own services set."""
    dropped = {"DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "TRAINHUB_DATABASE_POOL"}
    mine = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**mine, "TRAINHUB_HOME": str(home), "XDG_RUNTIME_DIR": str(home.parent), "COLUMNS": "200"}


def new_base() -> Path:
    """A folder for a home: short for the sockets' sake, and open to the account of PostgreSQL where we are root."""
    base = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    base.chmod(0o755)
    return base


def runtime_dir_of(home: Path) -> Path:
    return places.runtime_dir(environ_for(home), home)


def shm_of(home: Path) -> list[Path]:
    return list(Path("/dev/shm").glob(f"trainhub-{places.mark(home)}-*"))


def manage(
    home: Path, *arguments: str, seconds: float = 50, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        env={**environ_for(home), **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Up:
    """A running `manage.py up`."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str) -> str:
        """What was said so far, once `text` is among it."""
        eventually(lambda: text in self.said() or self.process.poll() is not None)
        assert text in self.said(), self.said()
        return self.said()

    def status(self, path: str = "/admin/login/") -> int | None:
        """The HTTP status of a page. None: nobody answers."""
        page = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            page.request("GET", path)
            return page.getresponse().status
        except OSError:
            return None
        finally:
            page.close()

    def processes(self) -> dict[str, int]:
        """Name → pid of what the stack runs."""
        recorded = json.loads((runtime_dir_of(self.home) / "processes.json").read_text())
        return {name: pid for name, (pid, _) in recorded.items()}

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(40)


@contextlib.contextmanager
def up(home: Path, *command: str, slots: int = 2, environ: Mapping[str, str] | None = None) -> Iterator[Up]:
    """A stack that serves pages inside, and is stopped outside. `command` is `up` unless given."""
    port = free_port()
    output = home.parent / f"up-{time.monotonic_ns()}.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "manage.py"),
                *(command or ("up",)),
                f"--port={port}",
                f"--slots={slots}",
            ],
            env={**environ_for(home), **(environ or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    stack = Up(home, port, process, output)
    try:
        stack.wait_for("TrainHub is at")
        eventually(lambda: stack.status() == 200)
        yield stack
    finally:
        stack.stop()


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that belong to a home: by their arguments or their environment."""
    mark = str(home).encode()
    found = []
    for each in Path("/proc").iterdir():
        if not each.name.isdigit() or int(each.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line, environ = (each / "cmdline").read_bytes(), (each / "environ").read_bytes()
            if line and (mark in line or b"TRAINHUB_HOME=" + mark + b"\0" in environ):
                found.append(re.sub(r"\0", " ", line.decode(errors="replace")))
    return found
