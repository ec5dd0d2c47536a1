"""The scheduler's loop: admits, replaces, rings, and puts right what died. One at a time, by advisory lock."""

from __future__ import annotations

import logging
import threading
import time

import psycopg
from django.db import Error, connection
from django.utils import timezone

from trainhub import scheduling, topology
from trainhub.actions import nodes, placement, reconcile
from trainhub.actions.announce import SCHEDULER_CHANNEL
from trainhub.doorbell import Doorbell
from trainhub.listening import Listener
from trainhub.models import Member, MemberState, Node
from trainhub.watching import BeatWatch

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LOCK_KEY = 0x7472_6169_6E68
NODE_SILENCE_SECONDS = 6.0
MEMBER_SILENCE_SECONDS = 8.0
"""A supervisor that has not beaten for so long is lost, and its member with it."""
FAR_SILENCE_SECONDS = 20.0
"""The same for a trainer that shares no machine with its server: a line that is cut for a while loses nobody. The
server trains on without it, and takes it back when it comes."""


class Scheduler:
    """One thread. A second scheduler waits for the first one's lock and takes over when it is gone."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.doorbell = Doorbell()
        self.listener = Listener(SCHEDULER_CHANNEL)
        self.node_beats = BeatWatch()
        self.member_beats = BeatWatch()
        self.has_lock = False
        self.stands_by = False

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                if not self.has_lock and not self._lock():
                    self.stop.wait(TICK_SECONDS)
                    continue
                self.tick()
                self.listener.wait(TICK_SECONDS)
            except (Error, psycopg.Error) as error:
                if isinstance(error.__cause__, psycopg.errors.DeadlockDetected):
                    log.warning("another transaction was in the way, and goes first: %s", error)
                    continue  # it was rolled back, and the next tick does it again
                log.warning("the database does not answer: %s", error)
                self._let_go()
                self.stop.wait(TICK_SECONDS)
        self._let_go()

    def tick(self) -> None:
        """Everything that may be due now. Each step is its own transaction; any may be cut off."""
        now = time.monotonic()
        self._find_silent_nodes(now)
        self._find_silent_members(now)
        reconcile.stuck_runs()
        self._admit()
        self._replace_lost_trainers()
        for member_id, node in placement.due_doorbells():
            self.doorbell.ring(member_id, node)

    def _ring(self, member: Member) -> None:
        if member.slot:
            self.doorbell.ring(member.pk, member.slot.node.name)

    def _find_silent_nodes(self, now: float) -> None:
        self.node_beats.look(dict(Node.objects.filter(online=True).values_list("pk", "beat")), now)
        for node_id in self.node_beats.silent(NODE_SILENCE_SECONDS):
            log.warning("node %s is silent", node_id)
            nodes.missing(node_id)

    def _find_silent_members(self, now: float) -> None:
        taken_up = Member.objects.filter(state__in=[MemberState.STARTING, MemberState.RUNNING])
        self.member_beats.look(dict(taken_up.values_list("pk", "beat")), now)
        silent = set(self.member_beats.silent(MEMBER_SILENCE_SECONDS))
        patient = placement.far_from_their_servers(silent) - set(self.member_beats.silent(FAR_SILENCE_SECONDS))
        for member_id in silent - patient:
            log.warning("the supervisor of member %s is silent", member_id)
            reconcile.member_lost(member_id)

    def _admit(self) -> None:
        idle, hosts = placement.idle_slots(), placement.hosts()
        queue = placement.queue(idle, hosts)
        if not queue.waiting:
            return
        plan = scheduling.plan(queue.waiting, idle, hosts, now=timezone.now())
        for run_id, slots in plan.admitted.items():
            gang = placement.admit(run_id, slots)
            for member in gang:
                self._ring(member)
            if gang:
                log.info("run %s got %s slots", run_id, len(gang))
        placement.explain({run: why for run, why in plan.reasons.items() if run in queue.told})
        placement.explain_the_rest(but=queue.told)

    def _replace_lost_trainers(self) -> None:
        lacking = placement.missing_trainers()
        if not lacking:
            return
        idle, hosts = placement.idle_slots(), placement.hosts()
        for lack in lacking:
            for worker in lack.workers:
                free = topology.heir(idle, hosts, lack.demand, lack.gang)
                if free and (member := placement.replace(lack.run, worker, free)):
                    self._ring(member)
                    idle = [slot for slot in idle if slot not in free]

    def _lock(self) -> bool:
        """Session-level: PostgreSQL lets go of it when this process or its connection dies."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY])
            row = cursor.fetchone()
        self.has_lock = bool(row and row[0])
        if self.stands_by == self.has_lock:
            self.stands_by = not self.has_lock
            log.info(
                "another scheduler is at work; this one stands by" if self.stands_by else "now it is this one's turn"
            )
        return self.has_lock

    def _let_go(self) -> None:
        self.has_lock = False
        self.listener.close()
        connection.close()
