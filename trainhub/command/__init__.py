"""The `trainhub` command: work with a service from a shell, or simulate without one. No Django.

A subcommand is a module with `HELP`, `add_arguments` and `run`. Only the chosen one is imported, and torch only by
those that compute.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from trainhub.command.errors import BROKEN_PIPE, INTERRUPTED, CommandError

ACTIONS = {
    "pause": "checkpoint runs, and give their slots back",
    "resume": "queue paused runs again",
    "cancel": "end runs in order, with a checkpoint",
    "kill": "end runs at once",
    "requeue": "queue failed or cancelled runs again",
}
GROUPS = {
    "with a service": {
        "login": "say where the service is, and who you are",
        "submit": "queue a run, or one for each seed and each point of a grid",
        "runs": "list runs",
        "show": "one run: state, progress, members, checkpoints",
        "logs": "what a run's processes print",
        "events": "what happened to a run",
        **ACTIONS,
        "compare": "runs side by side: what they differ in, and what they came to",
        "export": "a run as files: checkpoint, model, spec, series, events",
        "nodes": "machines and their slots",
        "datasets": "data of your own: list, upload, show, delete",
        "tokens": "your tokens: list, make, revoke",
    },
    "without a service": {
        "simulate": "run a spec under a virtual clock",
        "plan": "what a machine group's layouts move, hold and take",
        "replay": "compute a run's weights again from its gradient log",
        "study": "run a grid of simulations, and draw what they came to",
    },
}
NAMES = {name: text for group in GROUPS.values() for name, text in group.items()}


class Subcommand(Protocol):
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> None:
        """Raises CommandError, which ends the program with its status, 1 unless it says otherwise."""
        ...


def load(name: str) -> Subcommand:
    if name in ACTIONS:
        from trainhub.command.acting import Acting

        return Acting(name)
    return cast("Subcommand", importlib.import_module(f"trainhub.command.{name}"))


def listed() -> str:
    """All commands, by what they need."""
    groups = [
        f"{title}:\n" + "\n".join(f"  {name:<10}{text}" for name, text in group.items())
        for title, group in GROUPS.items()
    ]
    return "\n\n".join(groups)


def main(words: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the status to exit with. Words that can't be understood exit with status 2."""
    parser = argparse.ArgumentParser(
        prog="trainhub",
        description="Asynchronous training, from the shell.",
        epilog=f"{listed()}\n\n`trainhub COMMAND --help` tells more.",
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
        sys.stdout.flush()
    except CommandError as error:
        if str(error):
            print(f"trainhub {chosen.command}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone (`| head`). Nothing is left to flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return 0
