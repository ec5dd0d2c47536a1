"""Rows. PostgreSQL holds the truth; only `trainhub.actions` writes it."""

from trainhub.models.access import Membership, Project, Role, SignInLink, Token
from trainhub.models.artifact import Artifact, ArtifactKind
from trainhub.models.audit import AuditEntry
from trainhub.models.dataset import Dataset, DatasetKind
from trainhub.models.event import Event, Level, LogLine
from trainhub.models.experiment import Experiment
from trainhub.models.node import Node, Slot
from trainhub.models.receipt import Receipt
from trainhub.models.run import UNCLAIMED, Attempt, Credentials, Member, MemberState, Run, RunState, Wish
from trainhub.models.series import SeriesChunk

__all__ = [
    "UNCLAIMED",
    "Artifact",
    "ArtifactKind",
    "Attempt",
    "AuditEntry",
    "Credentials",
    "Dataset",
    "DatasetKind",
    "Event",
    "Experiment",
    "Level",
    "LogLine",
    "Member",
    "MemberState",
    "Membership",
    "Node",
    "Project",
    "Receipt",
    "Role",
    "Run",
    "RunState",
    "SeriesChunk",
    "SignInLink",
    "Slot",
    "Token",
    "Wish",
]
