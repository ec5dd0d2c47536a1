"""The server's door to other hosts: listens with TLS, and gives each trainer that comes in a relay.

It lives beside the server's loop, in threads: TLS and large copies release the interpreter's lock. Strangers are
bounded in number and time, and cost the loop nothing: it hears of a trainer only when the certificate is right.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from workers.assignment import Cause
from workers.failures import Failure
from workers.process import StopSignal
from workers.transport import tls
from workers.transport.refusals import Refusals
from workers.transport.relay import Relay, Terms

if TYPE_CHECKING:
    from workers.assignment import Assignment

STRANGERS = 64
"""Connections that have not joined yet; more are hung up on at once."""
BACKLOG = 128
ACCEPT_SECONDS = 0.5
HAND_OVER_SECONDS = 5.0
CLOSE_SECONDS = 3.0
"""How long the end of a run waits for trainers to take in its last word."""


class Gateway:
    """Accepts connections and knows which relay speaks for which trainer."""

    def __init__(self, terms: Terms, refusals: Refusals, stop: StopSignal) -> None:
        assignment = terms.assignment
        if assignment.tls is None:
            raise Failure(Cause.ENGINE, f"the server is to listen at {assignment.listen}, but has no certificate")
        self.terms, self.stop = terms, stop
        self._refusals = refusals
        self._context = tls.contexts_of(assignment.tls, server=True)
        self._pinned = ssl.PEM_cert_to_DER_cert(assignment.tls.peer_certificate.decode())
        self._listener = _listen(assignment)
        self.address = tls.name_of(self._listener.getsockname())
        self._lock = threading.Lock()
        self._relays: set[Relay] = set()
        self._by_worker: dict[int, Relay] = {}
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="gateway", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, address = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self.closing.is_set():
                    # Out of descriptors, or a peer gone in the queue: neither is a reason to close the door.
                    self._refusals.tell("a connection", f"it could not be accepted: {error}")
                    self.closing.wait(ACCEPT_SECONDS)
                continue
            self._admit(connection, tls.name_of(address))

    def _admit(self, connection: socket.socket, peer: str) -> None:
        relay = Relay(self, connection, peer)
        with self._lock:
            crowded = sum(not r.joined for r in self._relays) >= STRANGERS
            if not crowded:
                self._relays.add(relay)
        if crowded:
            connection.close()
            self._refusals.tell("a connection", f"{STRANGERS} others have not joined yet", peer=peer)
        else:
            relay.start()

    # ------------------------------------------------------------ what relays ask of it, each in its thread

    def shake_hands(self, connection: socket.socket) -> ssl.SSLSocket:
        """Raises Unwelcome or LinkLost."""
        return tls.accept(connection, self._context, self._pinned)

    def refuse(self, relay: Relay, who: str, reason: str) -> None:
        if not self.closing.is_set():
            self._refusals.tell(who, reason, peer=relay.peer)

    def take_over(self, relay: Relay) -> bool:
        """Let `relay` speak for its trainer, in place of an earlier one. False: a later member does, and lives.

        A trainer that has come back is believed that its old link is dead; and a later member was sent in the place of
        one that was lost, of which this host may not have heard yet. The earlier relay is ended before the new one
        joins, so that the loop has heard all there was to hear from it.
        """
        with self._lock:
            before = self._by_worker.get(relay.worker)
            if before is not None and before.member > relay.member and not before.hung_up:
                return False
            self._by_worker[relay.worker] = relay
        if before is None:
            return True
        before.break_off()
        if not before.ended.wait(HAND_OVER_SECONDS):
            # It may sit in a transfer that nothing wakes: the trainer finds the line closed, and comes again.
            raise tls.LinkLost(f"the earlier line of trainer {relay.worker} has not ended yet")
        return True

    def gone(self, relay: Relay) -> None:
        with self._lock:
            self._relays.discard(relay)
            if self._by_worker.get(relay.worker) is relay:
                del self._by_worker[relay.worker]

    def close(self) -> None:
        """Stop listening, and wait until the relays have handed on what the loop has said last."""
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._lock:
            relays = list(self._relays)
        for relay in relays:
            if relay.joined:
                relay.ended.wait(max(0.0, deadline - time.monotonic()))
            relay.break_off()


def _listen(assignment: Assignment) -> socket.socket:
    try:
        found = socket.getaddrinfo(assignment.listen, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server((str(address[0]), 0), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Failure(Cause.ENGINE, f"the server can't listen at {assignment.listen}: {error}") from None
    listener.settimeout(ACCEPT_SECONDS)
    return listener
