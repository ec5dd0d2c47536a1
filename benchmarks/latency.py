"""How long people wait: from `manage.py up` to the first page, and from a submission to its first applied gradient."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUBMISSIONS = 12
DEADLINE_SECONDS = 60.0

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
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environ = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
        environ |= {"TRAINHUB_HOME": f"{folder}/home", "DJANGO_SETTINGS_MODULE": "trainhub.settings"}
        Path(folder).chmod(0o755)  # the database's own account, when we are root, must reach its data
        first = _start_and_stop(environ)
        again, waits = _start_and_submit(environ)
    warm = sorted(waits[2:])
    return [
        {"what": "up to first page, first start", "seconds": f"{first:.2f}", "bar": ""},
        {"what": "up to first page, installed", "seconds": f"{again:.2f}", "bar": "6"},
        {"what": "warm submission to first gradient, median", "seconds": f"{statistics.median(warm):.2f}", "bar": "1"},
        {"what": "warm submission to first gradient, worst", "seconds": f"{warm[-1]:.2f}", "bar": "1"},
    ]


def _start_and_stop(environ: dict[str, str]) -> float:
    process, seconds = _start(environ)
    _stop(process)
    return seconds


def _start_and_submit(environ: dict[str, str]) -> tuple[float, list[float]]:
    process, seconds = _start(environ)
    try:
        submitted = subprocess.run(
            [sys.executable, "-c", SUBMIT, str(SUBMISSIONS)],
            cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=10 * DEADLINE_SECONDS,
        )  # fmt: skip
    finally:
        _stop(process)
    return seconds, json.loads(submitted.stdout)


def _start(environ: dict[str, str]) -> tuple[subprocess.Popen[bytes], float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "up", f"--port={port}"], env=environ, stdout=subprocess.DEVNULL
    )
    while not _answers(f"http://127.0.0.1:{port}/sign-in/"):
        if process.poll() is not None or time.monotonic() - began > DEADLINE_SECONDS:
            process.kill()
            raise RuntimeError("`manage.py up` did not serve a page")
        time.sleep(0.02)
    return process, time.monotonic() - began


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return bool(page.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE_SECONDS)
