"""Specs named on the command line."""

from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from workers.spec import RunSpec
from workers.spec_errors import SpecError


def read_spec(name: str) -> RunSpec:
    """Raises CommandError, naming the file, and the field where there is one."""
    file = Path(name)
    if not file.is_absolute() and not file.exists():
        file = settings.BASE_DIR / name
    try:
        return RunSpec.parse_yaml(file.read_text())
    except FileNotFoundError:
        raise CommandError(f"There is no file {name}.") from None
    except (OSError, UnicodeDecodeError, SpecError) as error:
        raise CommandError(f"{name}: {error}") from None
