"""What a subcommand raises, and files it reads."""

from __future__ import annotations

from pathlib import Path


class CommandError(Exception):
    """Something that the person at the shell can put right, in words."""


def read_text(path: Path) -> str:
    """Raises CommandError, naming the file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        raise CommandError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from None
