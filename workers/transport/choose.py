"""Which transport a trainer's session takes: it follows from where its server is."""

from __future__ import annotations

from dataclasses import replace

from workers.process import Child
from workers.transport.base import TrainerSession
from workers.transport.delayed import DelayedSession, Line
from workers.transport.network import NetworkSession
from workers.transport.patience import cores_for
from workers.transport.shared_memory import SharedMemorySession, SlotSize
from workers.transport.tls import SCHEME

NO_DELAY = Line(0.0, 0.0)


def connect(child: Child, manifest: bytes, size: SlotSize) -> TrainerSession:
    """Join the server: through shared memory on its own host, over TLS from elsewhere.

    Raises Failure where the server refuses us, ServerLost where it can't be found.
    """
    assignment, spec = child.assignment, child.spec
    if spec.shards > 1:
        assignment = replace(assignment, gpu="")  # a group's devices share host memory, wherever they compute
    remote = assignment.endpoint.startswith(SCHEME)
    session: TrainerSession
    if remote:
        session = NetworkSession(assignment, child.stop, manifest, size, spec=spec)
    else:
        session = SharedMemorySession(assignment, child.stop, manifest, size, has_core=cores_for(spec.slots))
    line = Line.of(spec.delays, assignment.worker)
    if line is None and remote and spec.waiting.kind == "candidate":
        line = NO_DELAY  # Sending takes a while, and who never waits does not wait for that either.
    return session if line is None else DelayedSession(session, line, child.stop)
