"""Vectors on a device that stand for vectors in host memory, such as those of a hand-over slot.

A child computes with the ones and hands over the others. Copies run on a lane of their own, and nobody is told of a
vector before its copy is complete. Where the host itself computes, they are the same.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workers.devices import HOST, Device
from workers.transport.base import Answer, Report, TrainerSession


def pin_for(owner: object, hosts: Iterable[Tensor], device: Device) -> None:
    """Pin host memory for as long as `owner` is there, which has to have the tensors.

    A slot may be unmapped when nobody has it any more, but not while the device counts on its pages.
    """
    for host in hosts:
        weakref.finalize(owner, device.pin(host)).atexit = False


class Mirror:
    """`vectors` are on the device, in the order of those in host memory, and start out as zeros."""

    def __init__(self, hosts: Sequence[Tensor], device: Device) -> None:
        self._hosts = tuple(hosts)
        self.vectors = tuple(torch.zeros_like(host, device=device.where) for host in hosts)
        pin_for(self, self._hosts, device)
        self._lane = device.lane()

    def bring(self) -> None:
        """Copy from the host; what the device is asked for from now on sees it."""
        self._lane.copy(list(zip(self.vectors, self._hosts, strict=True)))
        self._lane.join()

    def give(self) -> None:
        """Copy to the host, and return when all of it is there."""
        self._lane.copy(list(zip(self._hosts, self.vectors, strict=True)))
        self._lane.wait()


class Same:
    """Vectors that are computed with where they are."""

    def __init__(self, hosts: Sequence[Tensor]) -> None:
        self.vectors = tuple(hosts)

    def bring(self) -> None:
        pass

    def give(self) -> None:
        pass


def mirror(hosts: Sequence[Tensor], device: Device) -> Mirror | Same:
    """What a child on this device computes with in the place of vectors in host memory."""
    return Same(hosts) if device.where == HOST.where else Mirror(hosts, device)


class MirroredSession:
    """A trainer's session whose vectors are on its device, over any session that has them in host memory."""

    def __init__(self, session: TrainerSession, device: Device) -> None:
        self._session = session
        self._incoming = Mirror((session.weights, session.served), device)
        self._outgoing = Mirror((session.gradient, session.buffers), device)
        self.weights, self.served = self._incoming.vectors
        self.gradient, self.buffers = self._outgoing.vectors
        self.constants, self.examples = session.constants, session.examples
        self.memory: int | None = None  # other processes can't map a GPU's

    def push(self, report: Report, *, step: int, scale: float | None = None, gradients: int = 1) -> None:
        began = time.perf_counter()
        self._outgoing.give()
        spent = report.transfer_seconds + time.perf_counter() - began
        self._session.push(replace(report, transfer_seconds=spent), step=step, scale=scale, gradients=gradients)

    def answer(self) -> Answer:
        answer = self._session.answer()
        self._incoming.bring()
        return answer

    def waits(self, seconds: float) -> bool:
        return self._session.waits(seconds)

    def leave(self) -> None:
        self._session.leave()


class SettledSession:
    """A trainer's session whose vectors are on its device and are handed over where they are: what the device was
    asked for is done before anybody hears of it."""

    def __init__(self, session: TrainerSession, device: Device) -> None:
        self._session, self._device = session, device
        self.weights, self.gradient = session.weights, session.gradient
        self.buffers, self.served = session.buffers, session.served
        self.constants, self.examples = session.constants, session.examples
        self.memory = session.memory

    def push(self, report: Report, *, step: int, scale: float | None = None, gradients: int = 1) -> None:
        self._device.settle()
        self._session.push(report, step=step, scale=scale, gradients=gradients)

    def answer(self) -> Answer:
        return self._session.answer()

    def waits(self, seconds: float) -> bool:
        return self._session.waits(seconds)

    def leave(self) -> None:
        self._session.leave()


def on_device(session: TrainerSession, device: Device) -> TrainerSession:
    """The session as a trainer on this device needs it."""
    if session.weights.device != device.where:
        return MirroredSession(session, device)
    return SettledSession(session, device) if device.gpu else session
