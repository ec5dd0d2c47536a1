"""Pause, resume, cancel, kill and requeue: one subcommand each, and all the same but for their word."""

from __future__ import annotations

import argparse

from trainhub.client import ApiError, Client
from trainhub.command import ACTIONS, service, telling
from trainhub.command.errors import CommandError

DONE = {
    "pause": "asked to pause",
    "resume": "queued again",
    "cancel": "asked to cancel",
    "kill": "asked to kill",
    "requeue": "queued again",
}


class Acting:
    def __init__(self, action: str) -> None:
        self.action = action
        text = ACTIONS[action]
        self.HELP = f"{text[:1].upper()}{text[1:]}."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("runs", type=int, nargs="+", metavar="RUN", help="a run's number")
        service.add_options(parser)

    def run(self, options: argparse.Namespace) -> None:
        """All of them, also where one refuses. Raises CommandError with the first refusal's status."""
        with service.connected(options) as client:
            answers = [self.ask(client, run_id) for run_id in options.runs]
        refused = [answer for answer in answers if isinstance(answer, CommandError)]
        if options.as_json:
            telling.document([answer for answer in answers if isinstance(answer, dict)])
        if refused:
            raise CommandError("\n".join(map(str, refused)), status=refused[0].status)

    def ask(self, client: Client, run_id: int) -> dict[str, object] | CommandError:
        try:
            run = client.act(run_id, self.action)
        except ApiError as error:
            return CommandError(f"run {run_id}: {error}", status=service.status_of(error))
        telling.say(f"Run {run_id} {run.name}: {DONE[self.action]}; it is {run.state}.")
        return run.as_data()
