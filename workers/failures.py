"""Why a child could not go on, as exceptions. `workers.process` turns them into its last word."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from workers.assignment import Cause
from workers.spec_errors import SpecError

LAST_LINES = 12


class Failure(Exception):
    """A child can't go on; `cause` is what a restart policy decides by."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


class ServerLost(Exception):
    """The server's socket hung up, or the server was silent past its deadline."""


@contextmanager
def user_code(what: str, cause: Cause = Cause.USER_CODE) -> Iterator[None]:
    """Mark what is called inside as not ours: an error there is the problem's, with its traceback."""
    try:
        yield
    except (Failure, ServerLost, SpecError, MemoryError):
        raise
    except Exception as error:
        raise from_user(what, error, cause) from error


def from_user(what: str, error: Exception, cause: Cause = Cause.USER_CODE) -> Failure:
    """Name what was called, and end with the lines a person needs to find the fault."""
    if is_out_of_memory(error):
        cause = Cause.OUT_OF_MEMORY
    return Failure(cause, f"{what} failed\n{last_lines(error)}")


def is_out_of_memory(error: BaseException) -> bool:
    """torch's CPU allocator says it with a RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))
    )


def last_lines(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return "\n".join(lines[-LAST_LINES:])
