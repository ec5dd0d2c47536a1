"""What comes from the network and does not belong: it is refused and told of, and costs the run nothing."""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.engine.harness import Gang, spec_of
from tests.engine.strangers import Peer, connect, manifest_of
from tests.engine.test_runs import counts, final_checkpoint
from workers.assignment import Cause, Credentials, Outcome, Role
from workers.events import Event
from workers.reporting import Reporter
from workers.transport import credentials, frames, tls
from workers.transport.frames import HEADER, MAX_BODY_BYTES, Decoder, FrameError, Kind
from workers.transport.refusals import BURST, Refusals
from workers.transport.tls import LinkLost

FRAMES = int(os.environ.get("TRAINHUB_FUZZ_FRAMES", "200000"))
SOCKETS = int(os.environ.get("TRAINHUB_FUZZ_SOCKETS", "400"))
"""Mutated frames for the decoder, and over connections, whose handshakes take milliseconds of both sides. All of them:
`TRAINHUB_FUZZ_FRAMES=1000000 TRAINHUB_FUZZ_SOCKETS=10000 pytest tests/engine -k mutated --timeout 900`
"""
WORK = spec_of(
    problem={"kind": "ledger", "coordinates": 64, "compute_seconds": 0.002},
    workers={"min": 1, "max": 2},
    budget={"updates": 10**6},
)
MANIFEST = manifest_of(WORK)
COORDINATES = 64


@pytest.fixture(name="gang")
def _gang(tmp_path: Path) -> Iterator[Gang]:
    """A run with one trainer of two, that goes on until it is told to stop."""
    with Gang(WORK, tmp_path, transport="tls", trainers=1, evaluator=False) as gang:
        second = joined(gang, member=9_000)  # so that the run does not wait for it
        gang.wait_for(lambda: gang.version > 0)
        second.close()
        yield gang
        gang.server.ask_to_stop()
        assert gang.end().outcome is Outcome.STOPPED
        held = counts(final_checkpoint(gang).data["path"])
        assert held[0] > 0
        assert sum(held[1:]) == 0, "what a stranger sent was applied"


def told(gang: Gang) -> list[Event]:
    return gang.server.events("refused")


def reason_for(gang: Gang, part: str) -> Event:
    """The event that tells of a refusal, as soon as it is there."""
    gang.wait_for(lambda: any(part in e.message for e in told(gang)), 10.0)
    return next(e for e in told(gang) if part in e.message)


def test_who_shows_no_certificate_is_refused_and_logged_with_its_address(gang: Gang) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(gang.address, 5) as plain, context.wrap_socket(plain) as bare:
        here = tls.name_of(bare.getsockname())
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            bare.recv(1)
    refused = reason_for(gang, "no certificate")
    assert (refused.data["peer"], refused.level) == (here, "warning")
    assert here in refused.message


def test_who_shows_another_run_s_certificate_is_refused(gang: Gang) -> None:
    assert gang.credentials is not None
    other = credentials.make(run=2, epoch=1)
    trusting = Credentials(other.trainers.certificate, other.trainers.key, gang.credentials.server.certificate)
    with connect(gang, trusting) as connection, pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        connection.recv(1)
    assert reason_for(gang, "another certificate").data["peer"]


def test_a_trainer_with_another_run_s_certificate_ends_at_once(gang: Gang) -> None:
    other = credentials.make(run=2, epoch=1)
    assert gang.credentials is not None
    half = Credentials(other.trainers.certificate, other.trainers.key, gang.credentials.server.certificate)
    words = [gang.start(Role.TRAINER, 1, tls=mine).end(10.0) for mine in (half, other.trainers)]
    assert [(w.outcome, w.cause) for w in words if w] == [
        (Outcome.FAILED, Cause.FENCED),
        (Outcome.SERVER_LOST, None),  # it finds no server of its own there
    ]


def test_the_server_s_own_certificate_opens_no_door(gang: Gang) -> None:
    assert gang.credentials is not None
    own = gang.credentials.server
    mirrored = Credentials(own.certificate, own.key, own.certificate)
    with connect(gang, mirrored) as connection, pytest.raises(ssl.SSLError, match="ALERT"):
        connection.recv(1)
    reason_for(gang, "another certificate")


