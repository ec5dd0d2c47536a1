"""Who knocks at a server's door between hosts and should not come in: peers made of parts, each wrong in one."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import replace

from tests.engine.harness import KEY, Gang
from workers.assignment import Credentials
from workers.layout import Layout
from workers.problems import registry
from workers.server.setup import build_model
from workers.spec import RunSpec
from workers.transport import frames, tls
from workers.transport.frames import Frame, JoinBody, Kind
from workers.transport.link import Link, Speaker
from workers.transport.tls import LinkLost, Unwelcome


def manifest_of(spec: RunSpec) -> bytes:
    problem = registry.load(spec.problem, None)
    model = build_model(problem, spec.seed)
    return Layout.of(model, spec.optimizer).manifest([m.name for m in problem.metrics])


def connect(gang: Gang, credentials: Credentials) -> ssl.SSLSocket:
    """Shake hands with the gang's server as somebody who has these. Raises what `tls.connect` does."""
    pinned = ssl.PEM_cert_to_DER_cert(credentials.peer_certificate.decode())
    return tls.connect(gang.address, tls.contexts_of(credentials, server=False), pinned)


class Peer:
    """One that has the run's certificate, and says what the test wants."""

    def __init__(self, gang: Gang, *, worker: int = 1, member: int = 10_000, run: int = 1, epoch: int = 1) -> None:
        assert gang.credentials is not None
        self.connection = connect(gang, gang.credentials.trainers)
        self.link = Link(self.connection, Speaker(run, epoch, member, worker))

    def join(self, manifest: bytes, *, key: bytes = KEY, by: str = "inline", flags: int = frames.BY) -> None:
        self.link.gather(Kind.JOIN, flags=flags, body=JoinBody(manifest, by, key).pack())
        self.link.flush()

    def last_word(self) -> str:
        """Why the server has hung up; empty where it has not said."""
        self.link._own = replace(self.link._own, run=1, epoch=1)  # whatever we have said, it speaks for its own
        with suppress(LinkLost, Unwelcome):
            while True:
                frame = self.hear()
                if frame.kind == Kind.REFUSED:
                    return frame.body.decode()
        return ""

    def hear(self) -> Frame:
        return self.link.receive()

    def close(self) -> None:
        self.link.close()
