"""What subcommands that talk to a service share: options, the connection, and refusals as exit statuses."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trainhub.client import ApiError, BadAddress, Client, ClientError, NotLoggedIn, NotReachable
from trainhub.command import telling
from trainhub.command.errors import FAILED, NOT_REACHED, USAGE, CommandError

NOT_LET_IN = {401, 403, 404}
NOT_UNDERSTOOD = {400, 413, 422}


def add_options(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """`again`: they may stand behind a second word too, and say nothing there unless given."""
    unsaid: dict[str, Any] = {"default": argparse.SUPPRESS} if again else {}
    told = "print JSON, and nothing else, to stdout"
    parser.add_argument("--json", action="store_true", dest="as_json", help=told, **unsaid)
    parser.add_argument("--url", help="another service than TRAINHUB_URL's or the one of `trainhub login`", **unsaid)


@contextmanager
def connected(options: argparse.Namespace) -> Iterator[Client]:
    """A client until the block ends. Raises CommandError for all that a client raises in it."""
    with refusals():
        with Client.from_environment(url=options.url, on_wait=telling.waiting) as client:
            yield client


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise CommandError(str(error), status=status_of(error)) from None


def status_of(error: ClientError) -> int:
    match error:
        case ApiError() if error.status in NOT_LET_IN:
            return NOT_REACHED
        case ApiError() if error.status in NOT_UNDERSTOOD:
            return USAGE
        case NotReachable() | NotLoggedIn():
            return NOT_REACHED
        case BadAddress():
            return USAGE
        case _:
            return FAILED
