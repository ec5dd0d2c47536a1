"""One run for each method whose server or trainers keep vectors of their own."""

from __future__ import annotations

from typing import Any

PLAIN = {"optimizer": {"kind": "sgd", "learning_rate": 0.02}}
"""For methods that bring their own momentum."""
FULL = {"rate": {"kind": "constant"}}
THREE = {"steps": 3}

RULES: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": {"kind": "sgd", "learning_rate": 0.02, "momentum": 0.9, "nesterov": True}},
    "adamw": {"optimizer": {"kind": "adamw", "learning_rate": 0.005, "weight_decay": 0.01}},
    "muon": {"optimizer": {"kind": "muon", "learning_rate": 0.02}, "averaging": {"kind": "recent"}},
    "dc-asgd-c": {"compensation": {"kind": "dc-asgd-c"}},
    "dc-asgd-a": {"compensation": {"kind": "dc-asgd-a"}},
    "gap-aware": PLAIN | {"compensation": {"kind": "gap-aware"}},
    "multi-asgd": PLAIN | FULL | {"compensation": {"kind": "multi-asgd"}},
    "dana-zero": PLAIN | FULL | {"compensation": {"kind": "dana-zero"}},
    "softsync": {"gate": {"kind": "softsync", "c": 2, "waiting": False}, "rate": {"kind": "balanced"}},
    "sync": {"gate": {"kind": "sync"}},
    "window": {"rate": {"kind": "window"}, "batch_norm": {"kind": "server"}},
    "easgd": FULL | {"outer": {"kind": "easgd"} | THREE},
    "diloco": FULL | {"outer": {"kind": "diloco"} | THREE, "gate": {"kind": "sync"}},
    "delayed-nesterov": FULL | {"outer": {"kind": "delayed-nesterov"} | THREE},
    "candidate": FULL | {"waiting": {"kind": "candidate"}},
}
