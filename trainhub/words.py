"""A run's choices and numbers in words, the same in pages, API and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers import catalog

SIGNS = {"max": "≥", "min": "≤"}
GATE_NUMBERS = {"c": "{} of {}", "extra": "{}: {}", "bound": "{}, {} rounds apart at most"}


def budget(spec: dict[str, Any]) -> str:
    """When the run stops: `40 passes, or until accuracy ≥ 0.97`."""
    limits = spec.get("budget", {})
    parts = []
    if limits.get("passes"):
        parts.append(_counted(limits["passes"], "pass", "passes") + " over the data")
    if limits.get("updates"):
        parts.append(_counted(limits["updates"], "update", "updates"))
    if limits.get("seconds"):
        parts.append(duration(limits["seconds"]) + (" of virtual time" if simulated(spec) else " of training"))
    if target := limits.get("target"):
        parts.append(f"until {target['metric']} {SIGNS[target['direction']]} {target['value']:g}")
    return ", or ".join(parts)


OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW", "muon": "Muon"}


def method(spec: dict[str, Any]) -> str:
    """How it trains: `Softsync of 4, SGD with momentum, balanced rate, batch norm through the server`.

    What every run does that chooses nothing, no compensation and local batch norm, goes without saying.
    """
    optimizer = spec.get("optimizer", {})
    name = OPTIMIZERS.get(optimizer.get("kind", ""), optimizer.get("kind", ""))
    if name == "SGD" and optimizer.get("nesterov"):
        name = "Nesterov SGD"
    elif name == "SGD" and optimizer.get("momentum"):
        name = "SGD with momentum"
    own = _own_steps(spec)
    parts = [
        own or _gate(spec.get("gate", {})),
        name,
        "" if own else _chosen(catalog.RATES, spec.get("rate"), "{} rate"),
        _chosen(catalog.COMPENSATIONS, spec.get("compensation"), "{} compensation", silent="none"),
        _chosen(catalog.BATCH_NORMS, spec.get("batch_norm"), "batch norm {}", silent="local"),
        _chosen(catalog.AVERAGINGS, spec.get("averaging"), "{}", silent="none"),
        _groups(spec.get("layout", {})),
    ]
    return ", ".join(p for p in parts if p)


def _groups(layout: dict[str, Any]) -> str:
    """`hybrid-parallel groups of 2 devices`. Empty: each trainer is one device."""
    return f"hybrid-parallel groups of {layout['shards']} devices" if layout.get("kind") == "hybrid" else ""


def _own_steps(spec: dict[str, Any]) -> str:
    """How trainers step by themselves: `Candidate model, 2 at a time`, `DiLoCo of 10 steps`. Empty: they don't."""
    waiting, outer = spec.get("waiting") or {}, spec.get("outer") or {}
    if waiting.get("kind") in catalog.WAITINGS:
        label = catalog.WAITINGS[waiting["kind"]].label
        return f"{label}, {waiting['k']} at a time" if waiting.get("k") else label
    if outer.get("kind") in catalog.OUTERS:
        return f"{catalog.OUTERS[outer['kind']].label} of {outer.get('steps', 1)} steps"
    return ""


def _gate(chosen: dict[str, Any]) -> str:
    """A gate with its number: `Softsync of 4`, `Synchronous with backups: 1`."""
    entry = catalog.GATES.get(chosen.get("kind", ""))
    label = entry.label if entry else str(chosen.get("kind", ""))
    for option, form in GATE_NUMBERS.items():
        if option in chosen:
            return form.format(label, chosen[option])
    return label


def _chosen(room: Mapping[str, catalog.Entry], chosen: dict[str, Any] | None, form: str, *, silent: str = "") -> str:
    """A choice in the middle of a sentence. Empty: there is none, or it is what goes without saying."""
    kind = (chosen or {}).get("kind", "")
    if kind in {"", silent}:
        return ""
    entry = room.get(kind)
    label = _within_a_sentence(entry.label if entry else kind)
    return label if "compensat" in label else form.format(label)


def _within_a_sentence(label: str) -> str:
    """`Delay-compensated, constant` becomes `delay-compensated (constant)`; names such as `DANA-Zero` stay."""
    label, _, variant = label.partition(", ")
    if label.split(" ")[0][1:].islower():
        label = label[:1].lower() + label[1:]
    return f"{label} ({variant})" if variant else label


MODELS = {"mlp": "MLP", "cnn": "CNN", "resnet18": "ResNet-18", "resnet20": "ResNet-20", "transformer": "Transformer"}


def problem(spec: dict[str, Any]) -> str:
    """What it learns, by the data set's name where it has one: `Handwritten digits, CNN`, `shapes, ResNet-20`."""
    chosen = spec.get("problem", {})
    entry = catalog.PROBLEMS.get(chosen.get("kind", ""))
    named = chosen.get("dataset") or (entry.label if entry else "")
    label = str(named or chosen.get("name") or chosen.get("target") or chosen.get("kind", ""))
    model = (chosen.get("model") or {}).get("kind")
    return f"{label}, {MODELS.get(model, model)}" if model else label


def trainers(spec: dict[str, Any]) -> str:
    """`4 trainers`, `2 to 6 trainers`, `64 simulated trainers`."""
    wanted = spec.get("workers", {})
    if isinstance(wanted, int):
        wanted = {"min": wanted, "max": wanted}
    least, most = wanted.get("min", 0), wanted.get("max", 0)
    if simulated(spec):
        return _counted(most, "simulated trainer", "simulated trainers")
    if least == most:
        return _counted(most, "trainer", "trainers")
    return f"{least} to {most} trainers"


def labels(given: Mapping[str, Any], axes: Sequence[str]) -> str:
    """What tells a run from the others of its experiment: `gate softsync, seed 3`."""
    return ", ".join(f"{axis} {label(given[axis])}" for axis in axes if axis in given)


def label(value: Any) -> str:
    """One label's value: `0.05`, `yes`, `none`."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def cause(code: str) -> str:
    """Why something ended, from its code: `node lost`."""
    return code.replace("-", " ")


def size(size_bytes: int) -> str:
    """`512 B`, `1.1 MiB`, as the pages' JavaScript has it."""
    amount, units = float(size_bytes), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while amount >= 1024 and unit != "TiB":
        amount, unit = amount / 1024, next(units)
    return f"{size_bytes} B" if unit == "B" else f"{amount:.1f} {unit}"


def simulated(spec: dict[str, Any]) -> bool:
    """Whether a virtual clock stands in for real trainers."""
    return bool((spec.get("execution") or {}).get("kind") == "simulate")


def duration(seconds: float) -> str:
    """`850 ms`, `12 s`, `3 min 05 s`, `2 h 07 min`, `3 d 4 h`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def _counted(number: float, one: str, many: str) -> str:
    return f"{number:,g} {one if number == 1 else many}" if number < 1e6 else f"{number:,.0f} {many}"


def spelt(metric: str) -> str:
    """A metric's name as people write it: `among_five` → `among five`."""
    return metric.replace("_", " ")
