"""What a run's points cost to store: points a second, and bytes of PostgreSQL's log and tables for each.

Batches as a supervisor reads them, four for each second of training, stored by the service's own action in its own
database. One kind of run has many series with few points in each batch (ResNet-20 with three trainers: statistics of
every batch-norm layer), the other few series with many (a small model, thousands of gradients a second).
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks import stack
from benchmarks.report import Row

RUNS = {
    "small model, 4 trainers": {"series": 40, "points": 250, "batches": 60},
    "ResNet-20, 3 trainers": {"series": 301, "points": 4, "batches": 150},
}
"""Series of a run, points that each gets in a batch, batches."""

STORE = """
import json, sys, time
import django
django.setup()
import numpy as np
from django.db import connection
from django.utils import timezone
from trainhub.actions import runs, telemetry
from trainhub.actions.access import first_admin
from trainhub.models import Attempt, Member, Run
from workers import events
from workers.spec import RunSpec

owner, project = first_admin()
spec = RunSpec.parse({
    "name": "telemetry", "problem": {"kind": "digits"}, "workers": 4, "budget": {"passes": 1},
    "optimizer": {"kind": "sgd", "learning_rate": 0.1},
})

def number(query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return float(cursor.fetchone()[0])

def measure(series, points, batches):
    run = runs.submit(project=project, owner=owner, spec=spec)
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(state="completed", attempt=1, epoch=1)  # nobody is to train it
    attempt = Attempt.objects.create(run=run, number=1, started_at=now)
    member = Member.objects.create(attempt=attempt, reservation=1, rank=0, role="server", epoch=1, reserved_at=now)
    chance = np.random.default_rng(0)
    log, table = (
        lambda: number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"),
        lambda: number("SELECT pg_total_relation_size('trainhub_serieschunk')"),
    )
    log_before, table_before = log(), table()
    seconds = 0.0
    for batch in range(batches):
        x = np.arange(batch * points + 1, (batch + 1) * points + 1, dtype="<i8").tobytes()
        t = (now.timestamp() + batch / 4 + np.arange(points) / 4 / points).astype("<f8").tobytes()
        told = [
            events.Points(s % 3, f"series/{s}", x, t, chance.normal(size=points).astype("<f8").tobytes())
            for s in range(series)
        ]
        began = time.perf_counter()
        telemetry.store(member, events.Batch(batch + 1, told), telemetry.Position(1, batch + 1))
        seconds += time.perf_counter() - began
    return {"seconds": seconds, "log": log() - log_before, "table": table() - table_before}

print(json.dumps([measure(**run) for run in json.loads(sys.argv[1])]))
"""


def main() -> list[Row]:
    with stack.home() as environ, stack.up(environ) as served:
        found = json.loads(served.python(STORE, json.dumps(list(RUNS.values()))))
    return [_row(name, told) for name, told in zip(RUNS, found, strict=True)]


def _row(name: str, told: dict[str, Any]) -> Row:
    run = RUNS[name]
    points = run["series"] * run["points"] * run["batches"]
    return {
        "run": name,
        "series": run["series"],
        "points": points,
        "points_per_second": round(points / told["seconds"]),
        "ms_a_batch": round(told["seconds"] / run["batches"] * 1e3, 1),
        "log_bytes_a_point": round(told["log"] / points),
        "table_bytes_a_point": round(told["table"] / points),
    }
