"""How long lists and charts take with 1,000 runs, and with series of 100 k and of a million points, over real HTTP."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import httpx

from benchmarks import stack
from benchmarks.report import percentile

RUNS = 1000
ASKED = 100
"""Requests each; the first few are not counted."""
WARM_UP = 5
LIST_BAR_MS = 200
FILTERED = "/runs/?state=completed&method=balanced&sort=metric"
CHART_BAR_MS = {100_000: 200, 1_000_000: 100}

FILL = """
import json, sys
import django
django.setup()
import numpy as np
from django.utils import timezone
from trainhub.actions import runs, telemetry
from trainhub.actions.access import first_admin, make_sign_in_link
from trainhub.models import Attempt, Member, Run
from trainhub.submissions import Cell
from workers import events
from workers.spec import RunSpec

count, *lengths = map(int, sys.argv[1:])
owner, project = first_admin()
now = timezone.now()
# One experiment a run, as people make them: an experiment of many would be folded away.
for number in range(count):
    spec = RunSpec.parse({
        "name": f"run {number}", "problem": {"kind": "digits"}, "workers": 4, "budget": {"passes": 30},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1 * (number % 7 + 1)},
        "rate": {"kind": ("constant", "staleness-inverse", "balanced")[number % 3]},
        "tags": [f"night {number % 10}"],
    })
    run = runs.submit(project=project, owner=owner, spec=spec)
    metrics = {"loss": 0.1, "accuracy": 0.9 + number % 100 / 1000, "version": 7}
    Run.objects.filter(pk=run.pk).update(
        state=("completed", "failed", "cancelled")[number % 10 % 3], fraction=1.0, metrics=metrics,
        started_at=now, ended_at=now,
    )

def long_run(length):
    run = Run.objects.order_by("pk").first() if length == lengths[0] else Run.objects.order_by("pk")[1]
    attempt = Attempt.objects.create(run=run, number=1, started_at=now)
    member = Member.objects.create(attempt=attempt, reservation=1, rank=0, role="server", epoch=1, reserved_at=now)
    Run.objects.filter(pk=run.pk).update(attempt=1, epoch=1)
    chance = np.random.default_rng(0)
    y = np.exp(-np.arange(length) / length * 4) + chance.normal(0, 0.02, length)
    spikes, holes = chance.choice(length, 12, replace=False).reshape(2, 6)
    y[spikes], y[holes] = 50.0 + np.arange(6), np.nan
    x, t = np.arange(1, length + 1), now.timestamp() + np.arange(length) * 0.01
    for sequence, first in enumerate(range(0, length, 1000), start=1):
        part = slice(first, first + 1000)
        points = events.Points(
            0, "loss", x[part].astype("<i8").tobytes(), t[part].astype("<f8").tobytes(), y[part].astype("<f8").tobytes()
        )
        progress = events.Progress(int(x[part][-1]), int(x[part][-1]), None, steps={0: 1})
        telemetry.store(member, events.Batch(sequence, [points], progress=progress), telemetry.Position(1, sequence))
    return {"run": run.pk, "length": length, "spikes": sorted(y[spikes].tolist()), "holes": len(holes)}

made = [long_run(length) for length in lengths]
print(json.dumps({"link": make_sign_in_link(owner), "series": made}))
"""


def main() -> list[dict[str, Any]]:
    with stack.home() as environ, stack.up(environ) as served:
        told = json.loads(served.python(FILL, str(RUNS), *map(str, CHART_BAR_MS)))
        with httpx.Client(base_url=served.address, timeout=30, follow_redirects=True) as http:
            http.get(f"/sign-in/{told['link']}/").raise_for_status()
            rows = [
                _row(http, f"list of {RUNS} runs, page", "/runs/", LIST_BAR_MS),
                _row(http, f"list of {RUNS} runs, last page", "/runs/?page=20", LIST_BAR_MS),
                _row(http, f"list of {RUNS} runs, filtered", FILTERED, LIST_BAR_MS),
                _row(http, f"list of {RUNS} runs, REST", "/api/v1/runs?limit=100", LIST_BAR_MS),
                _row(http, f"admin's board of {RUNS} runs", "/admin/", LIST_BAR_MS),
            ]
            for each in told["series"]:
                address = f"/api/v1/runs/{each['run']}/series?key=loss"
                rows.append(
                    _row(http, f"chart of {each['length']:,} points", address, CHART_BAR_MS[each["length"]])
                    | _seen(http, address, each)
                )
    return rows


def _row(http: httpx.Client, what: str, address: str, bar_ms: int) -> dict[str, Any]:
    seconds = []
    for _ in range(WARM_UP + ASKED):
        began = time.perf_counter()
        http.get(address).raise_for_status()
        seconds.append(time.perf_counter() - began)
    counted = seconds[WARM_UP:]
    return {
        "what": what,
        "median_ms": round(statistics.median(counted) * 1e3, 1),
        "p95_ms": round(percentile(counted, 95) * 1e3, 1),
        "bar_ms": bar_ms,
        "seen": "",
    }


def _seen(http: httpx.Client, address: str, injected: dict[str, Any]) -> dict[str, Any]:
    """Whether every spike and every NaN is in the answer."""
    [line] = http.get(address).json()["series"]
    spikes = sum(spike in line["y"] for spike in injected["spikes"])
    holes = sum(y == "NaN" for y in line["y"])
    return {"seen": f"{spikes} of {len(injected['spikes'])} spikes, {holes} of {injected['holes']} NaN"}
