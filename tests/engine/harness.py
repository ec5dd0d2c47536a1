"""Whole runs out of real children, without a service around them: what a supervisor does, in small."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from workers import events, process
from workers.assignment import SERVER_WORKER, Assignment, Exit, Role
from workers.spec import RunSpec
from workers.transport import credentials, tls

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["workers.preload", "pytest"])
Transport = Literal["shared memory", "tls"]
TRANSPORTS: tuple[Transport, ...] = ("shared memory", "tls")
END_SECONDS = 60.0
POLL_SECONDS = 0.01
KEY = b"the key of this run, 32 bytes --"


def spec_of(**changes: Any) -> RunSpec:
    """A small run, changed as asked."""
    base: dict[str, Any] = {
        "name": "test",
        "problem": {"kind": "ledger"},
        "optimizer": {"kind": "sgd", "learning_rate": 1.0},
        "workers": 1,
        "batch_size": 8,
        "budget": {"updates": 20},
        "checkpoints": {"every_seconds": None},
    }
    return RunSpec.parse(base | changes)


class Member:
    """One child, as a process and as what it left on disk."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.work_dir = Path(assignment.work_dir)
        self.process = ForkServerProcess(target=process.main, args=(assignment,), daemon=False)
        self.process.start()

    def kill(self) -> None:
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself just now
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(END_SECONDS)

    def ask_to_stop(self) -> None:
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it may just have ended by itself
            os.kill(self.process.pid, signal.SIGTERM)

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def end(self, timeout_seconds: float = END_SECONDS) -> Exit | None:
        """Wait for its end; returns its last word."""
        self.process.join(timeout_seconds)
        assert not self.alive, f"{self.assignment.role} {self.assignment.worker} did not end\n{self.log}"
        return Exit.read(self.work_dir)

    @property
    def log(self) -> str:
        path = self.work_dir / "output.log"
        return path.read_text() if path.exists() else ""

    def batches(self) -> list[events.Batch]:
        """Everything it has reported so far."""
        found = []
        for path in sorted(self.work_dir.glob("spool-*")):
            data, offset = path.read_bytes(), 0
            while (step := events.decode(data, offset)) is not None:
                found.append(step[0])
                offset = step[1]
        return found

    def events(self, kind: str) -> list[events.Event]:
        return [e for b in self.batches() for e in b.events if e.kind == kind]

    def series(self, key: str) -> dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """One series by worker: x and y, in the order they were reported."""
        xs: dict[int, list[bytes]] = defaultdict(list)
        ys: dict[int, list[bytes]] = defaultdict(list)
        for batch in self.batches():
            for points in batch.points:
                if points.key == key:
                    xs[points.worker].append(points.x)
                    ys[points.worker].append(points.y)
        return {w: (np.frombuffer(b"".join(xs[w]), np.int64), np.frombuffer(b"".join(ys[w]), np.float64)) for w in xs}


class Gang:
    """The children of one run: server, trainers and evaluator."""

    def __init__(
        self,
        spec: RunSpec,
        folder: Path,
        *,
        run: int = 1,
        attempt: int = 1,
        restore: str | None = None,
        evaluator: bool = True,
        trainers: int | None = None,
        data: str = "",
        kernels: str = "",
        transport: Transport = "shared memory",
        through: Callable[[tuple[str, int]], tuple[str, int]] | None = None,
    ) -> None:
        """`transport` is how trainers reach the server. `through` leads them there another way than by its address."""
        self.spec, self.folder, self.run, self.attempt, self.restore = spec, folder, run, attempt, restore
        self.data, self.kernels = data, kernels
        # Socket paths end at 107 bytes, and pytest's folders are longer than that.
        self.runtime = Path(tempfile.mkdtemp(prefix="th-"))
        self._members = 0
        self._through = through
        self.credentials = None if transport == "shared memory" else credentials.make(run=run, epoch=attempt)
        self.all: list[Member] = []
        self.server = self.start(Role.SERVER)
        self.trainers_endpoint = self._find_server() if self.credentials else str(self.runtime / "server")
        self.trainers = [self.start(Role.TRAINER, w) for w in range(spec.workers.max if trainers is None else trainers)]
        self.evaluator = self.start(Role.EVALUATOR) if evaluator else None

    def assignment(self, role: Role, worker: int = SERVER_WORKER, **changes: Any) -> Assignment:
        self._members += 1
        values: dict[str, Any] = {
            "run": self.run,
            "attempt": self.attempt,
            "epoch": self.attempt,
            "member": self._members,
            "role": role,
            "worker": worker,
            "work_dir": str(self.folder / f"{self.run}-{self.attempt}-{self._members}"),
            "checkpoint_dir": str(self.folder / "checkpoints"),
            "endpoint": self.trainers_endpoint if role is Role.TRAINER else str(self.runtime / "server"),
            "spec": self.spec.canonical(),
            "shm_prefix": self.shm_prefix,
            "run_key": KEY,
            "restore": self.restore,
            "data": self.data,
            "kernels": self.kernels,
        }
        if self.credentials and role is Role.SERVER:
            values |= {"listen": "127.0.0.1", "tls": self.credentials.server}
        elif self.credentials and role is Role.TRAINER:
            values |= {"tls": self.credentials.trainers}
        return Assignment(**values | changes)

    def _find_server(self) -> str:
        """Where trainers of other hosts reach the server, once it listens."""
        self.wait_for(lambda: bool(self.server.events("listening")))
        self.address = tls.parse(self.server.events("listening")[0].data["address"])
        host, port = self._through(self.address) if self._through else self.address
        return f"{tls.SCHEME}{host}:{port}"

    @property
    def shm_prefix(self) -> str:
        return f"trainhub-{self.runtime.name}-{self.run}-{self.attempt}"

    def start(self, role: Role, worker: int = SERVER_WORKER, **changes: Any) -> Member:
        member = Member(self.assignment(role, worker, **changes))
        self.all.append(member)
        return member

    def wait_for(self, condition: Callable[[], bool], timeout_seconds: float = END_SECONDS) -> None:
        """Look until something can be seen in what the children left, or they are gone."""
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time\n" + self.server.log
            assert self.server.alive, f"the server ended first: {Exit.read(self.server.work_dir)}\n{self.server.log}"
            time.sleep(POLL_SECONDS)

    @property
    def version(self) -> int:
        """The newest version the server has reported."""
        return max((b.progress.version for b in self.server.batches() if b.progress), default=0)

    def end(self) -> Exit:
        """Wait for the end of all; returns the server's last word."""
        word = self.server.end()
        if self.evaluator is not None and self.evaluator.alive:
            self.evaluator.ask_to_stop()  # as its keeper does; it may still look for the server that has gone
        for member in self.all:
            member.end()
        assert word is not None, f"the server crashed\n{self.server.log}"
        return word

    def leftovers(self) -> list[str]:
        """Shared memory and sockets that should be gone after the end."""
        return [str(p) for p in [*Path("/dev/shm").glob(self.shm_prefix + "*"), *self.runtime.iterdir()]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.all:
            if member.alive:
                member.kill()
        shutil.rmtree(self.runtime, ignore_errors=True)
