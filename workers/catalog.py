"""What can be chosen: every method, model and data set, with its label, source and dotted path.

Read by the form, the methods pages, the specification and the engine. No torch here: `path` is imported by
the child that needs it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from workers.spec_errors import Finding
from workers.spec_paths import at

Certainty = Literal["patent", "literature", "reconstruction", "plain"]


@dataclass(frozen=True)
class Entry:
    """One thing a spec may name. `certainty` says what its formula rests on."""

    kind: str
    label: str
    path: str
    source: str = ""
    certainty: Certainty = "plain"
    page: str = ""
    """Where its room's own page does not tell of it: the page of docs/methods that does."""
    takes: tuple[str, ...] = ()
    """What it is made of besides its own part of the spec: `batch_size`, of a push, and `learning_rate`."""

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
    "glyphs": ProblemEntry(
        "glyphs", "Glyphs (very many classes)", "workers.problems.glyphs:Glyphs", metrics=("accuracy", "among_five")
    ),
    "images": ProblemEntry("images", "Uploaded images", "workers.problems.images:Images", metrics=("accuracy",)),
    "table": ProblemEntry("table", "Uploaded table", "workers.problems.tables:Table", metrics=("accuracy", "error")),
    "text": ProblemEntry(
        "text", "Uploaded text", "workers.problems.texts:Text", metrics=("bits_per_character", "accuracy")
    ),
    "ledger": ProblemEntry("ledger", "Ledger (counts updates)", "workers.problems.ledger:Ledger", metrics=("total",)),
}

RATES = _by_kind(
    Entry(
        "constant",
        "Constant",
        "workers.methods.rates.constant:Constant",
        "Dean et al. 2012, Large scale distributed deep networks, section 4.1",
        "literature",
    ),
    Entry(
        "staleness-inverse",
        "Staleness-inverse",
        "workers.methods.rates.staleness_inverse:StalenessInverse",
        "Zhang et al. 2015, arXiv:1511.05950, section 2.4",
        "literature",
    ),
    Entry(
        "balanced",
        "Balanced",
        "workers.methods.rates.balanced:Balanced",
        "CN112861991A/B",
        "reconstruction",
        page="balanced",
    ),
    Entry(
        "balanced-mse",
        "Balanced by mean squared error",
        "workers.methods.rates.balanced_mse:BalancedMse",
        "CN112861991A/B",
        "reconstruction",
        page="balanced",
        takes=("batch_size",),
    ),
    Entry(
        "mean-staleness",
        "Mean staleness",
        "workers.methods.rates.mean_staleness:MeanStaleness",
        "Gupta et al. 2015, arXiv:1509.04210",
        "literature",
    ),
    Entry(
        "delay-adaptive",
        "Delay-adaptive",
        "workers.methods.rates.delay_adaptive:DelayAdaptive",
        "Mishchenko et al. 2022, arXiv:2206.07638",
        "literature",
    ),
    Entry(
        "adadelay",
        "AdaDelay",
        "workers.methods.rates.adadelay:AdaDelay",
        "Sra et al. 2015, arXiv:1508.05003",
        "literature",
    ),
    Entry(
        "ringmaster",
        "Ringmaster",
        "workers.methods.rates.ringmaster:Ringmaster",
        "Maranjyan et al. 2025, arXiv:2501.16168",
        "literature",
    ),
    Entry(
        "window",
        "Sliding-window context",
        "workers.methods.rates.window:WindowRate",
        "CN106779093A",
        "reconstruction",
        page="window",
    ),
)

