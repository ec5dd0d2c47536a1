"""Hosts of a test's own: network namespaces, each with nothing but its loopback and what is put into it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
LISTENING = "0A"
"""Of a socket's state in /proc/net/tcp (proc(5))."""
_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Why no namespaces can be made here. Empty: they can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is missing (Debian: apt-get install iproute2 util-linux)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "there is no /dev/net/tun"
    name = f"th-{os.getpid()}-probe"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False, timeout=10)
    if tried.returncode != 0:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@dataclass(frozen=True)
class Host:
    """A network namespace with one address on the wire."""

    name: str
    address: str

    def plug(self, device: str) -> None:
        """Put one end of the wire into it."""
        _ip("link", "set", device, "netns", self.name)
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", device)
        _ip("-n", self.name, "link", "set", device, "up")

    def start(self, command: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """A process that has this host's network, and everything else of the machine's."""
        inside = ["nsenter", f"--net=/run/netns/{self.name}", *command]
        return subprocess.Popen(inside, env=dict(environ), stdout=log, stderr=log)

    def within(self, do: Callable[[], T]) -> T:
        """Do something in a thread of this host. Sockets that it makes stay this host's, whoever uses them then."""
        done: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open("rb") as namespace:
                    if _libc.setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                done.append(do())
            except BaseException as error:  # noqa: BLE001 - it is raised again, in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def listening(self) -> set[tuple[str, int]]:
        """A census: (address, port) of every TCP socket that listens here, over IPv4 and IPv6."""

        def read() -> set[tuple[str, int]]:
            found = set()
            for table in ("tcp", "tcp6"):
                # Of this thread: /proc/net is that of the process's first thread.
                lines = Path(f"/proc/thread-self/net/{table}").read_text().splitlines()[1:]
                for line in lines:
                    local, state = line.split()[1], line.split()[3]
                    if state == LISTENING:
                        address, port = local.split(":")
                        found.add((_dotted(address), int(port, 16)))
            return found

        return self.within(read)


def _dotted(raw: str) -> str:
    """An IPv4 address as the kernel writes it, in the machine's byte order; others as they are."""
    if len(raw) != 8:
        return raw
    return ".".join(str(int(raw[i : i + 2], 16)) for i in (6, 4, 2, 0))


@contextlib.contextmanager
def hosts(*addresses: str) -> Iterator[list[Host]]:
    """A host for each address, with its loopback up; gone when the block ends."""
    made: list[Host] = []
    try:
        for index, address in enumerate(addresses):
            host = Host(f"th-{os.getpid()}-{index}", address)
            _ip("netns", "add", host.name)
            made.append(host)
            _ip("-n", host.name, "link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            _ip("netns", "del", host.name)


def addresses_of(message: Mapping[str, Any]) -> str:
    """Where an event came from, without its port."""
    return str(message.get("peer", "")).rpartition(":")[0]
