"""The store by which two ends of a session find each other for a `torch.distributed` group.

It is a `torch.distributed.Store` whose traffic goes over the session that the two have already, so that nothing else
listens: there is no TCPStore that a stranger could reach. Each end keeps a copy of all keys; what one sets is sent to
the other at once, and whoever waits for a key reads the session until it is there. No thread is needed, because both
ends are in the rendezvous at the same time, and both leave it together (`finish`).

A message is an operation, a key and a value, of bounded size and number. It is checked before anything is kept of it.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from enum import IntEnum
from typing import NamedTuple, Protocol

from torch._C._distributed_c10d import Store

MESSAGE = struct.Struct("<BHH")
NUMBER = struct.Struct("<q")
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 4096
"""An address of gloo's has 170 bytes, an id of NCCL's 128."""
MAX_KEYS = 64
MAX_MESSAGES = 128
"""That one end sends in a rendezvous; gloo's takes two."""
HOME = 0
"""The rank that counts: only one end may, if every `add` is to give a number of its own."""


class Channel(Protocol):
    """A session between two ends that have shown each other who they are. Messages arrive whole and in order."""

    def send(self, message: bytes) -> None:
        """Raises OSError or what else its session raises when the other end is gone."""
        ...

    def receive(self, seconds: float) -> bytes:
        """The next message. Raises TimeoutError when none comes in time."""
        ...


class StoreError(ValueError):
    """What came is no message of a store, or is one beyond its bounds."""


class Op(IntEnum):
    SET = 1
    DELETE = 2
    ADD = 3  # rank 1 asks rank 0 to count
    SUM = 4  # rank 0's answer
    FINISH = 5  # this end needs nothing more


OPS = frozenset(Op)


class Message(NamedTuple):
    op: int
    key: str
    value: bytes


def encode(op: Op, key: str = "", value: bytes = b"") -> bytes:
    """Raises StoreError for a key or a value beyond the bounds."""
    raw = key.encode()
    _check_sizes(len(raw), len(value))
    return MESSAGE.pack(op, len(raw), len(value)) + raw + value


def decode(data: bytes) -> Message:
    """Raises StoreError."""
    if len(data) < MESSAGE.size:
        raise StoreError(f"a message of {len(data)} bytes is too short")
    op, key_bytes, value_bytes = MESSAGE.unpack_from(data)
    _check_sizes(key_bytes, value_bytes)
    if op not in OPS or len(data) != MESSAGE.size + key_bytes + value_bytes:
        raise StoreError("what came is no message of a store")
    behind_key = MESSAGE.size + key_bytes
    try:
        return Message(op, data[MESSAGE.size : behind_key].decode(), data[behind_key:])
    except UnicodeDecodeError:
        raise StoreError("a key that is no text") from None


def _check_sizes(key_bytes: int, value_bytes: int) -> None:
    if key_bytes > MAX_KEY_BYTES or value_bytes > MAX_VALUE_BYTES:
        raise StoreError(
            f"a key of {key_bytes} and a value of {value_bytes} bytes; the most are {MAX_KEY_BYTES}, {MAX_VALUE_BYTES}"
        )


class SessionStore(Store):
    """One end's store, of rank 0 or 1. All of it fails after `seconds` in which the other end says nothing new."""

    def __init__(self, channel: Channel, rank: int, *, seconds: float) -> None:
        super().__init__()
        self._channel, self._rank, self._seconds = channel, rank, seconds
        self._values: dict[str, bytes] = {}
        self._sums: list[int] = []
        self._heard = 0
        self._finished = False
        self._over = False
        # NCCL's watchdog may look at the store from a thread of its own.
        self._lock = threading.RLock()

    # ------------------------------------------------------------ what torch.distributed calls

    def set(self, key: str, value: str | bytes) -> None:
        raw = value.encode() if isinstance(value, str) else bytes(value)
        with self._lock:
            self._say(Op.SET, key, raw)
            self._keep(key, raw)

    def get(self, key: str) -> bytes:
        self.wait([key])
        return self._values[key]

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Read the session until all keys are there. Raises TimeoutError."""
        deadline = time.monotonic() + (self._seconds if timeout is None else timeout.total_seconds())
        with self._lock:
            while missing := [k for k in keys if k not in self._values]:
                # The other end sets nothing more once it has finished; it still counts, if it is the one that does.
                self._hear(0.0 if self._finished else deadline, f"{', '.join(missing)} did not come")

    def check(self, keys: Sequence[str]) -> bool:
        return all(k in self._values for k in keys)

    def add(self, key: str, amount: int) -> int:
        with self._lock:
            if self._rank == HOME:
                return self._count(key, amount)
            self._say(Op.ADD, key, NUMBER.pack(amount))
            deadline = time.monotonic() + self._seconds
            while not self._sums:
                self._hear(deadline, f"nobody counted {key}")
            return self._sums.pop()

    def delete_key(self, key: str) -> bool:
        with self._lock:
            self._say(Op.DELETE, key)
            return self._values.pop(key, None) is not None

    def num_keys(self) -> int:
        return len(self._values)

    def set_timeout(self, timeout: timedelta) -> None:
        self._seconds = timeout.total_seconds()

    # ------------------------------------------------------------ the session

    def finish(self) -> None:
        """Serve the other end until it needs nothing more either; the session is free again after that."""
        with self._lock:
            self._say(Op.FINISH)
            deadline = time.monotonic() + self._seconds
            while not self._finished:
                self._hear(deadline, "the other end did not finish")
            self._over = True

    def _say(self, op: Op, key: str = "", value: bytes = b"") -> None:
        if self._over:
            raise StoreError("the rendezvous of this store is over")
        self._channel.send(encode(op, key, value))

    def _hear(self, deadline: float, what: str) -> None:
        """Take in one message. Raises TimeoutError, or StoreError for what must not come."""
        left = deadline - time.monotonic()
        if self._over or left <= 0:
            raise TimeoutError(f"{what} in the rendezvous of a group")
        self._heard += 1
        if self._heard > MAX_MESSAGES:
            raise StoreError(f"more than {MAX_MESSAGES} messages in one rendezvous")
        self._take(decode(self._channel.receive(left)))

    def _take(self, message: Message) -> None:
        match message.op:
            case Op.SET:
                self._keep(message.key, message.value)
            case Op.DELETE:
                self._values.pop(message.key, None)
            case Op.ADD if self._rank == HOME:
                total = self._count(message.key, _number(message.value))
                self._channel.send(encode(Op.SUM, message.key, NUMBER.pack(total)))
            case Op.SUM if self._rank != HOME:
                self._sums.append(_number(message.value))
            case Op.FINISH:
                self._finished = True
            case _:
                raise StoreError(f"a {Op(message.op).name} from the wrong end")

    def _keep(self, key: str, value: bytes) -> None:
        if key not in self._values and len(self._values) >= MAX_KEYS:
            raise StoreError(f"more than {MAX_KEYS} keys in one rendezvous")
        self._values[key] = value

    def _count(self, key: str, amount: int) -> int:
        try:
            total = int(self._values.get(key, b"0")) + amount
        except ValueError:
            raise StoreError(f"{key} is no number to add to") from None
        self.set(key, str(total))
        return total


def _number(value: bytes) -> int:
    if len(value) != NUMBER.size:
        raise StoreError("a number has 8 bytes")
    number: int = NUMBER.unpack(value)[0]
    return number
