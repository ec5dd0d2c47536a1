"""A whole TrainHub in a home of its own, for benchmarks that ask it over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A running `manage.py up`. `seconds` is how long its first page took."""

    address: str
    environ: dict[str, str]
    seconds: float

    def python(self, code: str, *arguments: str, deadline_seconds: float = 10 * DEADLINE_SECONDS) -> str:
        """What code prints that runs beside the stack, on its database. Raises CalledProcessError."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False, timeout=deadline_seconds,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout


@contextmanager
def home() -> Iterator[dict[str, str]]:
    """An environment whose home is new, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environ = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        environ |= {"TRAINHUB_HOME": f"{folder}/home", "DJANGO_SETTINGS_MODULE": "trainhub.settings"}
        Path(folder).chmod(0o755)  # the database's own account, when we are root, must reach its data
        yield environ


@contextmanager
def up(environ: dict[str, str]) -> Iterator[Served]:
    """Everything running. Raises RuntimeError where no page is served within the deadline."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "up", f"--port={port}"], env=environ, stdout=subprocess.DEVNULL
    )
    try:
        while not _answers(f"http://127.0.0.1:{port}/sign-in/"):
            if process.poll() is not None or time.monotonic() - began > DEADLINE_SECONDS:
                raise RuntimeError("`manage.py up` did not serve a page")
            time.sleep(0.02)
        yield Served(f"http://127.0.0.1:{port}", environ, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return bool(page.status == 200)
    except (urllib.error.URLError, OSError):
        return False
