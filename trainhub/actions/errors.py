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


class FieldError(ActionError):
    """Something wrong with one named field of what was given."""

    status = 422

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class NoCheckpoint(FieldError):
    code = "no-checkpoint"


class NotSimulated(FieldError):
    """A simulation that can't be."""

    code = "not-simulated"


class NotPlanned(ActionError):
    """There is no plan of its layout: the model failed, or it took too long."""

    code = "not-planned"


class CannotPause(ActionError):
    code = "cannot-pause"


class WrongExperiment(ActionError):
    """An experiment without runs, with too many, or with a name that can't be."""

    code = "wrong-experiment"


class NoDataset(FieldError):
    """A spec names data that its project does not have, or that its problem can't take."""

    code = "no-dataset"


class NotAllowedToRunCode(FieldError):
    code = "may-not-run-code"
    status = 403


class KeyReused(ActionError):
    """An idempotency key that stands for another submission."""

    code = "key-reused"


class WrongKey(FieldError):
    code = "wrong-key"


class WrongToken(FieldError):
    code = "wrong-token"


class WrongDataset(FieldError):
    """A data set that can't be: its name, its format, or what is in the file."""

    code = "wrong-dataset"


class InUse(ActionError):
    code = "in-use"
