"""One's own tokens."""

from __future__ import annotations

import argparse

from trainhub.client import Client
from trainhub.command import service, telling

HELP = "List your tokens; make one, revoke one. A secret is printed once: when its token is made."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    service.add_options(parser)
    kinds = parser.add_subparsers(dest="what", metavar="list | make | revoke")
    parser.set_defaults(what="list")
    several = kinds.add_parser("list", help="what there is (the default)", description=HELP)
    make = kinds.add_parser("make", help="print a new secret", description=HELP)
    make.add_argument("name", help="what it is for")
    make.add_argument("--days", type=int, default=90, help="how long it is valid (90)")
    make.add_argument("--read-only", action="store_true", help="it may look, and change nothing")
    revoke = kinds.add_parser("revoke", help="let one open nothing any more", description=HELP)
    revoke.add_argument("token", type=int, metavar="TOKEN", help="its number")
    for each in (several, make, revoke):
        service.add_options(each, again=True)


def run(options: argparse.Namespace) -> None:
    what = {"list": list_them, "make": make, "revoke": revoke}[options.what]
    with service.connected(options) as client:
        what(client, options)


def list_them(client: Client, options: argparse.Namespace) -> None:
    found = client.tokens()
    if options.as_json:
        telling.document([each.as_data() for each in found])
        return
    rows = [
        [
            str(each.id),
            each.name,
            f"{each.hint}…",
            ", ".join(each.scopes),
            each.expires_at.date().isoformat() if each.expires_at else "",
            telling.ago(each.last_used_at),
        ]
        for each in found
    ]
    telling.table(("token", "name", "begins", "may", "until", "used"), rows, right=("token",))


def make(client: Client, options: argparse.Namespace) -> None:
    made = client.make_token(
        options.name, scopes=["read"] if options.read_only else ["read", "write"], days=options.days
    )
    if options.as_json:
        telling.document(made.as_data())
    else:
        telling.say(f"Token {made.id} {made.name}; this is the only time that its secret is told:")
        print(made.secret)


def revoke(client: Client, options: argparse.Namespace) -> None:
    client.revoke_token(options.token)
    telling.say(f"Token {options.token} opens nothing any more.")
