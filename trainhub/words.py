"""A run's choices and numbers in words, the same in pages, API and terminal."""

from __future__ import annotations

from typing import Any

from workers import catalog

SIGNS = {"max": "≥", "min": "≤"}


def budget(spec: dict[str, Any]) -> str:
    """When the run stops: `40 passes, or until accuracy ≥ 0.97`."""
    limits = spec.get("budget", {})
    parts = []
    if limits.get("passes"):
        parts.append(_counted(limits["passes"], "pass", "passes") + " over the data")
    if limits.get("updates"):
        parts.append(_counted(limits["updates"], "update", "updates"))
    if limits.get("seconds"):
        parts.append(duration(limits["seconds"]) + " of training")
    if target := limits.get("target"):
        parts.append(f"until {target['metric']} {SIGNS[target['direction']]} {target['value']:g}")
    return ", or ".join(parts)


def method(spec: dict[str, Any]) -> str:
    """How it trains: `SGD with momentum, staleness-inverse rate`."""
    optimizer = spec.get("optimizer", {})
    name = {"sgd": "SGD", "adamw": "AdamW"}.get(optimizer.get("kind", ""), optimizer.get("kind", ""))
    if optimizer.get("nesterov"):
        name = "Nesterov SGD"
    elif optimizer.get("momentum"):
        name = "SGD with momentum"
    gate = catalog.GATES.get(spec.get("gate", {}).get("kind", ""))
    rate = catalog.RATES.get(spec.get("rate", {}).get("kind", ""))
    parts = [gate.label if gate else "", name, f"{rate.label.lower()} rate" if rate else ""]
    return ", ".join(p for p in parts if p)


def problem(spec: dict[str, Any]) -> str:
    """What it learns: `Handwritten digits, cnn`."""
    chosen = spec.get("problem", {})
    entry = catalog.PROBLEMS.get(chosen.get("kind", ""))
    label = entry.label if entry else str(chosen.get("name") or chosen.get("target") or chosen.get("kind", ""))
    model = (chosen.get("model") or {}).get("kind")
    return f"{label}, {model.upper()}" if model else label


def trainers(spec: dict[str, Any]) -> str:
    wanted = spec.get("workers", {})
    if isinstance(wanted, int):
        wanted = {"min": wanted, "max": wanted}
    least, most = wanted.get("min", 0), wanted.get("max", 0)
    if least == most:
        return _counted(most, "trainer", "trainers")
    return f"{least} to {most} trainers"


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
