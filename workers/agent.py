"""The node agent: one Celery worker per machine, whose threads supervise the children of runs.

Celery's messages are doorbells. What is to be done is in PostgreSQL, so the agent also listens and polls: a
message that never comes costs two seconds at most, one that comes twice finds the member taken.
"""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import threading
import time
import uuid
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from signal import SIGKILL

import psutil
import psycopg
from django.conf import settings
from django.db import Error, connection

from trainhub import places, reach
from trainhub.actions import members, nodes
from trainhub.actions.announce import NODE_CHANNEL
from trainhub.listening import Listener
from trainhub.models import Member, MemberState, Node
from trainhub.services import SECRET_VARIABLES
from workers import children, gpus
from workers.bridge import Place, Supervisor

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
BEAT_SECONDS = 1.0
PACKAGES = ("torch", "django", "celery", "channels", "numpy", "safetensors", "psycopg")


class NodeAgent:
    """Owner of this machine's children. `supervise` may be called from any thread."""

    def __init__(self) -> None:
        self.shutdown = threading.Event()
        self.machine = describe_machine()
        self.place = Place(
            node=self.machine.name,
            home=settings.HOME,
            runtime_dir=settings.RUNTIME_DIR,
            shm_prefix=settings.SHM_PREFIX,
            threads=max(1, self.machine.cores // sum(self.machine.slots.values())),
            environment=self.machine.environment,
            address=self.machine.address,
        )
        self._supervised: set[int] = set()
        self._lock = threading.Lock()
        self._supervisors: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._keep_node_or_die, name="node", daemon=True)

    def start(self) -> None:
        """Warm the forkserver, then register and look after the node in a thread of its own."""
        for name in SECRET_VARIABLES:  # our settings have them by now; children run users' code
            os.environ.pop(name, None)
        self.place.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        children.warm_up()
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Have every child leave in order. What is left after the deadline is the next agent's."""
        self.shutdown.set()
        deadline = time.monotonic() + seconds
        for thread in [*self._supervisors, self._thread]:
            thread.join(max(0.0, deadline - time.monotonic()))

    def supervise(self, member_id: int) -> None:
        """Keep this member until it ends, in the calling thread. Returns at once if somebody does already."""
        with self._lock:
            if member_id in self._supervised or self.shutdown.is_set():
                return
            self._supervised.add(member_id)
        try:
            member = members.take(member_id, self.place.node) or self._left_by_an_earlier_agent(member_id)
            if member is not None:
                Supervisor(member, self.place, self.shutdown).run()
        except Exception:
            log.exception("supervising member %s failed; it is taken up again", member_id)
        finally:
            connection.close()
            with self._lock:
                self._supervised.discard(member_id)

    def _left_by_an_earlier_agent(self, member_id: int) -> Member | None:
        member = members.get(member_id)
        mine = member.slot is not None and member.slot.node.name == self.place.node
        return member if mine and member.state in (MemberState.STARTING, MemberState.RUNNING) else None

    # ------------------------------------------------------------ the node's thread

    def _keep_node_or_die(self) -> None:
        try:
            self._keep_node()
        except BaseException:
            # An agent that looks after nothing would look alive; the next one adopts the children
            log.exception("the node's thread failed")
            logging.shutdown()
            os._exit(1)

    def _keep_node(self) -> None:
        listener = Listener(NODE_CHANNEL)
        node: Node | None = None
        next_poll = 0.0
        while not self.shutdown.is_set():
            try:
                if node is None:
                    node = nodes.register(self.machine, uuid.uuid4())
                    self._end_the_unwanted()
                elif not nodes.beat(node):
                    log.error("another agent calls itself %s; set TRAINHUB_NODE to another name", node.name)
                    os._exit(3)
                called = self.place.node in listener.wait(BEAT_SECONDS)
                if called or time.monotonic() >= next_poll:
                    next_poll = time.monotonic() + POLL_SECONDS
                    self._take_up_members()
            except (Error, psycopg.Error) as error:
                log.warning("the database does not answer: %s", error)
                listener.close()
                connection.close()
                self.shutdown.wait(BEAT_SECONDS)
        if node is not None:
            self._sign_off(node)
        listener.close()
        connection.close()

    def _sign_off(self, node: Node) -> None:
        try:
            nodes.sign_off(node)
        except Error as error:
            log.warning("could not sign off: %s", error)

    def _take_up_members(self) -> None:
        """Supervise every member of this node that nobody here supervises."""
        with self._lock:
            known = set(self._supervised)
            self._supervisors = [t for t in self._supervisors if t.is_alive()]
        wanted = Member.objects.filter(slot__node__name=self.place.node, ended_at=None).exclude(pk__in=known)
        for member_id in wanted.values_list("pk", flat=True):
            thread = threading.Thread(target=self.supervise, args=(member_id,), name=f"member-{member_id}", daemon=True)
            self._supervisors.append(thread)
            thread.start()

    def _end_the_unwanted(self) -> None:
        """Kill children of earlier agents whose members were given up while no agent was here."""
        for note in (settings.HOME / "runs").glob("*/*/*/child.json"):
            child = children.adopt(note.parent)
            number = int(note.parent.name.removesuffix("-evaluator"))
            # In a home that several nodes share, other nodes' notes name processes of other machines.
            elsewhere = Member.objects.filter(pk=number).exclude(slot__node__name=self.place.node)
            if child.alive and not elsewhere.exists() and not Member.objects.filter(pk=number, ended_at=None).exists():
                log.warning("ending the child in %s: its member was given up", note.parent)
                child.send(SIGKILL)
            child.forget()


def describe_machine() -> nodes.Machine:
    """Raises ConfigurationError for what the machine is said to be and is not."""
    found = gpus.usable(gpus.discover(os.environ, settings.GPUS), metadata.version("torch"))
    return nodes.Machine(
        name=settings.NODE_NAME,
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        slots={"cpu": settings.CPU_SLOTS},
        gpus=gpus.slots(found, settings.TRAINERS_PER_GPU),
        address=reach.address(os.environ),
        labels=reach.labels(os.environ),
        home=places.identity(settings.HOME),
        environment={
            "host": platform.node(),
            "system": platform.platform(),
            "processor": _processor(),
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in PACKAGES},
            "commit": _commit(settings.BASE_DIR),
            "gpus": [asdict(gpu) for gpu in found],
        },
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit(folder: Path) -> str | None:
    """Git commit of the code that runs. None: it is not a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


current: NodeAgent | None = None
"""This process's agent. None: the process is not one."""
