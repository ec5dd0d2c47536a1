"""A real web process on the test database, and a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
STOP_SECONDS = 10
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


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


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[Web]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        web = Web(listening)
        yield web
        web.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright's synchronous calls run inside a loop of their own, which Django would take for ours.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 2700})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page whose errors fail the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    lost = "net::ERR_CONNECTION"  # said by the browser itself while the web process is down
    assert [error for error in errors if lost not in error] == []
