"""What ways between hosts move: 11 M float32 there and back between two processes on two cores, over loopback.

Each has its floor beside it, in turns of the same run: a raw TCP socket that receives into memory it has is fabric's;
for inline TLS it is a bare TLS socket of the standard library, with the same certificates. Shared memory needs no way:
there a tensor is where the other side reads it.
"""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import time
from abc import ABC, abstractmethod
from functools import cache
from multiprocessing.process import BaseProcess
from typing import Self

import torch
from torch import Tensor

from benchmarks.children import CONTEXT, END_SECONDS, SERVER_CORE, TRAINER_CORE
from benchmarks.report import Row
from tests.engine.channels import SocketChannel
from workers.transport import credentials, tls
from workers.transport.fabric import SERVER, TRAINER, Fabric
from workers.transport.link import Link, Speaker
from workers.transport.tls import LINK_SECONDS
from workers.transport.ways import Block, BlockName, Inline

FLOATS = 11_000_000
ROUNDS, TURNS, WARM_UP = 8, 5, 2
HOST = "127.0.0.1"
BARS = {"fabric, gloo": ("raw socket", 0.85), "TLS, inline": ("bare TLS socket", 0.8)}


class Way(ABC):
    """One end of a connection that moves a tensor there, or one from there."""

    @classmethod
    @abstractmethod
    def of(cls, connection: socket.socket, rank: int) -> Self: ...

    @abstractmethod
    def send(self, tensor: Tensor) -> None: ...

    @abstractmethod
    def receive(self, into: Tensor) -> None: ...


class Raw(Way):
    """sendall and recv_into: the least that anybody can do over TCP."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @classmethod
    def of(cls, connection: socket.socket, rank: int) -> Self:
        return cls(connection)

    def send(self, tensor: Tensor) -> None:
        self._connection.sendall(memory_of(tensor))

    def receive(self, into: Tensor) -> None:
        memory = memory_of(into)
        while memory:
            count = self._connection.recv_into(memory)
            if not count:
                raise EOFError("the other end hung up")
            memory = memory[count:]


class BareTls(Raw):
    """The same over the standard library's TLS."""

    @classmethod
    def of(cls, connection: socket.socket, rank: int) -> Self:
        return cls(encrypted(connection, rank))


class InlineTls(Way):
    """A run's session between hosts: frames that say what comes, tensors between them."""

    def __init__(self, link: Link) -> None:
        self._link, self._way = link, Inline(link)

    @classmethod
    def of(cls, connection: socket.socket, rank: int) -> Self:
        wrapped = encrypted(connection, rank)
        wrapped.settimeout(LINK_SECONDS)
        return cls(Link(wrapped, Speaker(run=1, epoch=1, member=rank, worker=rank)))

    def send(self, tensor: Tensor) -> None:
        self._way.send([Block(BlockName.GRADIENT, tensor)])

    def receive(self, into: Tensor) -> None:
        self._link.readable(END_SECONDS)  # while the other ways have their turns
        self._way.receive([Block(BlockName.GRADIENT, into)])


class OverFabric(Way):
    """gloo, which the two ends of the connection have met over."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    @classmethod
    def of(cls, connection: socket.socket, rank: int) -> Self:
        return cls(Fabric.meet(SocketChannel(connection), rank, address=HOST))

    def send(self, tensor: Tensor) -> None:
        self._fabric.send(tensor)

    def receive(self, into: Tensor) -> None:
        self._fabric.receive(into)


WAYS: dict[str, type[Way]] = {
    "raw socket": Raw,
    "fabric, gloo": OverFabric,
    "bare TLS socket": BareTls,
    "TLS, inline": InlineTls,
}


@cache
def certificates() -> credentials.Pair:
    """Both ends have to have the same ones: made before the first fork."""
    return credentials.make(run=1, epoch=1)


def encrypted(connection: socket.socket, rank: int) -> ssl.SSLSocket:
    """Mutual TLS 1.3, as between hosts of a run."""
    serves = rank == SERVER
    side = certificates().server if serves else certificates().trainers
    return tls.contexts_of(side, server=serves).wrap_socket(connection, server_side=serves)


def memory_of(tensor: Tensor) -> memoryview:
    return tensor.numpy().data.cast("B")


class Traffic:
    """Both ends of a way: the other one, on the server's core, sends back what it gets."""

    def __init__(self, way: type[Way]) -> None:
        with socket.create_server((HOST, 0)) as listener:
            self._other: BaseProcess = CONTEXT.Process(target=_other_end, args=(listener, way))
            self._other.start()
            self._connection, _ = listener.accept()
        self._way = way.of(prepared(self._connection), TRAINER)
        self._there, self._back = torch.ones(FLOATS), torch.zeros(FLOATS)

    def times(self, count: int) -> list[float]:
        """Seconds of so many ways there and back."""
        found = []
        for _ in range(count):
            began = time.perf_counter()
            self._way.send(self._there)
            self._way.receive(self._back)
            found.append(time.perf_counter() - began)
        return found

    def close(self) -> None:
        assert torch.equal(self._there, self._back)
        self._connection.close()
        self._other.join(END_SECONDS)


def _other_end(listener: socket.socket, way: type[Way]) -> None:
    os.sched_setaffinity(0, {SERVER_CORE})
    torch.set_num_threads(1)
    connection = socket.create_connection(listener.getsockname())
    listener.close()
    end, tensor = way.of(prepared(connection), SERVER), torch.zeros(FLOATS)
    for _ in range(WARM_UP + ROUNDS * TURNS):
        end.receive(tensor)
        end.send(tensor)
    connection.close()


def prepared(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def measure() -> dict[str, float]:
    """Median seconds there and back, by way."""
    certificates()
    traffic = {name: Traffic(way) for name, way in WAYS.items()}
    found: dict[str, list[float]] = {name: each.times(WARM_UP)[:0] for name, each in traffic.items()}
    for _ in range(ROUNDS):
        for name, each in traffic.items():
            found[name] += each.times(TURNS)
    for each in traffic.values():
        each.close()
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def row(name: str, medians: dict[str, float]) -> Row:
    floor, bar = BARS.get(name, ("", ""))
    return {
        "way": name,
        "parameters": FLOATS,
        "there_and_back_ms": round(medians[name] * 1e3, 2),
        "gib_per_second": round(2 * 4 * FLOATS / medians[name] / 2**30, 2),
        "floor": floor,
        "share_of_floor": round(medians[floor] / medians[name], 3) if floor else "",
        "bar": bar,
    }


def main() -> list[Row]:
    torch.set_num_threads(1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {TRAINER_CORE})
    try:
        medians = measure()
    finally:
        os.sched_setaffinity(0, cores)
    return [row(name, medians) for name in WAYS]
