"""Silence is judged by the observer's own clock, and only while it was looking."""

from __future__ import annotations

from trainhub.watching import BeatWatch


def test_a_beat_that_rises_is_not_silent() -> None:
    watch = BeatWatch()
    for second in range(10):
        watch.look({1: second}, float(second))
    assert watch.silent(2) == []


def test_a_beat_that_stands_still_is_silent_after_the_time_given() -> None:
    watch = BeatWatch()
    for second in range(7):
        watch.look({1: 5, 2: second}, float(second))
        assert list(watch.silent(6)) == ([1] if second == 6 else [])


def test_an_observer_that_blinked_accuses_nobody() -> None:
    watch = BeatWatch(longest_blink_seconds=3)
    watch.look({1: 5}, 0.0)
    watch.look({1: 5}, 60.0)
    assert watch.silent(6) == []
    for second in range(61, 67):
        watch.look({1: 5}, float(second))
    assert watch.silent(6) == [1]


def test_who_is_gone_is_forgotten() -> None:
    watch = BeatWatch()
    watch.look({1: 5}, 0.0)
    watch.look({}, 2.0)
    assert watch.silent(0) == []
