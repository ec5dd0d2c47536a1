"""The `trainhub` command: what can be done from a shell without the service, and without Django.

A subcommand is a module with `HELP`, `add_arguments` and `run`. Only the chosen one is imported, and torch only by
those that compute.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from trainhub.command.errors import CommandError

NAMES = {
    "simulate": "run a spec under a virtual clock",
    "replay": "compute a run's weights again from its gradient log",
    "study": "run a grid of simulations, and draw what they came to",
}


class Subcommand(Protocol):
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> None:
        """Raises CommandError, which ends the program with status 1."""
        ...


def load(name: str) -> Subcommand:
    return cast("Subcommand", importlib.import_module(f"trainhub.command.{name}"))


def main(words: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the status to exit with. Words that can't be understood exit with status 2."""
    listed = "\n".join(f"  {name:<10}{text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="trainhub",
        description="Asynchronous training, from the shell.",
        epilog=f"commands:\n{listed}\n\n`trainhub COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=NAMES, metavar="COMMAND", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="what it takes")
    chosen = parser.parse_args(words)
    command = load(chosen.command)
    own = argparse.ArgumentParser(prog=f"trainhub {chosen.command}", description=command.HELP)
    command.add_arguments(own)
    try:
        command.run(own.parse_args(chosen.rest))
    except CommandError as error:
        print(f"trainhub {chosen.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
