"""What can go wrong between here and a service, in words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainhub.client.shapes import FieldProblem


class ClientError(Exception):
    """Of all that the client raises."""


class ApiError(ClientError):
    """The service refused. Its text has one line for each field that is named."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        lines = [f"{each.field}: {each.message}" if each.field else each.message for each in errors]
        super().__init__("\n".join(lines) or detail)
        self.status = status
        """Of HTTP."""
        self.code = code
        """Which refusal: `bad-spec`, `wrong-state`, …"""
        self.detail = detail
        self.errors = list(errors)


class TokenRefused(ApiError):
    """The token is unknown, expired or revoked."""


class NotReachable(ClientError):
    """Nobody answered, or not as TrainHub does, for as long as patience lasted."""


class BadAddress(ClientError):
    """What was given as the service's address can't be one."""


class NotLoggedIn(ClientError):
    """There is no address or no token to go by."""


class Misunderstood(ClientError):
    """Whoever answers says something that this client does not know what to do with."""


class Damaged(ClientError):
    """A file did not arrive as it was sent."""


class TookTooLong(ClientError):
    """What was waited for did not happen in the time given for it. It may happen yet."""
