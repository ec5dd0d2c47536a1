"""A group's links, tried before it starts."""

from __future__ import annotations

import time

import torch

from workers.assignment import Cause
from workers.devices import HOST, Device
from workers.failures import Failure
from workers.layout import Layout
from workers.methods.hybrid.base import Collectives

TRIED_BYTES = 1 << 20
"""Moved between every two devices, after a first exchange has opened the way."""


def try_links(group: Collectives, layout: Layout, device: Device = HOST) -> float:
    """Move something between all devices; returns the seconds that took. Raises Failure where a device means something
    else by the group's vectors."""
    mine = torch.frombuffer(bytearray(layout.manifest(())), dtype=torch.uint8).to(device.where)
    every = group.exchange([mine] * group.size, [tuple(mine.shape)] * group.size, "links").wait()
    other = [rank for rank, theirs in enumerate(every) if not torch.equal(theirs, mine)]
    if other:
        raise Failure(Cause.ENGINE, f"devices {other} lay the model out in another way than device {group.rank}")
    load = torch.zeros(TRIED_BYTES, dtype=torch.uint8, device=device.where)
    device.settle()
    began = time.perf_counter()
    group.exchange([load] * group.size, [(TRIED_BYTES,)] * group.size, "links").wait()
    device.settle()
    return time.perf_counter() - began