def test_older_tls_and_plain_text_are_refused(gang: Gang) -> None:
    assert gang.credentials is not None
    context = tls.contexts_of(gang.credentials.trainers, server=False)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(gang.address, 5) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)
    reason_for(gang, "does not speak TLS 1.3")
    with socket.create_connection(gang.address, 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert plain.recv(1000) == b""
    reason_for(gang, "no handshake")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"key": b"the key of another run, 32 bytes"}, "not the key of this run"),
        ({"key": b""}, "not the key of this run"),
        ({"manifest": bytes(32)}, "not laid out as the server's"),
        ({"by": "pigeon"}, "travel in another way"),
        ({"by": "", "flags": 0}, "a trainer's join"),
        ({"flags": frames.BY | frames.EVALUATOR}, "a trainer's join"),
        ({"epoch": 2}, "epoch 2"),
        ({"run": 7}, "run 7"),
        ({"worker": 2}, "there is no trainer 2"),
        ({"worker": 0, "member": 1}, "a later trainer 0"),
    ],
)
def test_a_join_that_is_wrong_is_refused_with_the_reason(gang: Gang, wrong: dict[str, object], reason: str) -> None:
    speaker = {k: v for k, v in wrong.items() if k in {"run", "epoch", "worker", "member"}}
    shown = {"manifest": MANIFEST} | {k: v for k, v in wrong.items() if k not in speaker}
    peer = Peer(gang, **speaker)  # type: ignore[arg-type]
    peer.join(**shown)  # type: ignore[arg-type]
    assert reason in peer.last_word()
    assert reason_for(gang, reason).data["peer"] == tls.name_of(peer.connection.getsockname())
    peer.close()


def joined(gang: Gang, **speaker: int) -> Peer:
    """A peer that has come in as trainer 1."""
    peer = Peer(gang, **speaker)
    peer.join(MANIFEST)
    assert peer.hear().kind == Kind.WELCOME
    return peer


def with_weights(gang: Gang) -> tuple[Peer, int]:
    """A peer that has got its first weights: it is its turn to push. Returns their version too."""
    peer = joined(gang)
    while (frame := peer.hear()).kind == Kind.BEAT:
        pass
    assert frame.kind == Kind.WEIGHTS
    assert peer.hear().kind == Kind.TENSOR
    peer.link.receive_into(memoryview(bytearray(4 * COORDINATES)))
    return peer, frame.version


def test_what_is_out_of_place_or_order_is_refused_before_it_is_received(gang: Gang) -> None:
    peer, version = with_weights(gang)
    peer.link.gather(Kind.PUSH, base_version=version + 1)
    peer.link.flush()
    assert "was due" in peer.last_word()
    peer, version = with_weights(gang)
    peer.link.gather(Kind.PUSH, base_version=version)
    peer.link.gather(Kind.TENSOR, body=bytes(24))
    peer.link.flush()
    assert "another tensor than the gradient" in peer.last_word()
    peer, version = with_weights(gang)
    peer.link._sent += 1
    peer.link.gather(Kind.PUSH, base_version=version)
    peer.link.flush()
    assert "came where" in peer.last_word()
    peer, _ = with_weights(gang)
    peer.link.gather(Kind.RESULT)
    peer.link.flush()
    assert "RESULT out of place" in peer.last_word()


def test_a_second_session_of_a_member_takes_the_place_of_its_first(gang: Gang) -> None:
    first, _ = with_weights(gang)
    second, _ = with_weights(gang)
    assert first.last_word() == ""
    gang.wait_for(lambda: len([e for e in gang.server.events("left") if e.data["member"] == 10_000]) == 1)
    second.close()


def test_a_silent_connection_is_cut_and_a_scan_is_told_in_a_few_lines(gang: Gang) -> None:
    silent = socket.create_connection(gang.address, 10)
    began = time.monotonic()
    for _ in range(150):
        with socket.create_connection(gang.address, 5) as scan:
            scan.sendall(b"\0" * 16)
            assert scan.recv(100) == b""
    assert silent.recv(1) == b""
    assert 4.0 < time.monotonic() - began < 9.0
    assert len(told(gang)) <= BURST + 2
    scans = len(told(gang))
    time.sleep(10.0 * (BURST + 1.0) / BURST)
    with socket.create_connection(gang.address, 5) as scan:
        scan.sendall(b"\0" * 16)
        scan.recv(100)
    gang.wait_for(lambda: len(told(gang)) > scans)
    assert len(told(gang)) + sum(e.data["untold"] for e in told(gang)) >= 152


def test_a_crowd_of_strangers_is_bounded_and_a_trainer_still_comes_in(gang: Gang) -> None:
    crowd = [socket.create_connection(gang.address, 10) for _ in range(100)]
    reason_for(gang, "others have not joined")
    assert psutil.Process(gang.server.process.pid).num_threads() < 100
    deadline = time.monotonic() + 10.0
    while True:  # as trainers do
        try:
            joined(gang).close()
            break
        except LinkLost:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    for one in crowd:
        one.close()


