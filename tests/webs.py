"""A real web process on the test's own database."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10


class Web:
    """A web process that serves the test's own database, on a socket that outlives it."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        parts = urlsplit(os.environ["DATABASE_URL"])
        database = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
        self.environ = {
            **os.environ,
            "DATABASE_URL": database,
            "DJANGO_SETTINGS_MODULE": "trainhub.settings",
            "TRAINHUB_SECRET_KEY": settings.SECRET_KEY,
        }
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainhub.web", "--fd", str(self.listening.fileno())],
            cwd=ROOT,
            env=self.environ,
            pass_fds=[self.listening.fileno()],
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def serving() -> Iterator[Web]:
    """A web process until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        web = Web(listening)
        try:
            yield web
        finally:
            web.stop()
