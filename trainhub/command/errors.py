"""What a subcommand raises, and files it reads."""

from __future__ import annotations

import sys
from pathlib import Path

FAILED = 1
USAGE = 2
CANCELLED = 3
NOT_REACHED = 4
"""The service does not answer, or does not let us."""
NOT_ENDED = 5
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell tells of SIGINT and SIGPIPE."""

STDIN = Path("-")


class CommandError(Exception):
    """Something that the person at the shell can put right, in words. `status` is what the program exits with."""

    def __init__(self, message: str, *, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Quiet(CommandError):
    """Ends the program with a status when all is said already."""

    def __init__(self, status: int) -> None:
        super().__init__("", status=status)


def read_text(path: Path) -> str:
    """Raises CommandError, naming the file."""
    try:
        return path.read_text()
    except FileNotFoundError:
        raise CommandError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from None


def read_given(path: Path) -> str:
    """A file, or what comes on standard input for `-`. Raises CommandError with the status of wrong usage."""
    try:
        return sys.stdin.read() if path == STDIN else read_text(path)
    except CommandError as error:
        raise CommandError(str(error), status=USAGE) from None
    except UnicodeDecodeError as error:
        raise CommandError(f"standard input: {error}", status=USAGE) from None
