"""How long people wait: from `manage.py up` to the first page, and from a submission to its first applied gradient."""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks import stack

SUBMISSIONS = 12

SUBMIT = """
import json, struct, sys, time
import django
django.setup()
from trainhub.actions import runs
from trainhub.actions.access import first_admin
from trainhub.models import Node, Run, SeriesChunk
from workers.spec import RunSpec

owner, project = first_admin()
while not Node.objects.filter(online=True).exists():
    time.sleep(0.05)
waits = []
for _ in range(int(sys.argv[1])):
    spec = RunSpec.parse({
        "name": "latency", "problem": {"kind": "digits"}, "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "workers": 4, "budget": {"updates": 20},
    })
    began = time.time()
    run = runs.submit(project=project, owner=owner, spec=spec)
    while not (run := Run.objects.get(pk=run.pk)).has_ended:
        time.sleep(0.02)
    assert run.state == "completed", (run.cause, run.detail)
    first = SeriesChunk.objects.filter(run=run, key="staleness", first_x=1).get()
    waits.append(struct.unpack_from("<d", first.t)[0] - began)
print(json.dumps(waits))
"""


def main() -> list[dict[str, Any]]:
    with stack.home() as environ:
        with stack.up(environ) as served:
            first = served.seconds
        with stack.up(environ) as served:
            again = served.seconds
            waits = json.loads(served.python(SUBMIT, str(SUBMISSIONS)))
    warm = sorted(waits[2:])
    return [
        {"what": "up to first page, first start", "seconds": f"{first:.2f}", "bar": ""},
        {"what": "up to first page, installed", "seconds": f"{again:.2f}", "bar": "6"},
        {"what": "warm submission to first gradient, median", "seconds": f"{statistics.median(warm):.2f}", "bar": "1"},
        {"what": "warm submission to first gradient, worst", "seconds": f"{warm[-1]:.2f}", "bar": "1"},
    ]
