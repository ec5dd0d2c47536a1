"""A wire between two hosts that goes wrong as asked, packet by packet: delay, a rate limit, a cut, resets.

Each end is a TUN device (the kernel's way to hand packets to a program); the wire is this process's thread that carries
packets from one to the other. Kernels here have no netem. Everything between the hosts goes through it, so a cut is
what a pulled cable is: nothing arrives, and nobody is told. Every fault is counted where it happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Literal

from tests.hosts.namespaces import Host

Fault = Literal["delay", "rate", "cut", "reset"]
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES = 65536
QUEUE_SECONDS = 1.0
"""A packet that would have to wait longer for its turn on a slow wire is dropped, as a router's full queue drops it."""
TCP, RST, ACK = 6, 0x04, 0x10


class Wire:
    """Carries packets between its two ends. Settings may be changed while it runs."""

    def __init__(self, number: int) -> None:
        self.devices = [f"thw{number}a", f"thw{number}b"]
        self.delay_seconds = 0.0
        """One way, on either way."""
        self.bytes_per_second = 0.0
        """In each direction. 0: no limit."""
        self.is_cut = False
        self.fired: Counter[Fault] = Counter()
        self.carried_bytes = 0
        self._ends = [_tun(name) for name in self.devices]
        self._resetting = False
        self._turn = count()
        self._due: list[tuple[float, int, int, bytes]] = []
        self._free_at = [0.0, 0.0]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Have each connection that sends something in the next tenth of a second find itself reset."""
        self._resetting = True
        time.sleep(0.1)  # for the packets of a busy wire to come by
        self._resetting = False

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)
        for end in self._ends:
            os.close(end)

    # ------------------------------------------------------------ its thread

    def _carry(self) -> None:
        while not self._closing.is_set():
            wait = min(0.1, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.1
            for end in select.select(self._ends, [], [], wait)[0]:
                self._take(self._ends.index(end))
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(self._due)
                self._give(to, packet)

    def _take(self, end: int) -> None:
        try:
            packet = os.read(self._ends[end], PACKET_BYTES)
        except OSError:
            return  # its namespace is being taken down
        if self.is_cut:
            self.fired["cut"] += 1
        elif self._resetting and (reply := reset_for(packet)):
            self.fired["reset"] += 1
            self._give(end, reply)
        else:
            self._queue(1 - end, packet)

    def _queue(self, to: int, packet: bytes) -> None:
        now = time.monotonic()
        due = now
        if self.bytes_per_second:
            due = max(now, self._free_at[to]) + len(packet) / self.bytes_per_second
            self.fired["rate"] += 1
            if due - now > QUEUE_SECONDS:
                return
            self._free_at[to] = due
        if self.delay_seconds:
            self.fired["delay"] += 1
            due += self.delay_seconds
        if due == now:
            self._give(to, packet)
        else:
            heapq.heappush(self._due, (due, next(self._turn), to, packet))

    def _give(self, to: int, packet: bytes) -> None:
        if self.is_cut:
            self.fired["cut"] += 1
            return
        with contextlib.suppress(OSError):  # not plugged in yet, or its host is gone
            os.write(self._ends[to], packet)
            self.carried_bytes += len(packet)


def _tun(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def reset_for(packet: bytes) -> bytes | None:
    """The reset that whoever sent this packet believes comes from the other side. None: it is no TCP of IPv4.

    A reset is believed if its sequence number is the one that is due (RFC 5961, section 3.2), and that is what the
    sender acknowledges.
    """
    header = (packet[0] & 0x0F) * 4
    if packet[0] >> 4 != 4 or packet[9] != TCP or not packet[header + 13] & ACK:
        return None
    source, target = packet[12:16], packet[16:20]
    from_port, to_port, _, due = struct.unpack("!HHII", packet[header : header + 12])
    segment = struct.pack("!HHIIBBHHH", to_port, from_port, due, 0, 5 << 4, RST, 0, 0, 0)
    pseudo = target + source + struct.pack("!BBH", 0, TCP, len(segment))
    segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, TCP, 0, target, source)
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + segment


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


class Door:
    """A TCP port of a host behind which a Unix socket answers: how a service that has no port is let in there."""

    def __init__(self, host: Host, path: str, port: int) -> None:
        self.address = (host.address, port)
        self._path = path
        self._open: list[socket.socket] = []
        self._listening = host.within(lambda: socket.create_server(self.address, backlog=64))
        self._thread = threading.Thread(target=self._accept, name=f"door {port}", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            service = socket.socket(socket.AF_UNIX)
            service.connect(self._path)
            self._open += (caller, service)
            for ends in ((caller, service), (service, caller)):
                threading.Thread(target=_pump, args=ends, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def wire(first: Host, second: Host, number: int) -> Iterator[Wire]:
    """A wire plugged into two hosts. `number` tells its devices from another's."""
    between = Wire(number)
    try:
        for host, device in zip((first, second), between.devices, strict=True):
            host.plug(device)
        yield between
    finally:
        between.close()
