"""The pieces of `workers.devices` on a real GPU, in processes of their own: the tests' own holds no context."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest
import torch

from tests.gpu.conftest import found
from workers.devices import Cuda
from workers.transport import cuda_ipc
from workers.transport.mirror import Mirror

pytestmark = pytest.mark.timeout(180)
SPAWN = multiprocessing.get_context("spawn")
FLOATS = 8 * 1024 * 1024
LONG = 200


def in_a_process(work: Callable[[str], None]) -> None:
    child = SPAWN.Process(target=work, args=(found()[0].uuid,))
    child.start()
    child.join(120)
    assert child.exitcode == 0


def paged(value: float) -> torch.Tensor:
    """Host memory that starts on a page, as a slot's."""
    return torch.frombuffer(mmap.mmap(-1, 4 * FLOATS), dtype=torch.float32).fill_(value)


def busy(device: torch.device) -> torch.Tensor:
    """Work that a GPU needs a while for."""
    x = torch.ones(4096, 4096, device=device)
    for _ in range(LONG):
        x = (x @ x).clamp_(-1.0, 1.0)
    return x


def give_behind_work(gpu: str) -> None:
    device, host = Cuda(gpu), paged(0.0)
    there = Mirror([host], device)
    there.vectors[0].add_(busy(device.where)[0, 0])  # known only when all of the work is done
    there.give()
    assert bool((host == 1.0).all())


def bring_before_work(gpu: str) -> None:
    device, host = Cuda(gpu), paged(1.0)
    there = Mirror([host], device)
    for number in range(1, 20):
        host.fill_(number)
        there.bring()
        total = there.vectors[0].sum(dtype=torch.float64)
        assert float(total) == number * FLOATS
        device.settle()


def feed_in_order(gpu: str) -> None:
    device = Cuda(gpu)
    feed = device.feed(iter([{"x": torch.full((FLOATS,), float(n)), "n": n} for n in range(12)]))
    for number in range(10):
        batch = next(feed)
        busy(device.where)
        feed.prepare()
        assert batch["n"] == number
        assert float(batch["x"].min()) == float(batch["x"].max()) == number


def pin_again_when_let_go(gpu: str) -> None:
    device, host = Cuda(gpu), paged(1.0)
    for _ in range(3):
        there = Mirror([host], device)
        assert host.is_pinned()
        there.bring()
        device.settle()
        del there
        assert not host.is_pinned()


@pytest.mark.parametrize("work", [give_behind_work, bring_before_work, feed_in_order, pin_again_when_let_go])
def test_copies_keep_their_order(work: Callable[[str], None]) -> None:
    in_a_process(work)


def other_end(gpu: str, line: Connection) -> None:
    device = Cuda(gpu)
    block = cuda_ipc.attach(line.recv_bytes(), FLOATS)
    assert float(block.sum(dtype=torch.float64)) == FLOATS
    block.mul_(busy(device.where)[0, 0] * 3.0)
    device.settle()
    line.send_bytes(b"done")


def first_end(gpu: str) -> None:
    device = Cuda(gpu)
    block = torch.ones(FLOATS, device=device.where)
    for _ in range(2):  # a successor takes the same block over
        mine, theirs = SPAWN.Pipe()
        other = SPAWN.Process(target=other_end, args=(gpu, theirs))
        other.start()
        device.settle()
        mine.send_bytes(cuda_ipc.share(block))
        assert mine.recv_bytes() == b"done"
        assert float(block.sum(dtype=torch.float64)) == 3.0 * FLOATS
        other.join(60)
        assert other.exitcode == 0
        block.fill_(1.0)


def test_two_processes_have_one_block_of_the_gpu() -> None:
    in_a_process(first_end)
