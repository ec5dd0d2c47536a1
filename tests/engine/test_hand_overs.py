"""Hand-overs while trainers die in the middle of them; `python -m benchmarks hand-overs` makes a million."""

import pytest

from benchmarks.hand_overs import Death, fire


@pytest.mark.timeout(120)
def test_nothing_is_torn_and_everything_counts_once_under_fire() -> None:
    seen = fire(10_000, lives=(50, 400))
    assert all(seen.deaths[death] > 2 for death in Death), "too few died for this to mean anything"
    assert seen.evaluated > 10
    assert seen.checkpoints > 1
    assert seen.torn == 0
    assert seen.version == 10_000
    # The last ones may die after the end, or be told of it first.
    assert seen.lost <= sum(seen.deaths.values()) <= seen.lost + 4
