"""Where PostgreSQL and Redis are, and what Django, Channels and Celery have to be told of it.

The addresses hold passwords. `manage.py up` leaves them in a 0600 file that the processes it starts read, because an
environment is inherited by children, and the agent's children run users' code.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import dj_database_url

from trainhub.places import ConfigurationError

FILE_NAME = "services.json"

SECRET_VARIABLES = ("DATABASE_URL", "REDIS_URL", "TRAINHUB_SECRET_KEY")
"""Not to be inherited by processes that have children running users' code."""

STATEMENT_SECONDS = 30
CONNECT_SECONDS = 5
IDLE_IN_TRANSACTION_SECONDS = 60
KEEPALIVE_IDLE_SECONDS, KEEPALIVE_EVERY_SECONDS, KEEPALIVES = 5, 2, 3
KEEPALIVE_OPTIONS = {
    socket.TCP_KEEPIDLE: KEEPALIVE_IDLE_SECONDS,
    socket.TCP_KEEPINTVL: KEEPALIVE_EVERY_SECONDS,
    socket.TCP_KEEPCNT: KEEPALIVES,
}


@dataclass(frozen=True)
class Services:
    """Both addresses as URLs. None: not known, and whoever needs it gets a clear error."""

    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)

    @classmethod
    def find(cls, environ: Mapping[str, str], file: Path) -> Self:
        """From the environment, else from what `manage.py up` left in `file`."""
        left = cls.read(file)
        return cls(
            environ.get("DATABASE_URL") or left.database_url,
            environ.get("REDIS_URL") or left.redis_url,
        )

    @classmethod
    def read(cls, file: Path) -> Self:
        try:
            return cls(**json.loads(file.read_text()))
        except FileNotFoundError:
            return cls()

    def write(self, file: Path) -> None:
        write_private(file, json.dumps(asdict(self)))

    def databases(self, *, pool: bool = False) -> dict[str, dict[str, Any]]:
        """Django's DATABASES."""
        if self.database_url is None:
            return {"default": {"ENGINE": "trainhub.no_database", "NAME": "trainhub"}}
        try:
            database: dict[str, Any] = dict(dj_database_url.parse(self.database_url))
        except ValueError:
            database = {"ENGINE": "unknown"}
        if database["ENGINE"] != "django.db.backends.postgresql":
            raise ConfigurationError("DATABASE_URL must be a PostgreSQL address: postgresql://user:password@host/name")
        options = database.setdefault("OPTIONS", {})
        for name, value in postgres_options().items():
            options.setdefault(name, value)
        database["CONN_HEALTH_CHECKS"] = True
        if pool:
            # Short reconnect_timeout: attempts back off exponentially, and a restarted server must not wait for them.
            options["pool"] = {"min_size": 1, "max_size": 20, "timeout": 5, "reconnect_timeout": 3}
        else:
            database["CONN_MAX_AGE"] = 600
        return {"default": database}

    def channel_layers(self) -> dict[str, dict[str, Any]]:
        """Channels' CHANNEL_LAYERS."""
        address = self.redis_url or NO_REDIS
        # redis-py knows no keepalives of Unix sockets; a blocking read over a cut line would wait for hours.
        alive = {} if address.startswith("unix:") else KEEPALIVE
        return {
            "default": {
                "BACKEND": "channels_redis.core.RedisChannelLayer",
                "CONFIG": {
                    # No socket_timeout: redis-py's own is as long as the layer's blocking read, which then fails.
                    "hosts": [
                        {
                            "address": address,
                            "socket_connect_timeout": CONNECT_SECONDS,
                            "socket_timeout": None,
                            **alive,
                        }
                    ],
                    "prefix": "trainhub",
                    "expiry": 10,  # hints are worthless when they are old
                },
            }
        }

    def broker_url(self) -> str:
        """Celery's name for the same Redis: kombu wants `redis+socket://` where redis-py says `unix://`."""
        address = self.redis_url or NO_REDIS
        scheme, _, rest = address.partition("://")
        return f"redis+socket://{rest.replace('db=', 'virtual_host=')}" if scheme == "unix" else address


KEEPALIVE = {"socket_keepalive": True, "socket_keepalive_options": KEEPALIVE_OPTIONS}
NO_REDIS = "unix:///redis-is-not-running.start-it-with-manage.py-up?db=0"
"""Refused at once, with an error that names what to do."""


def postgres_options() -> dict[str, Any]:
    """libpq options that give every wait a deadline, also on a line that was cut."""
    limits = {
        "statement_timeout": STATEMENT_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS,
    }
    return {
        "connect_timeout": CONNECT_SECONDS,
        "options": " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items()),
        # A line that was cut is noticed well before the scheduler gives up whoever beats over it.
        "keepalives_idle": KEEPALIVE_IDLE_SECONDS,
        "keepalives_interval": KEEPALIVE_EVERY_SECONDS,
        "keepalives_count": KEEPALIVES,
        "tcp_user_timeout": 8_000,
    }


def use(services: Services) -> None:
    """Tell this process, whose settings were loaded before the services were started."""
    from django.conf import settings
    from django.db import connections

    settings.DATABASES = services.databases()
    settings.CHANNEL_LAYERS = services.channel_layers()
    settings.CELERY_BROKER_URL = services.broker_url()
    connections.settings = connections.configure_settings(settings.DATABASES)
    connections["default"].close()
    del connections["default"]


def write_private(file: Path, text: str) -> None:
    """Write a 0600 file so that a reader sees all of it or nothing."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    os.replace(partial, file)
