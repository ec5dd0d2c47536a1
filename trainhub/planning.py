"""Asks a child for the plan of a machine group: `workers.planning` loads torch and forks, as no process here does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from workers.spec import RunSpec
from workers.spec_errors import Finding, SpecError

SECONDS = 120
"""A plan takes seconds; a model too large for this machine may take longer."""
ROOT = Path(__file__).resolve().parent.parent
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "TRAINHUB_HOME")
"""What a program needs to start, and no secret."""


class NoPlan(Exception):
    """There is no plan, in words: the problem failed, or took too long."""


def plan(
    spec: RunSpec, *, shards: int | None = None, measured: bool = True, data: Path | None = None
) -> dict[str, Any]:
    """The fields of `workers.planning.Plan`. Raises SpecError where the spec's model can't be cut, and NoPlan."""
    asked = {
        "spec": spec.model_dump(mode="json"),
        "shards": shards,
        "measured": measured,
        "data": None if data is None else str(data.resolve()),
    }
    command = [sys.executable, "-m", "workers.planning"]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    # As for this process itself: what can be imported where it was started can be planned.
    paths = [str(ROOT), environment.get("PYTHONPATH", ""), str(Path.cwd())]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NoPlan(f"a plan took longer than {SECONDS} seconds") from None
    return _answer(done)


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = done.stdout.strip().splitlines()
    try:
        told = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise NoPlan(f"planning failed with status {done.returncode}: {done.stderr[-2000:]}") from None
    if "findings" in told:
        raise SpecError([Finding(**finding) for finding in told["findings"]])
    if "failure" in told:
        raise NoPlan(told["failure"])
    found: dict[str, Any] = told["plan"]
    return found
