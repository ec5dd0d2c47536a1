"""Mutual TLS 1.3 with pinned certificates, on a socket that notices when its line is dead.

stdlib ssl alone: contexts out of a run's credentials, and handshakes with a deadline.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import NoReturn

from workers.assignment import Credentials

LINK_SECONDS = 5.0
"""A peer that does not read, a line that carries nothing: after this long it is cut."""
HANDSHAKE_SECONDS = 5.0
CONNECT_SECONDS = 2.0
"""A lost SYN is sent again after a second; whoever connects tries again anyway."""
KEEPALIVE_IDLE_SECONDS, KEEPALIVE_EVERY_SECONDS, KEEPALIVES = 2, 1, 3
SCHEME = "tls://"


class LinkLost(Exception):
    """The connection is gone, or does not carry anything any more."""


class Unwelcome(Exception):
    """The other side is not who it should be, or does not take us for who we are: trying again would not help."""


def contexts_of(credentials: Credentials, *, server: bool) -> ssl.SSLContext:
    """What one side shows and whom it trusts: the other's one certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # The certificate itself is pinned; hosts may have any name.
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=credentials.peer_certificate.decode())
    # Every session proves itself anew: nothing is resumed.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    if server:
        context.num_tickets = 0
    _load(context, credentials)
    return context


def _load(context: ssl.SSLContext, credentials: Credentials) -> None:
    """stdlib ssl reads certificate and key from a file: here is one that no disk and no folder ever holds."""
    fd = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(fd, credentials.certificate + credentials.key)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def parse(endpoint: str) -> tuple[str, int]:
    """Host and port of `tls://HOST:PORT`; an IPv6 address stands in brackets."""
    host, _, port = endpoint.removeprefix(SCHEME).rpartition(":")
    return host.strip("[]"), int(port)


def name_of(address: tuple[object, ...]) -> str:
    """HOST:PORT of what the socket module calls an address."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def watch(connection: socket.socket) -> None:
    """Have the kernel send at once, and notice within seconds that the other side is out of reach."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVES)
    # Keepalives are sent on idle lines only; this one is for data that nobody acknowledges.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * LINK_SECONDS))


def accept(connection: socket.socket, context: ssl.SSLContext, pinned: bytes) -> ssl.SSLSocket:
    """Shake hands with who has connected. `pinned` is the other side's certificate, in DER.

    Raises Unwelcome, in words for a log, or LinkLost where it hung up. The connection is ours to close either way.
    """
    watch(connection)
    connection.settimeout(HANDSHAKE_SECONDS)
    wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        wrapped.do_handshake()
        _check_pinned(wrapped, pinned)
    except (OSError, Unwelcome) as error:
        _let_it_read(wrapped)
        wrapped.close()
        if isinstance(error, OSError):
            _explain(error)
        raise
    wrapped.settimeout(LINK_SECONDS)
    return wrapped


def connect(address: tuple[str, int], context: ssl.SSLContext, pinned: bytes) -> ssl.SSLSocket:
    """Reach a server and shake hands. Raises LinkLost where it can't be reached, Unwelcome where it is another."""
    try:
        connection = socket.create_connection(address, CONNECT_SECONDS)
    except OSError as error:
        raise LinkLost(str(error)) from None
    watch(connection)
    connection.settimeout(HANDSHAKE_SECONDS)
    wrapped = context.wrap_socket(connection, do_handshake_on_connect=False)
    try:
        wrapped.do_handshake()
        _check_pinned(wrapped, pinned)
    except ssl.SSLCertVerificationError:
        wrapped.close()
        raise Unwelcome("it shows another certificate") from None
    except OSError as error:
        wrapped.close()
        raise LinkLost(str(error)) from None
    wrapped.settimeout(LINK_SECONDS)
    return wrapped


def _check_pinned(wrapped: ssl.SSLSocket, pinned: bytes) -> None:
    """OpenSSL has checked a chain that ends in what we trust; what we trust is this one certificate."""
    if wrapped.getpeercert(binary_form=True) != pinned:
        raise Unwelcome("it shows another certificate")


def _let_it_read(wrapped: ssl.SSLSocket) -> None:
    """Take in what a refused peer has sent: closing over it would reset the line, and it would not read why."""
    try:
        wrapped.settimeout(0.5)
        wrapped.shutdown(socket.SHUT_WR)
        for _ in range(16):
            if not socket.socket.recv(wrapped, 65536):
                return
    except OSError:
        pass


REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "CERTIFICATE_VERIFY_FAILED": "it shows another certificate",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
}


def _explain(error: OSError) -> NoReturn:
    """A failed handshake, in words."""
    if isinstance(error, TimeoutError):
        raise Unwelcome(f"no handshake within {HANDSHAKE_SECONDS:.0f} s") from None
    if isinstance(error, ssl.SSLEOFError | ConnectionError) or not isinstance(error, ssl.SSLError):
        raise LinkLost("it hung up during the handshake") from None
    if is_refusal(error):
        raise Unwelcome("it does not take this server's certificate") from None
    raise Unwelcome(REASONS.get(error.reason, "what it sends is no handshake of TLS 1.3")) from None


def is_refusal(error: OSError) -> bool:
    """Whether the other side said that it does not take our certificate."""
    reason = str(getattr(error, "reason", None) or "")
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)
