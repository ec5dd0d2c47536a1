"""Frames and tensors' bytes over one TLS connection, at either end.

A frame's header is checked before its body is received, and its body before anything behind it is. Small writes are
gathered into one record; tensors go from and to their own memory, in pieces, so that each piece has a deadline.

One thread at a time may talk over a link: OpenSSL's connections have one state for both directions.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import NoReturn, Unpack

from workers.transport import frames, tls
from workers.transport.frames import HEADER, Fields, Frame, FrameError, Kind
from workers.transport.tls import LINK_SECONDS, LinkLost, Unwelcome

SEND_BYTES = 256 * 1024
"""Handed to OpenSSL at once: the piece that a peer must have read within the deadline."""
RECEIVE_BYTES = 256 * 1024
GATHER_BYTES = 16 * 1024
"""A TLS record. Shorter payloads are copied behind their headers, longer ones sent from where they lie."""

BEAT_SECONDS = 1.0
"""While a trainer waits for its answer, it hears this often that the line carries."""


@dataclass(frozen=True)
class Speaker:
    """Who sends the frames of one direction."""

    run: int
    epoch: int
    member: int
    worker: int


class Link:
    """Both directions of a connection. Raises LinkLost when it breaks, Unwelcome when the peer turns us away."""

    def __init__(self, connection: ssl.SSLSocket, own: Speaker) -> None:
        self._connection = connection
        self._own = own
        self._other: Speaker | None = None
        self._sent = self._received = 0
        self._gathered = bytearray()
        self._header = bytearray(HEADER.size)
        self._beats_at: float | None = None
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self.sent_bytes = self.received_bytes = 0

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def own_address(self) -> str:
        """Of this end: whatever else the two open between them belongs on it."""
        return str(self._connection.getsockname()[0])

    def expect(self, other: Speaker) -> None:
        """From now on every frame has to come from this one."""
        self._other = other

    # ------------------------------------------------------------ out

    def gather(self, kind: Kind, **fields: Unpack[Fields]) -> None:
        """Put a frame behind what is to be sent next."""
        self._sent += 1
        own = self._own
        self._gathered += frames.pack(
            kind,
            run=own.run,
            epoch=own.epoch,
            member=own.member,
            worker=own.worker,
            sequence=self._sent,
            **fields,
        )

    def payload(self, data: memoryview) -> None:
        """Send bytes behind the frame that announced them."""
        if len(self._gathered) + len(data) <= GATHER_BYTES:
            self._gathered += data
            return
        self.flush()
        for start in range(0, len(data), SEND_BYTES):
            self._send(data[start : start + SEND_BYTES])

    def flush(self) -> None:
        """Send what has been gathered."""
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._send(memoryview(gathered))

    def _send(self, data: memoryview) -> None:
        try:
            while data:
                sent = self._connection.send(data)
                self.sent_bytes += sent
                data = data[sent:]
        except OSError as error:
            self._broken(error)

    def beat(self) -> None:
        """Let the other side hear that the line carries. From the first on, receiving a long tensor beats as well."""
        self._beats_at = time.monotonic() + BEAT_SECONDS
        self.gather(Kind.BEAT)
        self.flush()

    # ------------------------------------------------------------ in

    def readable(self, seconds: float) -> bool:
        """Wait for something to come, at most so long; says whether something has: a frame, or the end."""
        return self._connection.pending() > 0 or bool(self._poll.poll(1000 * seconds))

    @property
    def pending(self) -> bool:
        """Whether OpenSSL holds bytes already, of which no poll would tell."""
        return self._connection.pending() > 0

    def receive(self, seconds: float = LINK_SECONDS) -> Frame:
        """The next frame. Raises FrameError for anything else."""
        if not self.readable(seconds):
            raise LinkLost(f"nothing came in {seconds:.0f} s")
        self.receive_into(memoryview(self._header))
        magic, kind, flags, length, *numbers = HEADER.unpack(self._header)
        if magic != frames.MAGIC or kind not in frames.KINDS or length > frames.MAX_BODY_BYTES:
            raise FrameError("what came is not a frame of this protocol")
        self._received += 1
        self._check(*numbers[:5])
        body = bytearray(length)
        self.receive_into(memoryview(body))
        return Frame._make((kind, flags, *numbers, bytes(body)))

    def _check(self, run: int, epoch: int, member: int, worker: int, sequence: int) -> None:
        own, other = self._own, self._other
        if (run, epoch) != (own.run, own.epoch):
            raise FrameError(f"this is run {own.run}, epoch {own.epoch}; the frame is of run {run}, epoch {epoch}")
        if sequence != self._received:
            raise FrameError(f"frame {sequence} came where {self._received} was due")
        if other is not None and (member, worker) != (other.member, other.worker):
            raise FrameError("a frame of another sender")

    def receive_into(self, data: memoryview) -> None:
        """Fill `data`, or raise LinkLost when it stays away."""
        connection, got, size = self._connection, 0, len(data)
        try:
            while got < size:
                count = connection.recv_into(data[got : got + RECEIVE_BYTES])
                if not count:
                    raise LinkLost("the other side hung up")
                got += count
                if self._beats_at is not None and time.monotonic() >= self._beats_at:
                    self.beat()
        except OSError as error:
            self._broken(error)
        self.received_bytes += size

    def discard(self) -> None:
        """Take in something and forget it."""
        try:
            if not self._connection.recv(RECEIVE_BYTES):
                raise LinkLost("the other side hung up")
        except OSError as error:
            self._broken(error)

    def _broken(self, error: OSError) -> NoReturn:
        if tls.is_refusal(error):
            raise Unwelcome("it does not take our certificate") from None
        if isinstance(error, TimeoutError):
            raise LinkLost(f"the line carried nothing for {LINK_SECONDS:.0f} s") from None
        raise LinkLost(str(error) or type(error).__name__) from None

    # ------------------------------------------------------------ the end

    def break_off(self) -> None:
        """End the connection from another thread: whoever waits on it finds it gone."""
        with contextlib.suppress(OSError):  # it may be gone already
            # The socket's own: the TLS object may be in use.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()
