"""Two ends of a byte channel for tests: messages with their length before them, over a real socket."""

from __future__ import annotations

import socket
import struct

LENGTH = struct.Struct("<I")


class SocketChannel:
    """`workers.transport.store.Channel` over a connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def send(self, message: bytes) -> None:
        self.socket.sendall(LENGTH.pack(len(message)) + message)

    def receive(self, seconds: float) -> bytes:
        self.socket.settimeout(seconds)
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError("the other end hung up")
            data += part
        return data


def pair() -> tuple[SocketChannel, SocketChannel]:
    one, other = socket.socketpair()
    return SocketChannel(one), SocketChannel(other)
