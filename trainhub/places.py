"""Where TrainHub keeps its things on this machine."""

import contextlib
import hashlib
import os
import secrets
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path


class ConfigurationError(ValueError):
    """A setting that a person gave is wrong. The text names it."""


def home(environ: Mapping[str, str], beside: Path) -> Path:
    """The one directory of data: database, runs, checkpoints, secrets. Kept between starts."""
    return Path(environ.get("TRAINHUB_HOME") or beside / ".trainhub").expanduser().resolve()


def mark(home: Path) -> str:
    """Eight hex digits that tell this home's sockets, shared memory and cookies from another's."""
    return hashlib.sha256(str(home).encode()).hexdigest()[:8]


@cache
def identity(home: Path) -> str:
    """32 hex digits that tell this home from all others, on whatever machine it is looked at; made when first asked.

    Two nodes that read the same here see the same files. A home that was copied has to have its `identity` removed.
    """
    file = home / "identity"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = home / f".identity.{secrets.token_hex(8)}"
    mine.write_text(f"{secrets.token_hex(16)}\n")
    with contextlib.suppress(FileExistsError):  # Of several that make it at once, one links first
        os.link(mine, file)
    mine.unlink()
    return file.read_text().strip()


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


def gpus(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """Numbers of the GPUs that this machine offers, as nvidia-smi counts them. None: all it has; empty: none."""
    given = environ.get("TRAINHUB_GPUS")
    if given is None or given.strip() == "":
        return None
    words = [word.strip() for word in given.split(",")]
    if words == ["none"]:
        return ()
    if not all(word.isdecimal() for word in words):
        raise ConfigurationError(f"TRAINHUB_GPUS must be none, or numbers such as 0,2, got {given!r}")
    return tuple(sorted({int(word) for word in words}))


def trainers_per_gpu(environ: Mapping[str, str]) -> int:
    """How many trainers a GPU takes at once."""
    given = environ.get("TRAINHUB_TRAINERS_PER_GPU", "1")
    if not given.isdecimal() or int(given) < 1:
        raise ConfigurationError(f"TRAINHUB_TRAINERS_PER_GPU must be a whole number of at least 1, got {given!r}")
    return int(given)
