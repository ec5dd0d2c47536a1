"""What a run's specification says of it before anything is measured: which series it will have, how long its delays.

A page keeps a place for each series that is bound to come, so that nothing moves when the first points do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainhub import charts
from trainhub.models import Run
from workers import events

DROPPING = {("gate", "backup"), ("rate", "ringmaster")}


@dataclass(frozen=True)
class MeanDelay:
    """The mean of d + 1 + skip over all gradients, d the staleness: N/c in the long run, whatever the speeds.

    It follows from counting. skip is (version read next) - (version at apply + 1), so one gradient's d + 1 + skip is
    how far the version its trainer reads moved between two reads. Over V versions the N trainers move V each, and V
    versions take c * V gradients. `claimed` is false where not every gradient is applied.
    """

    trainers: int
    group: int
    claimed: bool

    @property
    def versions(self) -> float:
        return self.trainers / self.group

    @property
    def words(self) -> str:
        """`N/c = 8/4 = 2 versions`."""
        sign = "=" if round(self.versions, 2) == self.versions else "≈"
        unit = "version" if self.versions == 1 else "versions"
        return f"N/c = {self.trainers}/{self.group} {sign} {round(self.versions, 2):g} {unit}"


def mean_delay(spec: dict[str, Any], placed: int = 0) -> MeanDelay:
    """`placed` trainers take part where the specification leaves open how many; 0: it is not known yet."""
    trainers = _trainers(spec, placed)
    claimed = not drops(spec) and _kind(spec, "waiting") != "candidate" and not _crashes(spec)
    return MeanDelay(trainers, group_size(spec, trainers), claimed)


def group_size(spec: dict[str, Any], trainers: int) -> int:
    """Gradients that make one update: c."""
    gate, waiting = spec.get("gate") or {}, spec.get("waiting") or {}
    if waiting.get("kind") == "candidate":
        return max(1, min(trainers, int(waiting.get("k") or trainers)))
    sizes = {
        "sync": trainers,
        "softsync": int(gate.get("c", 1)),
        "backup": trainers - int(gate.get("extra", 0)),
    }
    return max(1, min(trainers, sizes.get(_kind(spec, "gate"), 1)))


def drops(spec: dict[str, Any]) -> bool:
    """Whether its gate or its rate rule drops gradients that come late."""
    return any(_kind(spec, room) == kind for room, kind in DROPPING)


def _crashes(spec: dict[str, Any]) -> bool:
    """Whether simulated trainers are lost on purpose, and what they were at with them."""
    return bool((spec.get("execution") or {}).get("faults"))


def series(run: Run) -> set[str]:
    """Series whose charts have a place on the run's page: those it has, and while it goes on those it will have.

    A series of each batch-norm layer is named by its pattern, as in `workers.events`.
    """
    found = {_pattern(key) for key in charts.keys_of(run.pk)}
    return found if run.has_ended else found | _promised(run.spec)


def _promised(spec: dict[str, Any]) -> set[str]:
    conditions = {
        events.MEAN_DELAY: True,
        events.BATCH_NORM_SHIFT: True,
        events.SCALE_SUM: group_size(spec, _trainers(spec, 0)) > 1,
        events.CONTEXT: _kind(spec, "rate") == "window",
        events.DROPPED: drops(spec),
        events.CANDIDATES: _kind(spec, "waiting") == "candidate",
        events.DRIFT: _steps_by_themselves(spec),
    }
    return {key for key, expected in conditions.items() if expected}


def scales_differ(spec: dict[str, Any]) -> bool:
    """Whether its rate rule gives gradients scales of their own, that say more than the learning rate does."""
    return _kind(spec, "rate") not in {"", "constant"}


def in_groups(spec: dict[str, Any]) -> bool:
    """Whether its trainers are machine groups of real devices, which tell of themselves."""
    return _kind(spec, "layout") == "hybrid" and _kind(spec, "execution") != "simulate"


def _steps_by_themselves(spec: dict[str, Any]) -> bool:
    return _kind(spec, "waiting") == "candidate" or _kind(spec, "outer") not in {"", "none"}


def _pattern(key: str) -> str:
    if not key.startswith("batch_norm/"):
        return key
    return "batch_norm/{}/" + key.rpartition("/")[2]


def _trainers(spec: dict[str, Any], placed: int) -> int:
    wanted = spec.get("workers", 1)
    least, most = (wanted["min"], wanted["max"]) if isinstance(wanted, dict) else (wanted, wanted)
    return max(1, int(most if least == most or not placed else placed))


def _kind(spec: dict[str, Any], room: str) -> str:
    return str((spec.get(room) or {}).get("kind", ""))
