"""Machines and the places on them where a child may run."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from trainhub import places


class Node(models.Model):
    """A machine with a node agent. `beat` rises while the agent lives; the scheduler watches it rise."""

    name = models.CharField(max_length=80, unique=True)
    agent = models.UUIDField()
    """The agent's incarnation: a restarted agent has a new one."""
    beat = models.BigIntegerField(default=0)
    online = models.BooleanField(default=True)
    drained = models.BooleanField(default=False)
    """A drained node gets no new members."""
    cores = models.IntegerField()
    memory_bytes = models.BigIntegerField()
    environment = models.JSONField(default=dict)
    address = models.CharField(max_length=45, blank=True)
    """IP address at which members on other nodes reach its members. Empty: none, and it opens no port."""
    labels = models.JSONField(default=dict)
    """What its keeper says of it, key → value; runs may ask for it."""
    home = models.CharField(max_length=32, blank=True)
    """Identity of the home whose files its agent sees."""
    registered_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name

    @property
    def shares_home(self) -> bool:
        """Whether it sees the files that this process sees: checkpoints, gradient logs, data sets."""
        return self.home == places.identity(settings.HOME)


class Slot(models.Model):
    """A place for one member, or for one device of one.

    `reservation` rises by one each time it is given away: the fencing token.
    """

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="slots")
    kind = models.CharField(max_length=10, default="cpu")
    index = models.IntegerField()
    device = models.JSONField(default=dict)
    """Facts of the GPU it comes with: index, uuid, name, memory_bytes, driver, capability. Empty: a CPU's slot."""
    reservation = models.BigIntegerField(default=0)
    retired = models.BooleanField(default=False)
    """No longer offered by its node, which was restarted with fewer slots."""
    member = models.ForeignKey("Member", null=True, blank=True, on_delete=models.SET_NULL, related_name="held_slots")
    """Who has it now. None: it is free."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "kind", "index"], name="one_slot_an_index")]

    def __str__(self) -> str:
        return f"{self.node}/{self.kind}:{self.index}"