GATES = _by_kind(
    Entry(
        "async",
        "Asynchronous",
        "workers.methods.gates.asynchronous:Asynchronous",
        "Dean et al. 2012, Large scale distributed deep networks",
        "literature",
    ),
    Entry(
        "softsync",
        "Softsync",
        "workers.methods.gates.softsync:Softsync",
        "Zhang et al. 2015, arXiv:1511.05950, section 2.2; waiting: CN112861991A/B",
        "literature",
    ),
    Entry(
        "sync",
        "Synchronous",
        "workers.methods.gates.sync:Synchronous",
        "Chen et al. 2016, arXiv:1604.00981",
        "literature",
    ),
    Entry(
        "backup",
        "Synchronous with backups",
        "workers.methods.gates.backup:Backup",
        "Chen et al. 2016, arXiv:1604.00981",
        "literature",
    ),
    Entry(
        "ssp",
        "Stale synchronous parallel",
        "workers.methods.gates.ssp:StaleSynchronous",
        "Ho et al. 2013, More effective distributed ML via a stale synchronous parallel parameter server",
        "literature",
    ),
)
COMPENSATIONS = _by_kind(
    Entry(
        "dc-asgd-c",
        "Delay-compensated, constant",
        "workers.methods.compensation.dc_asgd:DcAsgd",
        "Zheng et al. 2016, arXiv:1609.08326, eq. 10",
        "literature",
    ),
    Entry(
        "dc-asgd-a",
        "Delay-compensated, adaptive",
        "workers.methods.compensation.dc_asgd:DcAsgdAdaptive",
        "Zheng et al. 2016, arXiv:1609.08326",
        "literature",
    ),
    Entry(
        "gap-aware",
        "Gap-aware",
        "workers.methods.compensation.gap_aware:GapAware",
        "Barkai et al. 2019, arXiv:1909.10802",
        "literature",
        takes=("learning_rate",),
    ),
    Entry(
        "multi-asgd",
        "Multi-ASGD",
        "workers.methods.compensation.multi_asgd:MultiAsgd",
        "Hakimi et al. 2019, arXiv:1907.11612",
        "literature",
    ),
    Entry(
        "dana-zero",
        "DANA-Zero",
        "workers.methods.compensation.dana_zero:DanaZero",
        "Hakimi et al. 2019, arXiv:1907.11612",
        "literature",
    ),
)
BATCH_NORMS = _by_kind(
    Entry(
        "local",
        "Local",
        "workers.methods.batch_norm.local:LocalBatchNorm",
        "Ioffe & Szegedy 2015, arXiv:1502.03167",
        "literature",
    ),
    Entry(
        "server",
        "Through the server",
        "workers.methods.batch_norm.server:ServerBatchNorm",
        "CN112016699A/B, WO2022042741A1",
        "reconstruction",
        page="server-batch-norm",
    ),
)
OUTERS = _by_kind(
    Entry(
        "local-sgd",
        "Local SGD",
        "workers.methods.outer.local_sgd:LocalSgd",
        "Stich 2018, arXiv:1805.09767",
        "literature",
    ),
    Entry(
        "diloco",
        "DiLoCo",
        "workers.methods.outer.diloco:DiLoCo",
        "Douillard et al. 2023, arXiv:2311.08105, algorithm 1",
        "literature",
    ),
    Entry(
        "easgd",
        "Elastic averaging",
        "workers.methods.outer.easgd:Easgd",
        "Zhang et al. 2014, arXiv:1412.6651",
        "literature",
    ),
    Entry(
        "delayed-nesterov",
        "Delayed Nesterov",
        "workers.methods.outer.delayed_nesterov:DelayedNesterov",
        "Liu et al. 2024, arXiv:2401.09135, algorithm 3",
        "literature",
    ),
)
WAITINGS = _by_kind(
    Entry(
        "candidate",
        "Candidate model",
        "workers.methods.waiting.candidate:Candidate",
        "CN114254756A",
        "reconstruction",
    ),
)


COMPRESSIONS = _by_kind(
    Entry(
        "bf16",
        "16 bits a float (bf16)",
        "workers.methods.compression.bf16:Bf16",
        "Kalamkar et al. 2019, arXiv:1905.12322",
        "literature",
    ),
    Entry(
        "top-k",
        "The largest elements (top-k)",
        "workers.methods.compression.top_k:TopK",
        "Stich et al. 2018, arXiv:1809.07599, algorithm 1; Lin et al. 2018, arXiv:1712.01887",
        "literature",
    ),
)


AVERAGINGS = _by_kind(
    Entry(
        "recent",
        "Mean of recent weights",
        "workers.methods.averaging.recent:RecentMean",
        "Shamir & Zhang 2013, arXiv:1212.1824",
        "literature",
        page="default",
    ),
)


LAYOUTS = _by_kind(
    Entry(
        "hybrid",
        "Hybrid-parallel group",
        "workers.methods.hybrid.softmax:CrossEntropy",
        "CN108460457A; Krizhevsky 2014, arXiv:1404.5997; An et al. 2020, arXiv:2010.05222",
        "reconstruction",
        page="hybrid",
    ),
)


@dataclass(frozen=True)
class Room:
    """Choices of one kind, and the page of docs/methods that tells of them."""

    title: str
    entries: dict[str, Entry]
    page: str

    def page_of(self, entry: Entry) -> str:
        return entry.page or self.page


ROOMS = (
    Room("Gates: who waits for whom", GATES, "gates"),
    Room("Rates: how long a step", RATES, "rates"),
    Room("Compensations: correcting late gradients", COMPENSATIONS, "compensations"),
    Room("Layouts: how a trainer spreads over devices", LAYOUTS, "hybrid"),
    Room("Batch norm", BATCH_NORMS, "local-batch-norm"),
    Room("Waiting: what a trainer does until it is answered", WAITINGS, "candidate"),
    Room("Averaging: which weights are evaluated and exported", AVERAGINGS, "default"),
    Room("Outer optimizers: several local steps in a push", OUTERS, "outer"),
    Room("Compression: what is pushed between hosts", COMPRESSIONS, "compression"),
)


