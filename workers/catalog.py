"""What can be chosen: every method, model and data set, with its label, source and dotted path.

Read by the form, the methods pages, the specification and the engine. No torch here: `path` is imported by
the child that needs it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Certainty = Literal["patent", "literature", "reconstruction", "plain"]


@dataclass(frozen=True)
class Entry:
    """One thing a spec may name. `certainty` says what its formula rests on."""

    kind: str
    label: str
    path: str
    source: str = ""
    certainty: Certainty = "plain"

    def load(self) -> Any:
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class ProblemEntry(Entry):
    metrics: tuple[str, ...] = ()


def _by_kind(*entries: Entry) -> dict[str, Entry]:
    return {e.kind: e for e in entries}


PROBLEMS: dict[str, ProblemEntry] = {
    "digits": ProblemEntry("digits", "Handwritten digits", "workers.problems.digits:Digits", metrics=("accuracy",)),
    "ledger": ProblemEntry("ledger", "Ledger (counts updates)", "workers.problems.ledger:Ledger", metrics=("total",)),
}

RATES = _by_kind(
    Entry("constant", "Constant", "workers.methods.rates.constant:Constant"),
    Entry(
        "staleness-inverse",
        "Staleness-inverse",
        "workers.methods.rates.staleness_inverse:StalenessInverse",
        "Zhang et al. 2015, arXiv:1511.05950",
        "literature",
    ),
)

GATES = _by_kind(Entry("async", "Asynchronous", "workers.methods.gates.asynchronous:Asynchronous"))
BATCH_NORMS = _by_kind(Entry("local", "Local", "workers.methods.batch_norm.local:LocalBatchNorm"))


def metrics_of(problem_kind: str) -> tuple[str, ...]:
    """Metrics a problem reports, where that is known without importing it."""
    entry = PROBLEMS.get(problem_kind)
    return entry.metrics if entry else ()
