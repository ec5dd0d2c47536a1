"""Where TrainHub keeps its things on this machine."""

import hashlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path


class ConfigurationError(ValueError):
    """A setting that a person gave is wrong. The text names it."""


def home(environ: Mapping[str, str], beside: Path) -> Path:
    """The one directory of data: database, runs, checkpoints, secrets. Kept between starts."""
    return Path(environ.get("TRAINHUB_HOME") or beside / ".trainhub").expanduser().resolve()


def mark(home: Path) -> str:
    """Eight hex digits that tell this home's sockets, shared memory and cookies from another's."""
    return hashlib.sha256(str(home).encode()).hexdigest()[:8]


def runtime_dir(environ: Mapping[str, str], home: Path) -> Path:
    """Sockets and what ends with the stack. Short, since the path of a socket ends at 107 bytes."""
    if given := environ.get("XDG_RUNTIME_DIR"):
        base = Path(given)
    else:
        base = Path("/run") if os.geteuid() == 0 and os.access("/run", os.W_OK) else Path("/tmp")
    return base / f"trainhub-{mark(home)}"


def node_name(environ: Mapping[str, str]) -> str:
    """What this machine is called among nodes, and in the name of its Celery queue."""
    return environ.get("TRAINHUB_NODE") or socket.gethostname()


def cpu_slots(environ: Mapping[str, str]) -> int:
    """How many children of runs this machine takes at once. More than cores, for asynchrony to be seen on a laptop."""
    given = environ.get("TRAINHUB_CPU_SLOTS")
    if given is None:
        return max(8, 2 * len(os.sched_getaffinity(0)))
    if not given.isdecimal() or int(given) < 1:
        raise ConfigurationError(f"TRAINHUB_CPU_SLOTS must be a whole number of at least 1, got {given!r}")
    return int(given)
