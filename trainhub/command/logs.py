"""What a run's processes print."""

from __future__ import annotations

import argparse

from trainhub.client import Client, LogLine, Run
from trainhub.command import service, telling
from trainhub.command.errors import INTERRUPTED, USAGE, CommandError, Quiet

HELP = "Print what a run's processes printed, oldest line first."
MOST_LINES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=int, metavar="RUN", help="a run's number")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with new lines until the run ends")
    parser.add_argument("--member", help="of this one only: server, evaluator, or a trainer's number")
    parser.add_argument("--lines", type=int, default=400, help=f"the last so many (400, {MOST_LINES} at most)")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    with service.connected(options) as client:
        member = member_of(client.run(options.run), options.member) if options.member else None
        if options.follow:
            follow(client, options, member)
            return
        found = client.logs(options.run, member=member, limit=min(options.lines, MOST_LINES))
    if options.as_json:
        telling.document([each.as_data() for each in found])
    else:
        for each in found:
            tell(each)


def follow(client: Client, options: argparse.Namespace, member: int | None) -> None:
    try:
        for each in client.follow_logs(options.run, member=member):
            if options.as_json:
                telling.line(each.as_data())
            else:
                tell(each)
    except KeyboardInterrupt:
        telling.say(f"Run {options.run} goes on without you.")
        raise Quiet(INTERRUPTED) from None


def member_of(run: Run, name: str) -> int:
    """The id of the member of that title, or of the trainer of that number. Raises CommandError."""
    for member in run.members:
        if name in {member.title, str(member.worker)}:
            return member.id
    there = ", ".join(member.title for member in run.members) or "none yet"
    raise CommandError(f"--member: run {run.id} has no {name!r}; its members: {there}", status=USAGE)


def tell(each: LogLine) -> None:
    print(f"{telling.clock(each.at)}  {each.member:<12} {telling.harmless(each.text)}", flush=True)
