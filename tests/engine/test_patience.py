"""Looking a while before one sleeps: only after a brief wait, only so long, only where there is a core for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from workers.transport.patience import BRIEF_SECONDS, Patience, cores_for


class Door:
    """Somebody comes at the look of that number; each look takes a tenth of what is brief."""

    def __init__(self, comes_at: int) -> None:
        self.looks, self.now, self._comes_at = 0, 0.0, comes_at

    def clock(self) -> float:
        return self.now

    def look(self, seconds: float) -> Sequence[str]:
        assert seconds == 0.0, "who looks does not wait"
        self.looks += 1
        self.now += BRIEF_SECONDS / 10
        return ["somebody"] if self.looks >= self._comes_at else []


def patience(door: Door, *, last_wait: float, looks: bool = True) -> Patience:
    made = Patience(looks=looks, clock=door.clock)
    made.waited(last_wait)
    return made


def test_after_a_brief_wait_it_looks_until_somebody_comes() -> None:
    door = Door(comes_at=4)
    assert patience(door, last_wait=BRIEF_SECONDS / 2).look(door.look) == ["somebody"]
    assert door.looks == 4


def test_it_gives_up_soon() -> None:
    door = Door(comes_at=1000)
    assert list(patience(door, last_wait=BRIEF_SECONDS / 2).look(door.look)) == []
    assert door.looks == pytest.approx(11, abs=1)


def test_after_a_long_wait_it_sleeps_at_once() -> None:
    door = Door(comes_at=1)
    assert list(patience(door, last_wait=BRIEF_SECONDS * 2).look(door.look)) == []
    assert door.looks == 0


def test_without_a_core_of_its_own_it_always_sleeps_at_once() -> None:
    door = Door(comes_at=1)
    assert list(patience(door, last_wait=0.0, looks=False).look(door.look)) == []
    assert door.looks == 0


def test_who_has_not_waited_yet_sleeps() -> None:
    assert not Patience(looks=True).brief


def test_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert cores_for(4)
    assert not cores_for(5)
