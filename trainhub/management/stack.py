"""What `up` and `demo` share: options, the layout from the settings, and the way in."""

import argparse
import os
from collections.abc import Callable
from urllib.parse import quote

from django.conf import settings
from django.contrib.auth.models import User

from trainhub import reach
from trainhub.actions.access import make_sign_in_link
from trainhub.services import Services
from trainhub.stack import Layout, Stack, open_port


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8000, help="where the pages are served (8000)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--slots", type=int, help="CPU slots of this machine's node (the larger of 8 and 2 a core)")


def make_stack(
    *, host: str, port: int, slots: int | None, say: Callable[[str], None], any_port_when_busy: bool = False
) -> Stack:
    """A stack with its port open, not yet started. Raises ConfigurationError for what the node agent would refuse."""
    reach.address(os.environ)
    reach.labels(os.environ)
    listening = open_port(host, port, any_when_busy=any_port_when_busy)
    return Stack(layout=layout(), listening=listening, say=say, cpu_slots=slots)


def layout() -> Layout:
    return Layout(
        base=settings.BASE_DIR,
        home=settings.HOME,
        runtime_dir=settings.RUNTIME_DIR,
        secret_key_file=settings.SECRET_KEY_FILE,
        shm_prefix=settings.SHM_PREFIX,
        given=Services(os.environ.get("DATABASE_URL") or None, os.environ.get("REDIS_URL") or None),
    )


def link(stack_address: str, user: User, *, to: str = "") -> str:
    """A one-time link that signs `user` in, and leads on `to` a page of ours."""
    after = f"?next={quote(to)}" if to else ""
    return f"{stack_address}/sign-in/{make_sign_in_link(user)}/{after}"


def nobody_signed_in_yet() -> bool:
    """No admin has found the way in so far: neither by a link nor by a password."""
    ways_in = User.objects.filter(is_superuser=True, is_active=True).only("password", "last_login")
    return not any(user.last_login or user.has_usable_password() for user in ways_in)
