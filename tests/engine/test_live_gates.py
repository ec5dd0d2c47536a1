"""Gates and compensations in whole runs of real children."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.harness import TRANSPORTS, Gang, Transport, spec_of
from workers import checkpoint, events
from workers.assignment import SERVER_WORKER, Outcome, Role

WORKING = {"kind": "ledger", "compute_seconds": 0.003}
GATES: dict[str, dict[str, Any]] = {
    "softsync": {"kind": "softsync", "c": 2},
    "softsync at once": {"kind": "softsync", "c": 2, "waiting": False},
    "sync": {"kind": "sync"},
    "backup": {"kind": "backup", "extra": 1},
    "ssp": {"kind": "ssp", "bound": 2},
}


def held(gang: Gang) -> dict[str, Any]:
    [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    return checkpoint.read(Path(event.data["path"]))[0]


@pytest.mark.parametrize("c", [1, 2, 4])
def test_softsync_conserves_staleness_in_integers_and_on_average(tmp_path: Path, c: int) -> None:
    updates = 1200 // c
    changes = {"problem": WORKING, "workers": 4, "budget": {"updates": updates}, "gate": {"kind": "softsync", "c": c}}
    with Gang(spec_of(**changes, optimizer={"kind": "sgd", "learning_rate": float(c)}), tmp_path) as gang:
        assert gang.end().version == updates
        staleness, skip = gang.server.series(events.STALENESS), gang.server.series(events.SKIP)
        terms = {w: staleness[w][1] + 1 + skip[w][1] for w in range(4)}
        assert sum(len(t) for t in terms.values()) == updates * c
        # Each has last read the version its own last gradient made; whoever waits has read that one.
        read = {w: staleness[w][0][-1] + skip[w][1][-1] for w in range(4)}
        assert sum(t.sum() for t in terms.values()) + sum(updates - v for v in read.values()) == 4 * updates
        assert np.concatenate(list(terms.values())).mean() == pytest.approx(4 / c, rel=0.05)
        # What the page is shown says the same.
        assert gang.server.series(events.MEAN_DELAY)[SERVER_WORKER][1][-1] == pytest.approx(4 / c, rel=0.05)
        sums = gang.server.series(events.SCALE_SUM)
        if c > 1:
            assert sums[SERVER_WORKER][0].tolist() == list(range(1, updates))
            assert sums[SERVER_WORKER][1] == pytest.approx(1.0)
        else:
            assert not sums, "the scale of a single gradient is its own series"
        # c gradients of 1/c of a step with rate c: each counts 1.
        assert [int(n) for n in held(gang)["counts"][:4]] == [len(terms[w]) for w in range(4)]
        for x, _ in staleness.values():
            assert (np.diff(x) > 0).all()


def test_sync_is_the_mean_of_all(tmp_path: Path) -> None:
    with Gang(spec_of(workers=4, budget={"updates": 50}, gate=GATES["sync"]), tmp_path) as gang:
        assert gang.end().version == 50
        assert held(gang)["counts"][:4].tolist() == [12.5] * 4
        assert {y.max() for _, y in gang.server.series(events.STALENESS).values()} == {0.0}


def test_backups_that_come_late_are_dropped_and_counted(tmp_path: Path) -> None:
    delays = [{"kind": "factor", "factor": 4, "workers": [3]}]
    changes = {"problem": WORKING, "workers": 4, "gate": GATES["backup"], "delays": delays}
    with Gang(spec_of(**changes, budget={"updates": 60}), tmp_path) as gang:
        assert gang.end().version == 60
        loss = gang.server.series(events.LOSS)
        assert sum(len(x) for x, _ in loss.values()) == 180
        _, dropped = gang.server.series(events.DROPPED)[SERVER_WORKER]
        assert dropped[-1] >= 10
        assert len(loss.get(3, ([],))[0]) < 20


def test_ssp_keeps_fast_trainers_within_its_bound(tmp_path: Path) -> None:
    delays = [{"kind": "factor", "factor": 5, "workers": [0]}]
    changes = {"problem": WORKING, "workers": 3, "gate": GATES["ssp"], "delays": delays}
    with Gang(spec_of(**changes, budget={"updates": 90}), tmp_path) as gang:
        gang.end()
        loss = gang.server.series(events.LOSS)
        clocks, most = dict.fromkeys(range(3), 0), 0
        for _, worker in sorted((int(x), w) for w in range(3) for x in loss[w][0]):
            # Who pushes now has gone on with clocks that were at most 2 apart, and the slowest only moves up.
            clocks[worker] += 1
            most = max(most, max(clocks.values()) - min(clocks.values()))
        assert most == 3
        assert max(clocks.values()) - min(clocks.values()) <= 3


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_killed_trainer_holds_nobody_up_and_its_successor_goes_on(
    tmp_path: Path, name: str, transport: Transport
) -> None:
    changes = {"problem": WORKING, "workers": {"min": 1, "max": 3}, "gate": GATES[name]}
    with Gang(spec_of(**changes, budget={"updates": 600}), tmp_path, transport=transport) as gang:
        gang.wait_for(lambda: gang.version > 20)
        gang.trainers[2].kill()
        seen = gang.version
        gang.wait_for(lambda: gang.version > seen + 30)
        gang.start(Role.TRAINER, 2)
        gang.wait_for(lambda: len(gang.server.events("joined")) == 4)
        word = gang.server.end()
        assert word is not None
        assert (word.outcome, word.version) == (Outcome.COMPLETED, 600)
        steps = gang.server.series(events.LOSS)
        assert max(steps[2][0]) > seen


PLAIN = {"kind": "sgd", "learning_rate": 0.1}
COMPENSATIONS: list[dict[str, Any]] = [
    {"compensation": {"kind": "dc-asgd-c"}, "optimizer": PLAIN},
    {
        "compensation": {"kind": "dc-asgd-a"},
        "optimizer": PLAIN,
        "gate": {"kind": "softsync", "c": 2},
        "rate": {"kind": "balanced"},
    },
    {"compensation": {"kind": "gap-aware", "nesterov": True}},
    {"compensation": {"kind": "multi-asgd"}, "gate": GATES["ssp"]},
    {"compensation": {"kind": "dana-zero"}},
]


@pytest.mark.parametrize("changes", COMPENSATIONS, ids=lambda c: c["compensation"]["kind"])
def test_it_learns_digits_and_goes_on_from_its_checkpoint(tmp_path: Path, changes: dict[str, Any]) -> None:
    learning = {
        "problem": {"kind": "digits", "model": {"kind": "mlp"}},
        "optimizer": {"kind": "sgd", "learning_rate": 0.02},
        "schedule": {"kind": "constant", "warmup_passes": 1},
        "batch_size": 16,
    } | changes
    with Gang(spec_of(**learning, workers=3, budget={"passes": 12}), tmp_path) as gang:
        assert gang.end().outcome is Outcome.COMPLETED
        loss = gang.server.series("evaluation/loss")[SERVER_WORKER][1]
        assert loss[-1] < 0.6 * np.log(10)
        [event] = [e for e in gang.server.events("checkpoint") if e.data["final"]]
    saved = event.data["path"]
    version = event.data["version"]
    budget = {"updates": version + 30}
    with Gang(spec_of(**learning, workers=3, budget=budget), tmp_path, attempt=2, restore=saved) as gang:
        assert gang.end().version == version + 30


RATES: list[dict[str, Any]] = [
    {"kind": "balanced-mse", "kappa": 0.01},
    {"kind": "mean-staleness"},
    {"kind": "delay-adaptive"},
    {"kind": "adadelay", "kappa": 0.1},
    {"kind": "ringmaster", "R": 4},
]


@pytest.mark.parametrize("rate", RATES, ids=lambda r: r["kind"])
def test_every_rate_rule_runs_from_its_spec(tmp_path: Path, rate: dict[str, Any]) -> None:
    with Gang(spec_of(workers=2, rate=rate, budget={"updates": 60}), tmp_path) as gang:
        assert gang.end().version == 60
        scales = np.concatenate([y for _, y in gang.server.series(events.SCALE).values()])
        assert ((scales > 0) & (scales <= 1)).all()
