import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine.channels import SocketChannel, pair
from workers.transport import store
from workers.transport.store import MESSAGE, Op, SessionStore, StoreError, decode, encode


def two_stores(seconds: float = 5.0) -> tuple[SessionStore, SessionStore]:
    home, away = pair()
    return SessionStore(home, 0, seconds=seconds), SessionStore(away, 1, seconds=seconds)


def lone(rank: int, seconds: float = 0.1) -> tuple[SessionStore, SocketChannel]:
    """A store, and the channel's other end in the hands of the test."""
    mine, theirs = pair()
    return SessionStore(mine, rank, seconds=seconds), theirs


def test_what_one_end_sets_the_other_gets() -> None:
    home, away = two_stores()
    home.set("0/0", b"an address")
    assert away.get("0/0") == b"an address"
    assert home.get("0/0") == b"an address"


def test_a_get_waits_for_the_key() -> None:
    home, away = two_stores()
    with ThreadPoolExecutor() as pool:
        coming = pool.submit(away.get, "late")
        home.set("early", b"1")
        assert not coming.done()
        home.set("late", b"2")
        assert coming.result(5) == b"2"


def test_a_get_that_nobody_answers_ends_at_its_deadline() -> None:
    lonely, _ = two_stores(seconds=0.05)
    with pytest.raises(TimeoutError):
        lonely.get("never")


def test_counting_from_both_ends_gives_each_number_once() -> None:
    home, away = two_stores()

    def count(end: SessionStore) -> list[int]:
        numbers = [end.add("ticket", 1) for _ in range(20)]
        end.finish()
        return numbers

    with ThreadPoolExecutor() as pool:
        taken = [pool.submit(count, end) for end in (home, away)]
        assert sorted(taken[0].result(5) + taken[1].result(5)) == list(range(1, 41))


def test_a_deleted_key_is_gone_at_both_ends() -> None:
    home, away = two_stores()
    away.set("key", b"value")
    home.wait(["key"])
    assert home.delete_key("key")
    home.set("marker", b"")
    away.wait(["marker"])
    assert (home.check(["key"]), away.check(["key"])) == (False, False)
    assert not away.delete_key("key")


def test_both_ends_leave_together_and_nothing_is_left_on_the_session() -> None:
    home, away = two_stores()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(home.finish)
        assert not first.done()
        away.finish()
        first.result(5)
    with pytest.raises(StoreError):
        home.set("late", b"")


def test_a_key_that_the_other_end_will_not_set_any_more_is_not_waited_for() -> None:
    end, other = lone(0, seconds=60.0)
    other.send(encode(Op.FINISH))
    with pytest.raises(TimeoutError):
        end.get("never")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="empty"),
        pytest.param(MESSAGE.pack(9, 0, 0), id="no such operation"),
        pytest.param(MESSAGE.pack(Op.SET, 3, 0) + b"key and more", id="longer than it says"),
        pytest.param(MESSAGE.pack(Op.SET, 200, 0) + b"key", id="shorter than it says"),
        pytest.param(MESSAGE.pack(Op.SET, store.MAX_KEY_BYTES + 1, 0) + bytes(300), id="a key beyond the bounds"),
        pytest.param(MESSAGE.pack(Op.SET, 1, store.MAX_VALUE_BYTES + 1) + bytes(4200), id="a value beyond the bounds"),
        pytest.param(MESSAGE.pack(Op.SET, 2, 0) + b"\xff\xfe", id="a key that is no text"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(StoreError):
        decode(message)


def test_mutated_messages_are_refused_or_read_and_nothing_else_happens() -> None:
    whole, chance = encode(Op.SET, "0/0", bytes(170)), random.Random(0)
    refused = 0
    for _ in range(20_000):
        data = bytearray(whole[: chance.randrange(1, len(whole) + 1)])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            decode(bytes(data))
        except StoreError:
            refused += 1
    assert refused > 15_000  # the others are messages of another key or value


def test_more_keys_than_a_rendezvous_needs_are_refused() -> None:
    end, other = lone(0)
    for number in range(store.MAX_KEYS + 1):
        other.send(encode(Op.SET, f"{number}"))
    with pytest.raises(StoreError, match="keys"):
        end.get("never")
    assert end.num_keys() == store.MAX_KEYS


def test_messages_without_end_are_refused() -> None:
    end, other = lone(0)
    for _ in range(store.MAX_MESSAGES + 1):
        other.send(encode(Op.SET, "same"))
    with pytest.raises(StoreError, match="messages"):
        end.get("never")


@pytest.mark.parametrize(("rank", "op"), [(0, Op.SUM), (1, Op.ADD)])
def test_counting_is_only_done_at_home(rank: int, op: Op) -> None:
    end, other = lone(rank)
    other.send(encode(op, "ticket", bytes(8)))
    with pytest.raises(StoreError, match="wrong end"):
        end.get("never")
