"""What an action refuses, in words for whoever asked."""

from __future__ import annotations


class ActionError(Exception):
    """An action that can't be done; `message` says why and what can be."""

    code = "refused"
    status = 409

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class WrongState(ActionError):
    code = "wrong-state"


class NoCheckpoint(ActionError):
    code = "no-checkpoint"


class NotSimulated(ActionError):
    """A simulation that can't be."""

    code = "not-simulated"


class CannotPause(ActionError):
    code = "cannot-pause"


class WrongExperiment(ActionError):
    """An experiment without runs, with too many, or with a name that can't be."""

    code = "wrong-experiment"
