import contextlib
import os
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from tests.engine import harness
from tests.engine.channels import SocketChannel, pair
from workers.transport import fabric
from workers.transport.fabric import SERVER, TRAINER, Fabric, FabricLost
from workers.transport.store import Op, encode

LOOPBACK = "127.0.0.1"
LISTENS = "0A"
"""The state in /proc/net/tcp."""
Ends = tuple[Fabric, Fabric]


def meet(address: str = LOOPBACK) -> Ends:
    home, away = pair()
    with ThreadPoolExecutor() as pool:
        server = pool.submit(Fabric.meet, home, SERVER, address=address)
        trainer = pool.submit(Fabric.meet, away, TRAINER, address=address)
        return server.result(10), trainer.result(10)


@pytest.fixture
def ends() -> Iterator[Ends]:
    server, trainer = meet()
    with server, trainer:
        yield server, trainer


def listening_ports() -> set[str]:
    """`ADDRESS:PORT`, in hexadecimal, of all that listens for TCP and belongs to this process."""
    mine = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            mine.add(str(link.readlink()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == LISTENS and f"socket:[{row[9]}]" in mine}


def test_tensors_arrive_to_the_bit_both_ways(ends: Ends) -> None:
    server, trainer = ends
    sent = torch.randn(300_000)
    got = torch.empty_like(sent)
    for source, target in ((server, trainer), (trainer, server)):
        with ThreadPoolExecutor() as pool:
            arrives = pool.submit(target.receive, got.zero_())
            source.send(sent)
            arrives.result(10)
        assert torch.equal(got.view(torch.int32), sent.view(torch.int32))


def test_tensors_arrive_in_the_order_they_were_sent_whatever_they_hold(ends: Ends) -> None:
    server, trainer = ends
    tensors = [torch.arange(5), torch.full((3,), float("nan")), torch.ones(7, dtype=torch.bfloat16)]
    under_way = [trainer.start(t) for t in tensors]
    for tensor in tensors:
        got = torch.empty_like(tensor)
        server.receive(got)
        assert got.dtype == tensor.dtype
        assert torch.equal(got.view(torch.uint8), tensor.view(torch.uint8))
    for sending in under_way:
        sending.wait()


def test_groups_of_one_process_do_not_meet(ends: Ends) -> None:
    others = meet()
    with others[0], others[1]:
        under_way = [ends[1].start(torch.tensor([1.0])), others[1].start(torch.tensor([2.0]))]
        got = torch.empty(1)
        others[0].receive(got)
        assert got.item() == 2.0
        ends[0].receive(got)
        assert got.item() == 1.0
        for sending in under_way:
            sending.wait()


def test_the_only_ports_are_on_the_address_of_the_session_and_go_with_the_group() -> None:
    before = listening_ports()
    server, trainer = meet("127.0.0.2")
    opened = listening_ports() - before
    assert len(opened) == 2  # gloo's, one at each end; no store listens
    assert {port.partition(":")[0] for port in opened} == {"0200007F"}
    server.close()
    trainer.close()
    del server, trainer
    assert listening_ports() == before


def test_the_other_ends_close_is_seen_at_once(ends: Ends) -> None:
    server, trainer = ends
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(server.receive, torch.empty(1000))
        time.sleep(0.1)
        trainer.close()
        with pytest.raises(FabricLost):
            waits.result(10)
    assert time.monotonic() - began < 2.0


def test_a_closed_end_takes_and_gives_nothing(ends: Ends) -> None:
    ends[0].close()
    ends[0].close()
    with pytest.raises(FabricLost):
        ends[0].send(torch.ones(1))
    with pytest.raises(FabricLost):
        ends[0].receive(torch.ones(1))


def test_an_end_that_stands_still_is_given_up(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric, "PATIENCE_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(FabricLost):
        ends[0].receive(torch.empty(10))
    assert 0.1 < time.monotonic() - began < 5.0


def test_strangers_at_the_port_of_a_group_change_nothing() -> None:
    before = listening_ports()
    server, trainer = meet()
    with server, trainer:
        chance = random.Random(0)
        for port in listening_ports() - before:
            for _ in range(50):
                with socket.create_connection((LOOPBACK, int(port.partition(":")[2], 16))) as stranger:
                    stranger.sendall(chance.randbytes(chance.randrange(1, 200)))
        sending = trainer.start(torch.ones(10))
        got = torch.zeros(10)
        server.receive(got)
        sending.wait()
        assert bool((got == 1).all())


def test_a_peer_that_does_not_come_is_not_waited_for_forever() -> None:
    home, _away = pair()
    with pytest.raises(FabricLost):
        Fabric.meet(home, SERVER, address=LOOPBACK, seconds=0.2)


def test_an_address_that_is_none_is_an_error_and_no_crash() -> None:
    home, away = pair()
    for key in ("device/1", "0/1"):
        away.send(encode(Op.SET, key, b"cpu" if key.startswith("device") else bytes(170)))
    with pytest.raises(FabricLost):
        Fabric.meet(home, SERVER, address=LOOPBACK, seconds=0.5)


def _send_without_end(connection: socket.socket) -> None:
    end = Fabric.meet(SocketChannel(connection), TRAINER, address=LOOPBACK)
    while True:
        end.send(torch.ones(25_000_000))


def _killed_in_mid_send(process: BaseProcess, server: Fabric) -> float:
    """Kill the sender while a large tensor is on its way; returns after how many seconds the receiver knows."""
    with ThreadPoolExecutor() as pool:
        got = torch.zeros(25_000_000)
        arrives = pool.submit(server.receive, got)
        while not got[100_000]:
            assert not arrives.done()
            time.sleep(0.0005)
        assert process.pid is not None
        os.kill(process.pid, 9)
        killed = time.monotonic()
        with pytest.raises(FabricLost):
            arrives.result(10)
        assert not got[-1]  # it was really in the middle
        return time.monotonic() - killed


def test_a_killed_peer_is_seen_within_a_fraction_of_a_second() -> None:
    mine, theirs = socket.socketpair()
    process = harness.CONTEXT.Process(target=_send_without_end, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    server = Fabric.meet(SocketChannel(mine), SERVER, address=LOOPBACK)
    with server:
        assert _killed_in_mid_send(process, server) < 1.0
    process.join(10)


def _receive_a_little(connection: socket.socket) -> None:
    end = Fabric.meet(SocketChannel(connection), TRAINER, address=LOOPBACK)
    end.receive(torch.empty(1))
    got = torch.zeros(25_000_000)
    with ThreadPoolExecutor() as pool:
        pool.submit(end.receive, got)
        while not got[100_000]:
            time.sleep(0.0005)
        os.kill(os.getpid(), 9)


def test_a_killed_receiver_is_seen_too() -> None:
    mine, theirs = socket.socketpair()
    process = harness.CONTEXT.Process(target=_receive_a_little, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    with Fabric.meet(SocketChannel(mine), SERVER, address=LOOPBACK) as server:
        server.send(torch.ones(1))
        began = time.monotonic()
        with pytest.raises(FabricLost):
            server.send(torch.ones(25_000_000))
        assert time.monotonic() - began < fabric.PATIENCE_SECONDS
    process.join(10)
    assert process.exitcode == -9


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_gpus_meet_over_nccl() -> None:
    home, away = pair()
    with ThreadPoolExecutor() as pool:
        server = pool.submit(Fabric.meet, home, SERVER, address=LOOPBACK, device="cuda:0")
        trainer = pool.submit(Fabric.meet, away, TRAINER, address=LOOPBACK, device="cuda:1")
        with server.result(60) as one, trainer.result(60) as other:
            assert (one.backend, other.backend) == ("nccl", "nccl")
            got = torch.empty(1000, device="cuda:0")
            arrives = pool.submit(one.receive, got)
            other.send(torch.ones(1000, device="cuda:1"))
            arrives.result(60)
            assert bool((got == 1).all())