@dataclass(frozen=True)
class Combination:
    """What a choice asks of another field of the spec. A spec without that other field is none of its business."""

    field: str
    values: tuple[str, ...]
    needs: str
    among: tuple[Any, ...]
    because: str

    def refusal(self, spec: object) -> Finding | None:
        """What to tell people, where a spec breaks this."""
        chosen, found = at(spec, self.field), at(spec, self.needs)
        if chosen not in self.values or found is None or found in self.among:
            return None
        allowed = " or ".join(_text(v) for v in self.among)
        return Finding(self.needs, f"must be {allowed}, got {_text(found)}: {self.field} {chosen} {self.because}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


MOMENTUM_OWNERS = ("gap-aware", "multi-asgd", "dana-zero")
OWN_OPTIMIZERS = ("sgd", "adamw")
"""Those that trainers can step by themselves."""
ONE_BY_ONE = ("async", "ssp")
"""Gates where each gradient is an update of its own."""

COMBINATIONS = (
    Combination("compensation.kind", MOMENTUM_OWNERS, "optimizer.kind", ("sgd",), "owns its momentum"),
    Combination("compensation.kind", MOMENTUM_OWNERS, "optimizer.momentum", (0.0,), "owns its momentum"),
    Combination("compensation.kind", MOMENTUM_OWNERS, "gate.kind", ONE_BY_ONE, "moves its momentum with each gradient"),
    Combination("compensation.kind", ("dana-zero",), "rate.kind", ("constant",), "looks ahead by full steps"),
    Combination(
        "compensation.kind", tuple(COMPENSATIONS), "gate.waiting", (True,), "needs the weights a gradient was made on"
    ),
    *(
        Combination(field, kinds, needs, (plain,), "pushes displacements, which the server takes as they are")
        for field, kinds in (("waiting.kind", tuple(WAITINGS)), ("outer.kind", tuple(OUTERS)))
        for needs, plain in (("rate.kind", "constant"), ("compensation.kind", "none"))
    ),
    Combination("waiting.kind", tuple(WAITINGS), "optimizer.kind", OWN_OPTIMIZERS, "steps in the trainers"),
    Combination("outer.kind", tuple(OUTERS), "optimizer.kind", OWN_OPTIMIZERS, "steps in the trainers"),
    Combination("waiting.kind", tuple(WAITINGS), "gate.kind", ("async",), "has waiting.k to say who makes an update"),
    Combination("waiting.kind", tuple(WAITINGS), "outer.kind", ("none",), "pushes at the end of every period"),
    Combination("outer.kind", ("local-sgd", "diloco"), "gate.kind", ("sync",), "takes the mean over all trainers"),
    Combination("outer.kind", ("easgd", "delayed-nesterov"), "gate.kind", ("async",), "takes each push as it comes"),
    Combination("layout.kind", tuple(LAYOUTS), "waiting.kind", ("blocking",), "makes one gradient on all devices"),
    Combination("layout.kind", tuple(LAYOUTS), "outer.kind", ("none",), "makes one gradient on all devices"),
    Combination("rate.kind", ("adadelay",), "schedule.kind", ("constant",), "is a schedule of its own"),
    Combination("rate.kind", ("adadelay",), "schedule.warmup_passes", (0.0,), "is a schedule of its own"),
    Combination("rate.kind", ("window",), "gate.kind", ONE_BY_ONE, "takes each learner's own scale"),
    Combination(
        "transport.compression.kind",
        tuple(COMPRESSIONS),
        "waiting.kind",
        ("blocking",),
        "changes what is pushed, and a candidate reckons with exactly what it pushed",
    ),
    Combination(
        "transport.compression.kind",
        tuple(COMPRESSIONS),
        "outer.kind",
        ("none", "local-sgd", "diloco", "delayed-nesterov"),
        "is for gradients and displacements, and elastic averaging pushes weights",
    ),
    Combination("execution.kind", ("simulate",), "device", ("cpu",), "computes in one slot, on a CPU"),
    Combination("execution.kind", ("simulate",), "evaluation.device", ("cpu",), "computes in one slot, on a CPU"),
)


def metrics_of(problem_kind: str) -> tuple[str, ...]:
    """Metrics a problem reports, where that is known without importing it."""
    entry = PROBLEMS.get(problem_kind)
    return entry.metrics if entry else ()
