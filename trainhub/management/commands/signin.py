"""Print a fresh one-time sign-in link for somebody."""

import argparse
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from trainhub.actions import access
from trainhub.management.stack import layout, link


class Command(BaseCommand):
    help = "Print a one-time link that signs a user in. TrainHub must be running."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("user", nargs="?", default="admin", help="the user's name (admin)")
        parser.add_argument("--first-admin", action="store_true", help="make the first admin and project if missing")
        parser.add_argument("--address", help="where TrainHub is served (the address of the stack that runs here)")

    def handle(self, *args: Any, user: str, address: str | None, first_admin: bool, **options: Any) -> None:
        if first_admin:
            access.first_admin(user)
        try:
            person = User.objects.get(username=user, is_active=True)
        except User.DoesNotExist:
            raise CommandError(f"There is no active user named {user!r}.") from None
        self.stdout.write(link((address or self._running_here()).rstrip("/"), person))

    def _running_here(self) -> str:
        try:
            return layout().address.read_text()
        except FileNotFoundError:
            raise CommandError("TrainHub does not run here; say where it is served: --address http://…") from None
