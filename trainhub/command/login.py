"""Say once where the service is and who you are there."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from trainhub.client import Client, Login
from trainhub.client import login as logins
from trainhub.command import service, telling
from trainhub.command.errors import STDIN, USAGE, CommandError, read_given

HELP = (
    "Check an address and a token with the service, and keep them for the other commands, readable by you alone. "
    "Tokens are made in the browser, under Tokens."
)
USUAL = "http://127.0.0.1:8000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", help=f"the address of the pages, such as {USUAL}")
    parser.add_argument(
        "--token-file", type=Path, help="read the token from this file, - for standard input, instead of asking for it"
    )
    parser.add_argument("--logout", action="store_true", help="forget what was kept; the token stays valid")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print who you are as JSON")


def run(options: argparse.Namespace) -> None:
    if options.logout:
        telling.say("Forgotten." if logins.forget() else "Nobody was logged in.")
        return
    with service.refusals():
        try:
            url = logins.tidy(options.url or asked_url())
            token = token_of(options.token_file)
        except EOFError:
            raise CommandError("That was no answer; nothing is kept.", status=USAGE) from None
        if logins.travels_in_the_open(url):
            telling.say(f"{url} is not encrypted: whoever can listen on the way learns your token.")
        with Client(url, token) as client:
            me = client.me()
    file = logins.keep(Login(url, token))
    if options.as_json:
        telling.document(me.as_data())
        return
    roles = ", ".join(f"{each.name} ({each.role})" for each in me.projects) or "none yet"
    telling.out().print(f"{me.username} at {url}. Projects: {roles}.")
    telling.say(f"Kept in {file}.")


def asked_url() -> str:
    """Where somebody sits at the terminal; elsewhere the address is an argument."""
    kept = logins.read()
    if not sys.stdin.isatty():
        raise CommandError("Name the address: `trainhub login URL`.", status=USAGE)
    usual = kept.url if kept else USUAL
    sys.stderr.write(f"Address [{usual}]: ")
    sys.stderr.flush()
    return input() or usual


def token_of(file: Path | None) -> str:
    """Asked for without echo at a terminal, else read. Raises CommandError."""
    asked = file is None and sys.stdin.isatty()
    token = (getpass.getpass("Token: ") if asked else read_given(file or STDIN)).strip()
    if not token or not token.isascii() or not token.isprintable():
        raise CommandError("That is no token. One begins with th_; make it in the browser, under Tokens.", status=USAGE)
    return token
