"""Data order and injected delays: functions of (seed, worker, step), and of nothing else."""

from itertools import islice

import numpy as np
import pytest

from workers import spec
from workers.problems.digits import Digits
from workers.trainer.batches import Batches, slice_of, stream
from workers.trainer.delays import Delays


def batches(worker: int = 1, seed: int = 5, examples: int = 103, batch_size: int = 8) -> Batches:
    return Batches(seed=seed, worker=worker, workers=4, examples=examples, batch_size=batch_size)


def test_slices_share_the_examples_without_overlap() -> None:
    slices = [slice_of(w, 4, 103, seed=0) for w in range(4)]
    assert sorted(np.concatenate(slices).tolist()) == list(range(103))


def test_any_batch_can_be_made_again_from_its_number() -> None:
    first = [batches()[n] for n in range(40)]
    assert [batches()[n] for n in reversed(range(40))] == first[::-1]


def test_seed_and_worker_change_the_order() -> None:
    assert batches()[0] != batches(seed=6)[0]
    assert not set(batches()[0]) & set(batches(worker=2)[0])


def test_each_pass_shows_every_example_of_the_slice_once_in_a_new_order() -> None:
    owned = slice_of(1, 4, 103, seed=5)
    seen = [i for n in range(2 * len(owned)) for i in batches(batch_size=1)[n]]
    one, two = seen[: len(owned)], seen[len(owned) :]
    assert sorted(one) == sorted(two) == sorted(owned.tolist())
    assert one != two


def test_a_batch_larger_than_the_slice_goes_round() -> None:
    batch = batches(examples=12, batch_size=7)[0]  # the slice has 3 examples
    assert len(batch) == 7
    assert {batch.count(i) for i in set(batch)} == {2, 3}


@pytest.mark.parametrize("loader_workers", [0, 2])
def test_a_stream_begins_where_it_is_told(loader_workers: int) -> None:
    problem = Digits(spec.Digits(kind="digits"))
    data = problem.dataset("train")
    found = list(islice(stream(data, batches(), 3, problem.collate, loader_workers, 0), 2))
    expected = [data[i][1] for n in (3, 4) for i in batches()[n]]
    assert [label for _, labels in found for label in labels.tolist()] == [int(e) for e in expected]


def test_a_factor_adds_what_is_missing_to_so_many_times_the_time() -> None:
    delays = Delays([spec.FactorDelay(kind="factor", factor=3, workers=[1])], seed=0, worker=1)
    assert delays.seconds(0, 0.5) == 1.0


def test_delays_fall_on_the_trainers_they_name() -> None:
    delay = spec.FactorDelay(kind="factor", factor=3, workers=[1])
    assert not Delays([delay], seed=0, worker=0)
    assert Delays([delay], seed=0, worker=1)


def test_gamma_times_have_the_mean_and_spread_they_should_and_repeat() -> None:
    delays = Delays([spec.GammaDelay(kind="gamma", mean_seconds=0.2, shape=100)], seed=1, worker=2)
    times = [delays.seconds(n, 0.0) for n in range(400)]
    assert np.mean(times) == pytest.approx(0.2, rel=0.02)
    assert np.std(times) == pytest.approx(0.02, rel=0.15)  # mean / sqrt(shape)
    assert delays.seconds(7, 0.0) == times[7]


def test_a_batch_that_took_longer_than_its_gamma_time_waits_for_nothing() -> None:
    delays = Delays([spec.GammaDelay(kind="gamma", mean_seconds=0.2)], seed=1, worker=2)
    assert delays.seconds(0, 5.0) == 0.0
