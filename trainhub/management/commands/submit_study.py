"""Queue a study's runs as one experiment."""

import argparse
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from trainhub.actions import runs
from trainhub.actions.access import first_admin
from trainhub.actions.errors import ActionError
from trainhub.models import Project
from workers.spec_errors import SpecError
from workers.studies import Cell, Study, cells


class Command(BaseCommand):
    help = "Queue every run of a study as one experiment. TrainHub must be running."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("study", help="the study (a YAML file)")
        parser.add_argument("--owner", help="whose experiment it is (the first admin's)")
        parser.add_argument("--project", help="where it belongs (default)")

    def handle(self, *args: Any, study: str, owner: str | None, project: str | None, **options: Any) -> None:
        plan, found = read(study)
        admin, default = first_admin()
        try:
            experiment = runs.submit_many(
                project=default if project is None else Project.objects.get(name=project),
                owner=admin if owner is None else User.objects.get(username=owner, is_active=True),
                name=plan.name,
                cells=found,
                notes=plan.about,
            )
        except Project.DoesNotExist:
            raise CommandError(f"There is no project named {project!r}.") from None
        except User.DoesNotExist:
            raise CommandError(f"There is no active user named {owner!r}.") from None
        except ActionError as error:
            raise CommandError(f"{study}: {error.message}") from None
        self.stdout.write(f"Queued {len(found)} runs: {experiment.get_absolute_url()}")
        if any(rate.tuned for rate in plan.rates):
            self.stdout.write("Runs whose rate these are to tune are not among them: their rate is not known yet.")


def read(name: str) -> tuple[Study, list[Cell]]:
    """A study and its runs. Raises CommandError, naming the file, and the field where there is one."""
    try:
        study = Study.parse_yaml(Path(name).read_text())
        return study, cells(study)
    except FileNotFoundError:
        raise CommandError(f"There is no file {name}.") from None
    except (OSError, UnicodeDecodeError, SpecError) as error:
        raise CommandError(f"{name}: {error}") from None
