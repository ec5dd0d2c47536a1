"""Start all of TrainHub on this machine, keep it up, and stop it on Ctrl-C."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from trainhub.actions.access import first_admin
from trainhub.embedded import EmbeddedError
from trainhub.management.stack import (
    add_options,
    link,
    make_stack,
    nobody_signed_in_yet,
)
from trainhub.stack import StackError


class Command(BaseCommand):
    help = "Start PostgreSQL, Redis, web, scheduler and node agent on this machine, until Ctrl-C."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_options(parser)

    def handle(self, *args: Any, host: str, port: int, slots: int | None, **options: Any) -> None:
        try:
            stack = make_stack(host=host, port=port, slots=slots, say=self.say)
            with stack.running():
                where = stack.address
                admin, _ = first_admin()
                self.say(f"TrainHub is at {where}")
                if nobody_signed_in_yet():
                    self.say(f"Sign in as {admin.username}, once, by {link(where, admin)}")
                self.say("Ctrl-C stops it.")
                stack.watch()
                self.say("Stopping; runs write their checkpoints first.")
        except (StackError, EmbeddedError) as error:
            raise CommandError(str(error)) from None
        self.say("Stopped.")

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
