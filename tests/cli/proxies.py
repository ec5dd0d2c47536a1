"""A TCP proxy that takes requests to a service, and loses answers on their way back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Losing:
    """Relays connections. The first `losses` answers are read from the service and thrown away."""

    def __init__(self, to: str, losses: int) -> None:
        parts = urlsplit(to)
        self._to = (parts.hostname, parts.port)
        self._left = losses
        self.lost = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.1)
        self._over = threading.Event()
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                caller, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._relay, args=[caller]))
                self._threads[-1].start()

    def _relay(self, caller: socket.socket) -> None:
        with caller, socket.create_connection(self._to) as service:
            caller.settimeout(0.1)
            service.settimeout(0.1)
            while not self._over.is_set():
                if not self._pass_on(caller, service) or not self._pass_back(service, caller):
                    return

    def _pass_on(self, caller: socket.socket, service: socket.socket) -> bool:
        """False: the caller has gone."""
        with contextlib.suppress(TimeoutError):
            piece = caller.recv(65536)
            service.sendall(piece)
            return bool(piece)
        return True

    def _pass_back(self, service: socket.socket, caller: socket.socket) -> bool:
        """False: the service has gone, or its answer was lost."""
        with contextlib.suppress(TimeoutError):
            piece = service.recv(65536)
            if piece and self._left:
                self._left -= 1
                self.lost += 1
                return False
            caller.sendall(piece)
            return bool(piece)
        return True

    def close(self) -> None:
        self._over.set()
        for thread in list(self._threads):
            thread.join()
        self._listening.close()


@contextlib.contextmanager
def losing(to: str, *, losses: int = 1) -> Iterator[Losing]:
    proxy = Losing(to, losses)
    try:
        yield proxy
    finally:
        proxy.close()
