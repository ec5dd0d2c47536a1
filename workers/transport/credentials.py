"""Certificates of a run's sessions between hosts: made once for each epoch, and trusted by nobody else.

An epoch has two sides, its server and its trainers. Each side gets a key and a self-signed certificate, and trusts
exactly the other side's: there is no authority, so nothing that one could be talked into signing. They end with the
epoch; the days they are valid for only bound what a lost one is worth.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from workers.assignment import Credentials

VALID = dt.timedelta(days=3650)
"""Longer than any run. What ends a certificate is its epoch: its server is gone, and nobody trusts it any more."""
CLOCK_SLACK = dt.timedelta(days=1)
"""Clocks of hosts differ, and a certificate of tomorrow is refused."""


@dataclass(frozen=True)
class Pair:
    """Both sides of an epoch."""

    server: Credentials
    trainers: Credentials


def make(*, run: int, epoch: int, now: dt.datetime | None = None) -> Pair:
    """Make the keys and certificates of an epoch; takes about a millisecond. `now` is with a time zone; None: it is."""
    now = now or dt.datetime.now(dt.UTC)
    server = _side(f"server of run {run}, epoch {epoch}", ExtendedKeyUsageOID.SERVER_AUTH, now)
    trainers = _side(f"trainers of run {run}, epoch {epoch}", ExtendedKeyUsageOID.CLIENT_AUTH, now)
    return Pair(Credentials(*server, trainers[0]), Credentials(*trainers, server[0]))


def _side(name: str, usage: ObjectIdentifier, now: dt.datetime) -> tuple[bytes, bytes]:
    """A certificate and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "TrainHub"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + VALID)
        # It vouches for itself alone: the key behind it can issue no other.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding), secret
