"""A group of devices over gloo, as a program: `python -m tests.engine.gloo_group SIZE KIND`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.failures import Failure
from workers.methods.hybrid.base import Collectives, NoPhases, Slices, all_reduce_max, all_reduce_sum
from workers.methods.hybrid.head import ShardedLinear
from workers.methods.hybrid.softmax import Cut
from workers.trainer.group.companions import Companions, Line
from workers.trainer.group.ends import PeerLost, meet
from workers.trainer.group.in_process import play, room

STEPS, IMAGES, FEATURES, CLASSES = 20, 64, 1024, 512


def sums(end: Collectives) -> str:
    """A hash of sums and maxima of vectors of many lengths, some shorter than the group."""
    digest = hashlib.sha256()
    for length in (1, 3, 7, 1000, 4097):
        own = torch.randn(length, generator=torch.Generator().manual_seed(1000 * end.rank + length))
        digest.update(all_reduce_sum(end, own, "sum").numpy().tobytes())
        digest.update(all_reduce_max(end, own, "max").numpy().tobytes())
    return digest.hexdigest()


def steps(end: Collectives) -> int:
    """The last layer's part of some steps; returns the bytes that this device counted."""
    torch.manual_seed(0)
    dense = nn.Linear(FEATURES, CLASSES)
    images, classes = Slices.even(IMAGES, end.size), Slices.even(CLASSES, end.size)
    layer = ShardedLinear.of(dense, Cut(end, images, classes, NoPhases()))
    mine = images.of(end.rank)
    labels = torch.arange(IMAGES) % CLASSES
    for step in range(STEPS):
        features = torch.randn(IMAGES, FEATURES, generator=torch.Generator().manual_seed(step))[mine].requires_grad_()
        functional.cross_entropy(layer(features), labels[mine]).backward()  # type: ignore[no-untyped-call]
    return sum(end.sent_bytes.values())  # type: ignore[attr-defined]


def formula(size: int) -> int:
    """Bytes of all devices in a step."""
    each = IMAGES // size
    return 4 * size * (size - 1) * (2 * each * FEATURES + 4 * each + each + 1)


def on_the_wire() -> int:
    """Bytes that loopback has carried, as the kernel counts them."""
    [line] = [text for text in Path("/proc/net/dev").read_text().splitlines() if text.strip().startswith("lo:")]
    return int(line.split()[1])


def group(size: int, live: Callable[[Collectives], Any]) -> list[Any]:
    """What `live` returns on each device, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"

        def follow(rank: int, line: Line) -> None:
            line.say({"result": live(meet(meeting, rank=rank, size=size))})
            line.hear()

        others = Companions.fork("the test", size, follow)
        try:
            mine = live(meet(meeting, rank=0, size=size))
            return [mine, *(word["result"] for word in others.hear())]
        finally:
            others.end()


def in_turns(size: int, live: Callable[[Collectives], Any]) -> list[Any]:
    turns, ends = room(size)
    return play(ends, turns, [partial(live, end) for end in ends])


def tell_sums(size: int) -> dict[str, Any]:
    hashes = group(size, sums)
    return {"hashes": hashes, "same": hashes == in_turns(size, sums)}


def tell_step(size: int) -> dict[str, Any]:
    os.system("ip link set lo up")
    before = on_the_wire()
    counted = group(size, steps)
    wire = on_the_wire() - before
    return {"formula": formula(size), "counted": sum(counted) // STEPS, "wire": wire, "steps": STEPS}


def tell_death(size: int) -> dict[str, Any]:
    """The last device is killed while the others wait for it."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"

        def follow(rank: int, line: Line) -> None:
            end = meet(meeting, rank=rank, size=size)
            line.say({"pid": os.getpid()})
            if rank == size - 1:
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                all_reduce_sum(end, torch.ones(8), "sum")
            except PeerLost:
                line.hear()

        others = Companions.fork("the test", size, follow)
        end = meet(meeting, rank=0, size=size)
        pid = others.hear()[-1]["pid"]
        began = time.monotonic()
        try:
            all_reduce_sum(end, torch.ones(8), "sum")
        except PeerLost:
            try:
                others.diagnose()
            except Failure as failure:
                return {"words": str(failure), "pid": pid, "seconds": time.monotonic() - began}
        finally:
            others.end()
    raise AssertionError("nobody noticed")


def tell_watch(size: int) -> dict[str, Any]:
    """The last device is killed while its leader waits for something that would never tell."""

    def follow(rank: int, line: Line) -> None:
        line.say({"pid": os.getpid()})
        line.hear()
        if rank == size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        line.hear()

    others, seen = Companions.fork("the test", size, follow), threading.Event()
    others.hear()
    others.watch(seen.set)
    early = seen.wait(0.2)
    others.say({"die": True})
    noticed = seen.wait(5.0)
    try:
        others.diagnose()
    except Failure as failure:
        return {"early": early, "noticed": noticed, "words": str(failure)}
    finally:
        others.end()
    raise AssertionError("nobody noticed")


def tell_calm(size: int) -> dict[str, Any]:
    """A group that ends in order is not taken for one that lost a device."""
    seen = threading.Event()
    others = Companions.fork("the test", size, lambda rank, line: line.hear() and None)
    others.watch(seen.set)
    others.end()
    return {"noticed": seen.is_set(), "threads": threading.active_count()}


def die(size: int) -> dict[str, Any]:
    """The leader is killed; it prints the processes of its devices before."""

    def follow(rank: int, line: Line) -> None:
        line.say({"pid": os.getpid()})
        line.hear()
        time.sleep(60)

    others = Companions.fork("the test", size, follow)
    print(*(word["pid"] for word in others.hear()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


KINDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "sums": tell_sums,
    "step": tell_step,
    "death": tell_death,
    "watch": tell_watch,
    "calm": tell_calm,
    "leader": die,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(KINDS[sys.argv[2]](int(sys.argv[1]))))
