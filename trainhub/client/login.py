"""Where the service is and who we are there: from the environment, else from the file that `trainhub login` keeps."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from trainhub.client.errors import BadAddress, NotLoggedIn

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
HOW = "Run `trainhub login`, or set TRAINHUB_URL and TRAINHUB_TOKEN."


@dataclass(frozen=True)
class Login:
    url: str
    token: str = field(repr=False)

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ, *, url: str | None = None) -> Login:
        """The address: given, else TRAINHUB_URL, else the file's. The token: TRAINHUB_TOKEN, else the file's.

        The file's token goes to the file's address only. Raises NotLoggedIn.
        """
        kept = read(environ)
        wanted = url or environ.get("TRAINHUB_URL")
        address = tidy(wanted) if wanted else kept.url if kept else None
        if address is None:
            raise NotLoggedIn(f"No TrainHub is known yet. {HOW}")
        token = environ.get("TRAINHUB_TOKEN") or (kept.token if kept and kept.url == address else None)
        if not token:
            raise NotLoggedIn(f"There is no token for {address}. {HOW}")
        return cls(address, token)


def file_of(environ: Mapping[str, str] = os.environ) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(base) / "trainhub" / "login.json"


def read(environ: Mapping[str, str] = os.environ) -> Login | None:
    """What was kept. None: nothing, or nothing readable."""
    try:
        told = json.loads(file_of(environ).read_text())
        return Login(str(told["url"]), str(told["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(login: Login, environ: Mapping[str, str] = os.environ) -> Path:
    """Write it for this user alone, whole or not at all."""
    file = file_of(environ)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".login-")  # which makes it 0600
    try:
        with os.fdopen(handle, "w") as text:
            json.dump({"url": login.url, "token": login.token}, text)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
    return file


def forget(environ: Mapping[str, str] = os.environ) -> bool:
    """False: there was nothing to forget."""
    try:
        file_of(environ).unlink()
    except FileNotFoundError:
        return False
    return True


def tidy(url: str) -> str:
    """An address as people type it, `host:8000`, with its scheme and without a path's end. Raises BadAddress."""
    text = url.strip()
    try:
        if "://" not in text:
            host = urlsplit(f"//{text}").hostname or ""
            text = f"{'http' if host in LOOPBACK else 'https'}://{text}"
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        text = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/api/v1')}"
    except ValueError:  # a port that is no number
        known = False
    if not known:
        raise BadAddress(f"{url!r} is no address of a TrainHub; one looks like http://127.0.0.1:8000")
    return text


def travels_in_the_open(url: str) -> bool:
    """Whether a token would leave this machine unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK
