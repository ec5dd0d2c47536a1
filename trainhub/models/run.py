"""A run, its attempts, and the members of each attempt."""

from __future__ import annotations

import datetime as dt
import secrets

from django.conf import settings
from django.db import models
from django.urls import reverse

from trainhub import words
from trainhub.models.experiment import Experiment
from trainhub.models.node import Slot
from workers.assignment import Cause, Outcome
from workers.assignment import Role as MemberRole
from workers.spec import RunSpec

# A lease nobody holds. Not PostgreSQL's -infinity, which psycopg 3 cannot turn into a datetime.
UNCLAIMED = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def new_run_key() -> bytes:
    return secrets.token_bytes(32)


class RunState(models.TextChoices):
    """queued → starting → running → completed, failed or cancelled; paused comes back to queued."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def active(cls) -> list[RunState]:
        """States in which members hold slots."""
        return [cls.STARTING, cls.RUNNING]

    @classmethod
    def ended(cls) -> list[RunState]:
        return [cls.COMPLETED, cls.FAILED, cls.CANCELLED]


class Wish(models.TextChoices):
    """What somebody wants of a run. Supervisors carry it out; a deadline turns it into SIGKILL."""

    NONE = "", "none"
    PAUSE = "pause"
    CANCEL = "cancel"
    KILL = "kill"
    FAIL = "fail"


CAUSES = [(c.value, c.value) for c in Cause]


class Run(models.Model):
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="runs")
    number = models.IntegerField()
    name = models.CharField(max_length=120)
    spec = models.JSONField()
    state = models.CharField(max_length=10, choices=RunState.choices, default=RunState.QUEUED)
    priority = models.IntegerField(default=0)
    waiting_reason = models.CharField(max_length=600, blank=True)

    wish = models.CharField(max_length=10, choices=Wish.choices, default=Wish.NONE, blank=True)
    wish_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    wish_deadline = models.DateTimeField(null=True, blank=True)

    cause = models.CharField(max_length=20, choices=CAUSES, blank=True)
    detail = models.TextField(blank=True)
    restarts = models.IntegerField(default=0)

    attempt = models.IntegerField(default=0)
    """Number of the present attempt; 0 before the first."""
    epoch = models.BigIntegerField(default=0)
    """Rises with every promotion; what a server of an older epoch writes has no effect."""
    server = models.ForeignKey("Member", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    server_lease = models.DateTimeField(default=UNCLAIMED)
    endpoint = models.CharField(max_length=200, blank=True)
    """Unix socket of the server, for trainers on its own node. Empty while none listens."""
    address = models.CharField(max_length=60, blank=True)
    """HOST:PORT of the server, for trainers on other nodes. Empty: it opened no port."""
    key = models.BinaryField(default=new_run_key)
    """Secret that the sessions of this run open with."""

    least_slots = models.IntegerField(default=2)
    """Slots it needs to be admitted; it is in the spec too, but a long queue is not parsed at every tick."""
    most_slots = models.IntegerField(default=2)
    placement = models.JSONField(default=dict)
    """What it asks of its nodes, as `topology.Demand` writes it; in the spec too, and here for the same reason."""
    labels = models.JSONField(default=dict)
    """What tells it from the other runs of its experiment: axis → value."""

    version = models.BigIntegerField(default=0)
    gradients = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)
    fraction = models.FloatField(null=True, blank=True)
    """Share of the budget that is spent. None where no end is in sight."""
    metrics = models.JSONField(default=dict)
    """Newest evaluation: loss and the problem's metrics, by name."""
    live_sequence = models.BigIntegerField(default=0)
    """Rises with every stored batch, so that a dashboard sees whether it missed one."""

    created_at = models.DateTimeField(auto_now_add=True)
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    """When the present attempt got its slots."""
    training_at = models.DateTimeField(null=True, blank=True)
    """When the present attempt began to train."""
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["experiment", "number"], name="one_run_a_number")]
        indexes = [
            models.Index(fields=["state", "-priority", "queued_at"], name="run_queue"),
            models.Index(fields=["-created_at"], name="run_newest"),
            models.Index(
                fields=["queued_at"],
                condition=models.Q(state=RunState.QUEUED) & ~models.Q(placement={}),
                name="run_placed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("run", args=[self.pk])

    @property
    def run_spec(self) -> RunSpec:
        return RunSpec.parse(self.spec)

    @property
    def is_simulated(self) -> bool:
        """Whether one slot simulates it under a virtual clock."""
        return words.simulated(self.spec)

    @property
    def has_ended(self) -> bool:
        return self.state in RunState.ended()


class Attempt(models.Model):
    """One gang's try at a run, from its slots to its end."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts")
    number = models.IntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=20, choices=[(o.value, o.value) for o in Outcome], blank=True)
    cause = models.CharField(max_length=20, choices=CAUSES, blank=True)
    detail = models.TextField(blank=True)
    restored_version = models.BigIntegerField(null=True, blank=True)
    """Version of the checkpoint it went on from. None: it began afresh."""
    environment = models.JSONField(default=dict)
    """Packages, git commit, host and hardware it ran on."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_attempt_a_number")]

    def __str__(self) -> str:
        return f"run {self.run_id}, attempt {self.number}"


class Credentials(models.Model):
    """Certificates and keys of the sessions between nodes of one epoch, in PEM; gone when its attempt ends.

    A row of its own, so that whatever reads a run for a page, a list or an answer has no secrets in its hands.
    """

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="credentials")
    epoch = models.BigIntegerField()
    server_certificate = models.BinaryField()
    server_key = models.BinaryField()
    trainer_certificate = models.BinaryField()
    trainer_key = models.BinaryField()

    def __str__(self) -> str:
        return f"credentials of run {self.run_id}, epoch {self.epoch}"


class MemberState(models.TextChoices):
    RESERVED = "reserved"  # has a slot; its node has not answered the doorbell yet
    STARTING = "starting"  # a supervisor took it
    RUNNING = "running"  # its child lives
    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"  # its child or its supervisor died

    @classmethod
    def alive(cls) -> list[MemberState]:
        return [cls.RESERVED, cls.STARTING, cls.RUNNING]


class Member(models.Model):
    """One place in an attempt's gang: a slot, a rank in the promotion, then a role and a child process."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="members")
    slot = models.ForeignKey(Slot, null=True, on_delete=models.SET_NULL, related_name="members")
    reservation = models.BigIntegerField()
    """The slot's fencing token when it was given to this member."""
    devices = models.IntegerField(default=1)
    """Slots that it has, on one node: a machine group has one for each of its devices, of which `slot` is the first."""
    rank = models.IntegerField()
    may_serve = models.BooleanField(default=True)
    """Whether it may be promoted: on a CPU slot of a node that shares the home."""
    role = models.CharField(max_length=10, choices=[(r.value, r.value) for r in MemberRole], blank=True)
    """Empty until the promotion is over."""
    worker = models.IntegerField(null=True)
    """Trainer's number, from 0. None: the server."""
    state = models.CharField(max_length=10, choices=MemberState.choices, default=MemberState.RESERVED)
    beat = models.BigIntegerField(default=0)
    rings = models.IntegerField(default=0)
    ring_at = models.DateTimeField(null=True)
    """When the doorbell rings again unless it was answered."""
    epoch = models.BigIntegerField(default=0)
    transport = models.CharField(max_length=20, blank=True)
    """How a trainer is connected to its server, in the transport's own word. Empty until it has joined."""
    peer = models.CharField(max_length=60, blank=True)
    """Network address from which it joined. Empty where no network is in between."""
    work_dir = models.CharField(max_length=400, blank=True)

    spool_file = models.IntegerField(default=1)
    spool_offset = models.BigIntegerField(default=0)
    spool_sequence = models.BigIntegerField(default=0)
    """The last batch stored; only later ones are news."""
    log_offset = models.BigIntegerField(default=0)

    reserved_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, blank=True)
    cause = models.CharField(max_length=20, choices=CAUSES, blank=True)
    detail = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["state"], name="member_state")]

    def __str__(self) -> str:
        return f"{self.title} of {self.attempt}"

    @property
    def leads(self) -> bool:
        """Whether the attempt ends with it: it is the server, or the whole simulation."""
        return bool(self.role) and MemberRole(self.role).leads

    @property
    def place(self) -> str:
        """Where it is: `node/cpu:1`, of a machine group `node/cpu:1 and 3 more`. Empty: its slot is gone."""
        more = f" and {self.devices - 1} more" if self.devices > 1 else ""
        return f"{self.slot}{more}" if self.slot else ""

    @property
    def title(self) -> str:
        if self.role == MemberRole.TRAINER:
            return f"trainer {self.worker}"
        return self.role or f"member {self.rank}"