def test_a_peer_that_does_not_read_is_cut(tmp_path: Path) -> None:
    rising = {"kind": "python", "target": "tests.engine.problems:Rising", "parameters": {"size": 4_000_000}}
    work = spec_of(problem=rising, budget={"updates": 1})
    with Gang(work, tmp_path, transport="tls", trainers=0, evaluator=False) as gang:
        peer = Peer(gang, worker=0)
        peer.join(manifest_of(work))
        gang.wait_for(lambda: bool(gang.server.events("joined")))
        began = time.monotonic()
        gang.wait_for(lambda: bool(gang.server.events("left")), 15.0)
        assert 4.0 < time.monotonic() - began < 9.0
        peer.close()


# ---------------------------------------------------------------- mutated frames


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """So many frames, each whole once, with up to four bytes of it changed and now and then its end gone."""
    chance = np.random.default_rng(seed)
    kinds = [Kind.JOIN, Kind.WELCOME, Kind.WEIGHTS, Kind.PUSH, Kind.TENSOR, Kind.BEAT, Kind.LEAVE]
    bodies = [bytes(64), b"", bytes(24), bytes(48)]
    whole = [
        frames.pack(kind, run=1, epoch=1, member=10_000, worker=1, sequence=1, step=3, gradients=1, body=body)
        for kind in kinds
        for body in bodies
    ]
    for frame in chance.integers(len(whole), size=count).tolist():
        data = bytearray(whole[frame])
        # Most of what matters is in the first bytes: magic, kind, flags, length.
        for at in (chance.random(1 + frame % 4) ** 2 * len(data)).astype(int).tolist():
            data[at] = (data[at] + 1 + at * 37) % 256
        yield bytes(data if frame % 8 else data[: 1 + frame * 3])


SEQUENCE_AT = struct.calcsize("<IHHIQQQq")


def decode(data: bytes) -> bool:
    """Whether the decoder takes it; what it does not take, it has to say."""
    decoder = Decoder()
    try:
        found = decoder.feed(data)
    except FrameError:
        return False
    assert len(decoder._rest) < HEADER.size + MAX_BODY_BYTES
    assert sum(HEADER.size + len(f.body) for f in found) + len(decoder._rest) == len(data)
    return True


def test_mutated_frames_are_refused_or_read_and_nothing_else() -> None:
    taken = sum(decode(data) for data in mutated(FRAMES, seed=1))
    assert 0 < taken < FRAMES


def test_mutated_frames_make_the_decoder_hold_nothing() -> None:
    several = list(mutated(5_000, seed=2))
    decode(several[0])
    tracemalloc.start()
    for data in several:
        decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MAX_BODY_BYTES


def test_mutated_frames_over_real_sockets_crash_nothing_and_allocate_nothing(gang: Gang) -> None:
    process = psutil.Process(gang.server.process.pid)
    version = gang.version
    for index, data in enumerate(mutated(SOCKETS, seed=3)):
        if index == 50:
            before = process.memory_info().rss
        # Every second one is said by a trainer that has joined, whose turn it is.
        peer = with_weights(gang)[0] if index % 2 else Peer(gang)
        sequence = peer.link._sent + 1
        in_order = data[:SEQUENCE_AT] + sequence.to_bytes(8, "little") + data[SEQUENCE_AT + 8 :]
        peer.connection.send(in_order if index % 3 and len(data) > HEADER.size else data)
        peer.close()
    assert process.memory_info().rss - before < 8 * 2**20
    assert len(list(Path("/dev/shm").glob(gang.shm_prefix + "*"))) == 0
    gang.wait_for(lambda: gang.version > version)


def test_garbage_over_real_sockets_crashes_nothing(gang: Gang) -> None:
    chance, version = random.Random(4), gang.version
    for _ in range(300):
        with socket.create_connection(gang.address, 5) as vandal:
            vandal.sendall(chance.randbytes(chance.randrange(1, 500)))
    gang.wait_for(lambda: gang.version > version)


# ---------------------------------------------------------------- telling of it


def test_refusals_are_told_until_there_are_too_many_and_then_counted(tmp_path: Path) -> None:
    now = [0.0]
    reporter = Reporter(tmp_path)
    refusals = Refusals(reporter, clock=lambda: now[0])
    for _ in range(BURST + 30):
        refusals.tell("a connection", "no reason", peer="10.0.0.9:4711")
    assert len(reporter._events) == BURST
    assert reporter._events[0].message == "a connection from 10.0.0.9:4711 was refused: no reason"
    now[0] += 10.0
    refusals.tell("a connection", "no reason")
    assert "30 more" in reporter._events[-1].message
    refusals.tell("a connection", "no reason")
    refusals.close()
    assert reporter._events[-1].data["untold"] == 1
