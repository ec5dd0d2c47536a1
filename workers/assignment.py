"""What a supervisor hands a child at the fork, and what the child leaves behind when it ends."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

SERVER_WORKER = -1
"""Worker number of points that belong to the server, or to the run as a whole."""


class Role(StrEnum):
    SERVER = "server"
    TRAINER = "trainer"
    EVALUATOR = "evaluator"
    SIMULATION = "simulation"  # server and trainers in one, on a virtual clock

    @property
    def leads(self) -> bool:
        """Whether this child's end is the end of the attempt."""
        return self in (Role.SERVER, Role.SIMULATION)


class Outcome(StrEnum):
    COMPLETED = "completed"  # the budget is spent, or the target is reached
    STOPPED = "stopped"  # asked to stop, and did so in order
    FAILED = "failed"  # could not go on; `cause` says why
    SERVER_LOST = "server-lost"  # the server's socket hung up


class Cause(StrEnum):
    """Why a run failed. Shown to people, and what a restart policy decides by."""

    CRASHED = "crashed"  # ended without a word: a signal, an interpreter's death
    OUT_OF_MEMORY = "oom"
    NON_FINITE = "non-finite"
    USER_CODE = "user-code"
    DATA = "data"
    SPEC = "spec"
    SHARED_MEMORY = "shared-memory"
    NODE_LOST = "node-lost"
    FENCED = "fenced"
    DEADLINE = "deadline"
    ENGINE = "engine"


@dataclass(frozen=True)
class Credentials:
    """How one side of a run's sessions between hosts shows who it is, and whom it trusts; all in PEM.

    There are two sides to an epoch, its server and its trainers; each trusts exactly the other's certificate.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    peer_certificate: bytes


@dataclass(frozen=True)
class Assignment:
    """One child's whole world: no database, no broker, only its run's key.

    `worker` numbers trainers from 0 and is `SERVER_WORKER` for server and evaluator. `run_key` is the
    secret every session of this epoch opens with. `restore` is a checkpoint the server starts from.
    `shm_prefix` starts the name of every shared-memory file of this run. `data` is the folder of the data set that the
    problem names; empty where it names none, or there is none of that name. `device` is what it computes on: "cpu" or
    "cuda:0", which then is the GPU whose UUID is `gpu`: the child is shown no other. Of a machine group, `gpus` are
    those of all devices, in the order of ranks, from `gpu` on; two devices may have the same.

    A server always listens at the Unix socket `endpoint`. With `listen`, a network address of this host, it listens
    there too, and lets in who shows the certificate that `tls` names; empty, it opens no port. A trainer's `endpoint`
    is its server's socket where they share a host, and `tls://HOST:PORT` where they don't.

    `kernels` is the folder of compiled kernels, which a server looks into and adds to; empty: it runs tensor code.
    """

    run: int
    attempt: int
    epoch: int
    member: int
    role: Role
    worker: int
    work_dir: str
    checkpoint_dir: str
    endpoint: str
    spec: str
    shm_prefix: str
    run_key: bytes = field(repr=False)
    restore: str | None = None
    threads: int = 1
    data: str = ""
    listen: str = ""
    tls: Credentials | None = None
    device: str = "cpu"
    gpu: str = ""
    gpus: tuple[str, ...] = ()
    kernels: str = ""


@dataclass(frozen=True)
class Exit:
    """Last word of a child, written before it ends. Where it is missing, the child crashed."""

    outcome: Outcome
    cause: Cause | None = None
    detail: str = ""
    version: int | None = None

    def write(self, work_dir: Path) -> None:
        """Write `exit.json` so that a reader sees all of it or nothing."""
        partial = work_dir / "exit.json.part"
        partial.write_text(json.dumps(asdict(self)))
        os.replace(partial, work_dir / "exit.json")

    @classmethod
    def read(cls, work_dir: Path) -> Exit | None:
        """Read the last word of a child. None: it left none."""
        try:
            raw = json.loads((work_dir / "exit.json").read_text())
        except FileNotFoundError:
            return None
        cause = Cause(raw["cause"]) if raw["cause"] else None
        return cls(Outcome(raw["outcome"]), cause, raw["detail"], raw["version"])
