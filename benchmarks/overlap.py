"""What it saves to send a gradient while it is computed: a CNN of 11 million parameters, 200 MB/s between hosts.

Real children, server and trainer on a core each, TLS between them through a proxy that limits the rate of a connection
(its timers are coarse: the line really carries less). Runs that send early and runs that send behind the backward pass
take turns; a step is the time between two gradients that were applied.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks.children import SERVER_CORE, TRAINER_CORE, assignment, start, stop, wait_for
from benchmarks.report import Row, millis
from benchmarks.slow_line import BYTES_PER_SECOND, address_of
from tests.faulty_link import FaultyLink
from workers.assignment import Role
from workers.spec import RunSpec
from workers.trainer import early
from workers.transport import credentials, tls

ROUNDS, STEPS, WARM_UP = 2, 10, 2
BEHIND = "behind the backward pass"
EARLY = "while it is computed"
NEVER = 1 << 60


def main() -> list[Row]:
    found: dict[str, list[float]] = {BEHIND: [], EARLY: []}
    usual = early.PIECE_FLOATS
    for _ in range(ROUNDS):
        for name, floats in ((BEHIND, NEVER), (EARLY, usual)):
            early.PIECE_FLOATS = floats  # children are forked, and have it from here
            found[name] += _steps()
    early.PIECE_FLOATS = usual
    behind = statistics.median(found[BEHIND])
    return [
        {
            "gradient is sent": name,
            "step": millis(step := statistics.median(steps)),
            "saved": f"{100 * (1 - step / behind):.0f} %",
        }
        for name, steps in found.items()
    ]


def _steps() -> list[float]:
    """Seconds of each step of one run."""
    spec = RunSpec.parse(
        {
            "name": "overlap",
            "problem": {"kind": "python", "target": "benchmarks.problems:LargeCnn"},
            "optimizer": {"kind": "sgd", "learning_rate": 1e-4},
            "workers": 1,
            "batch_size": 16,
            "budget": {"updates": 10_000},
            "evaluation": {"every_passes": 1e6},
            "checkpoints": {"every_seconds": None},
        }
    )
    pair = credentials.make(run=1, epoch=1)
    with tempfile.TemporaryDirectory(prefix="th-") as name:
        folder = Path(name)
        server = start(replace(assignment(spec, folder, Role.SERVER), listen="127.0.0.1", tls=pair.server), SERVER_CORE)
        link = FaultyLink(address_of(folder))
        link.bytes_per_second = BYTES_PER_SECOND
        endpoint = f"{tls.SCHEME}{link.address[0]}:{link.address[1]}"
        mine = replace(assignment(spec, folder, Role.TRAINER), endpoint=endpoint, tls=pair.trainers)
        trainer = start(mine, TRAINER_CORE)
        times = wait_for(folder, WARM_UP + STEPS + 1, [server, trainer])[WARM_UP:]
        stop(server)
        trainer.join()
        link.close()
    return [after - before for before, after in pairwise(times)]
