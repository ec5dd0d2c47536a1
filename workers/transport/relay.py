"""One trainer of another host, as the server's loop sees it: a child like any other, with a socket and a slot.

A relay receives a gradient straight into the slot, and hands the push on when its last byte is there; it sends the
answer out of the slot, which the loop leaves alone until the next push. So applying, gates, versions and who is
refused are the same whichever way a trainer has come.

A relay has a thread, which owns its link, its socket and its slot.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workers.assignment import SERVER_WORKER, Assignment, Cause
from workers.failures import Failure, ServerLost
from workers.spec import RunSpec
from workers.transport import frames
from workers.transport.agreed import way_of
from workers.transport.base import RunEnded
from workers.transport.fabric import SERVER
from workers.transport.frames import Frame, FrameError, JoinBody, Kind
from workers.transport.link import BEAT_SECONDS, Link, Speaker
from workers.transport.pieces import Received
from workers.transport.shared_memory import ClientSession, RefusedByServer, Slot, SlotSize
from workers.transport.tls import HANDSHAKE_SECONDS, LinkLost, Unwelcome
from workers.transport.ways import Block, BlockName, TensorWay

if TYPE_CHECKING:
    from workers.transport.gateway import Gateway

FAREWELL_SECONDS = 2.0
"""How long a trainer that is under way with a push may take to find out that the run has ended."""


@dataclass(frozen=True)
class Terms:
    """What a trainer has to show, and the sizes that both sides mean."""

    assignment: Assignment
    size: SlotSize
    spec: RunSpec


class Refused(Exception):
    """What the trainer sent does not belong here; its session ends with these words."""


class Relay:
    def __init__(self, gateway: Gateway, connection: socket.socket, peer: str) -> None:
        self._gateway, self._connection = gateway, connection
        self._terms = gateway.terms
        self.peer = peer
        self.member, self.worker = 0, SERVER_WORKER
        self.joined = False
        self.ended = threading.Event()
        self._opened_at = time.monotonic()
        self._link: Link | None = None
        self._loop: ClientSession | None = None
        self._version = self._step = 0
        """Of the last answer: what the next push has to be made of."""
        self._pieces = Received(self._terms.size.gradient)
        self._owed = True
        """Whether the trainer waits for an answer. Until it has one, the slot is the server's."""

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"relay {self.peer}", daemon=True).start()

    @property
    def who(self) -> str:
        return f"trainer {self.worker}" if self.joined else "a connection"

    @property
    def hung_up(self) -> bool:
        """Whether the trainer's side has closed the connection, or the kernel given it up. From any thread."""
        assert self._link is not None
        try:
            poll = select.poll()
            poll.register(self._link, select.POLLRDHUP)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True  # closed on our side already

    def break_off(self) -> None:
        """End it from another thread."""
        link, loop = self._link, self._loop
        if link is not None:
            link.break_off()
        if loop is not None:
            with contextlib.suppress(OSError):
                loop.socket.shutdown(socket.SHUT_RDWR)

    # ------------------------------------------------------------ its thread

    def _run(self) -> None:
        try:
            self._serve()
        except (Unwelcome, Refused, FrameError) as reason:
            self._refuse(str(reason))
        except LinkLost:
            pass  # A scan, or a trainer that will come again: the loop tells of those it knew.
        except Exception as error:  # noqa: BLE001 - a thread ends here; the run goes on without this trainer
            self._refuse(f"its relay failed: {error!r}")
        finally:
            if self._loop is not None:
                self._loop.close()
            if self._link is not None:
                self._link.close()
            self._connection.close()
            self._gateway.gone(self)
            self.ended.set()

    def _serve(self) -> None:
        terms = self._terms
        a = terms.assignment
        connection = self._gateway.shake_hands(self._connection)
        link = self._link = Link(connection, Speaker(a.run, a.epoch, a.member, SERVER_WORKER))
        join = link.receive(max(0.0, self._opened_at + HANDSHAKE_SECONDS - time.monotonic()))
        way = way_of(terms.spec, link, SERVER)
        self._check_join(join, way)
        try:
            loop, slot = self._join_loop(join, way)
            link.gather(Kind.WELCOME, body=frames.EXAMPLES.pack(loop.examples))
            link.flush()
            way.meet()
            way.send([Block(BlockName.CONSTANTS, slot.constants)])
            link.beat()
            self._relay(link, loop, slot, way)
        except RunEnded as end:
            link.gather(Kind.STOP, flags=frames.COMPLETED if end.completed else 0)
            link.flush()
            self._drain(link)
        except RefusedByServer as refusal:
            self._say_no(refusal.reason)  # the loop has told of it
        except ServerLost:
            pass  # the loop has ended without a word; the trainer finds the line closed
        finally:
            way.close()

    def _check_join(self, join: Frame, way: TensorWay) -> None:
        """What the loop can't see: that this is a trainer's join, by the way that is agreed on. The rest it checks."""
        if join.kind != Kind.JOIN or join.flags != frames.BY:
            raise Refused("the first frame of a session is a trainer's join")
        if JoinBody.of(join).by != way.name:
            raise Refused("its tensors would travel in another way: do both have the same code and spec?")
        self.member, self.worker = join.member, join.worker

    def _join_loop(self, join: Frame, way: TensorWay) -> tuple[ClientSession, Slot]:
        """Take a place in the loop, for who knows the run's key: it sees the trainer's own words."""
        if not self._gateway.take_over(self):
            raise Refused(f"there is a later trainer {self.worker} already")
        assert self._link is not None
        self._link.expect(Speaker(join.run, join.epoch, join.member, join.worker))
        shown = JoinBody.of(join)
        assignment = replace(self._terms.assignment, member=join.member, worker=join.worker, run_key=shown.key)
        loop = self._loop = ClientSession(assignment, self._gateway.stop)
        slot = loop.join(shown.manifest, self._terms.size, by=f"{way.transport} {self.peer}")
        self.joined = True
        return loop, slot

    def _relay(self, link: Link, loop: ClientSession, slot: Slot, way: TensorWay) -> None:
        """Hand words on in both directions until one side is gone."""
        poll = select.poll()
        poll.register(loop.socket, select.POLLIN)
        poll.register(link, select.POLLIN)
        while True:
            known = link.pending or loop.pending
            ready = [fd for fd, _ in poll.poll(0 if known else 1000 * BEAT_SECONDS)]
            if (link.pending or link.fileno() in ready) and not self._hear_trainer(link, loop, slot, way):
                return
            if loop.pending or loop.socket.fileno() in ready:
                self._answer(link, loop.expect(Kind.WEIGHTS), slot, way)
            elif self._owed and not ready:
                link.beat()

    def _hear_trainer(self, link: Link, loop: ClientSession, slot: Slot, way: TensorWay) -> bool:
        """Take in a push, or a farewell. False: it has left."""
        frame = link.receive()
        if frame.kind == Kind.LEAVE:
            loop.send(Kind.LEAVE)
            return False
        if frame.kind == Kind.PIECE and not self._owed and way.piecewise:
            part = self._pieces.take(frame.body)
            way.receive([Block(BlockName.GRADIENT, slot.gradient[part.start : part.stop])])
            return True
        if frame.kind != Kind.PUSH or self._owed:
            raise Refused(f"a {Kind(frame.kind).name} out of place")
        if (frame.base_version, frame.step) != (self._version, self._step):
            raise Refused(
                f"it pushed step {frame.step}, made of version {frame.base_version}; "
                f"step {self._step} of version {self._version} was due"
            )
        came = self._pieces.all()
        if frame.flags & frames.EARLY and not came:
            raise Refused("a push whose gradient has not come")
        gradient = [] if frame.flags & frames.EARLY else [Block(BlockName.GRADIENT, slot.gradient)]
        way.receive([*gradient, Block(BlockName.BUFFERS, slot.buffers)])
        self._owed = True
        loop.send(
            Kind.PUSH,
            base_version=frame.base_version,
            step=frame.step,
            scale=frame.scale,
            gradients=frame.gradients,
            body=frame.body,
        )
        return True

    def _answer(self, link: Link, frame: Frame, slot: Slot, way: TensorWay) -> None:
        if slot.version != frame.version:
            raise Failure(Cause.ENGINE, f"weights of version {slot.version} came with the answer for {frame.version}")
        self._version, self._step, self._owed = frame.version, frame.step, False
        link.gather(
            Kind.WEIGHTS,
            flags=frame.flags,
            version=frame.version,
            step=frame.step,
            staleness=frame.staleness,
            gradients=frame.gradients,
        )
        way.send([Block(BlockName.WEIGHTS, slot.weights), Block(BlockName.SERVED, slot.served)])

    # ------------------------------------------------------------ its end

    def _refuse(self, reason: str) -> None:
        self._gateway.refuse(self, self.who, reason)
        self._say_no(reason)

    def _say_no(self, reason: str) -> None:
        if self._link is None:
            return
        with contextlib.suppress(LinkLost, Unwelcome, OSError):
            self._link.gather(Kind.REFUSED, body=reason.encode()[:1024])
            self._link.flush()
            self._drain(self._link)

    @staticmethod
    def _drain(link: Link) -> None:
        """Take in what was under way until the trainer hangs up: closing over it would cost it our last word."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        with contextlib.suppress(LinkLost, Unwelcome):
            while (left := deadline - time.monotonic()) > 0.0 and link.readable(left):
                link.discard()
