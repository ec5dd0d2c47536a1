"""The line of the tests goes wrong when it is asked to, and says so."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faulty_link import FaultyLink, faulty_link


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """A service that sends back what it is sent."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(65536):
                    connection.sendall(piece)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[:2]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(name="link")
def _link() -> Iterator[FaultyLink]:
    with echo() as service, faulty_link(service) as link:
        yield link


def there_and_back(caller: socket.socket, data: bytes) -> float:
    """Seconds until all of `data` has come back."""
    began = time.monotonic()
    caller.sendall(data)
    got = b""
    while len(got) < len(data):
        got += caller.recv(65536)
    assert got == data
    return time.monotonic() - began


def keep_talking(caller: socket.socket) -> None:
    for _ in range(100):
        there_and_back(caller, bytes(500))
        time.sleep(0.01)


def test_it_passes_on_what_it_is_given(link: FaultyLink) -> None:
    with socket.create_connection(link.address, 5) as caller:
        there_and_back(caller, bytes(100_000))
    assert (link.up_bytes, link.down_bytes, sum(link.fired.values())) == (100_000, 100_000, 0)


def test_it_delays_both_ways(link: FaultyLink) -> None:
    link.delay_seconds = 0.05
    with socket.create_connection(link.address, 5) as caller:
        assert there_and_back(caller, b"hello") >= 0.1
        assert link.fired["delay"] == 2  # the end of the line, which comes behind this, is delayed as well


def test_it_limits_the_rate(link: FaultyLink) -> None:
    link.bytes_per_second = 1e6
    with socket.create_connection(link.address, 5) as caller:
        assert there_and_back(caller, bytes(200_000)) >= 0.2
    assert link.fired["rate"] >= 2


def test_a_cut_line_says_nothing_until_it_is_restored(link: FaultyLink) -> None:
    with socket.create_connection(link.address, 5) as caller:
        there_and_back(caller, b"hello")
        link.cut()
        caller.sendall(b"are you there?")
        caller.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.recv(100)
        assert link.fired["hole"] == 1
        link.restore()
        caller.settimeout(5)
        assert caller.recv(100) == b"are you there?"


def test_connections_are_reset_at_once_or_after_so_many_bytes(link: FaultyLink) -> None:
    for when in (link.reset, lambda: link.reset_after(1000)):
        with socket.create_connection(link.address, 5) as caller:
            there_and_back(caller, b"hello")
            before = link.fired["reset"]
            when()
            with pytest.raises(ConnectionError):
                keep_talking(caller)
            assert link.fired["reset"] == before + 1
