"""Which pass a server takes: the compiled one where it lies ready, tensor code otherwise. Never both in one epoch."""

from __future__ import annotations

from pathlib import Path
from subprocess import SubprocessError

import torch

from workers.kernels import compiling
from workers.kernels.fused import FusedPass, text_of
from workers.server.core import ParameterServer
from workers.server.optimizers import Elementwise

TENSOR_CODE = "rules run as tensor code"


def text(core: ParameterServer) -> str | None:
    """The C++ of a server's rules. None: they can't be fused."""
    return text_of(core.weights, core.rules.optimizer, core.rules.compensation)


def use(core: ParameterServer, path: Path, *, streams: bool | None = None) -> None:
    """Have a server walk by a compiled kernel from its first gradient on. Raises OSError where it can't be loaded.

    `streams`: whether what workers are sent is written past the caches. None: where it pays.
    """
    optimizer = core.rules.optimizer
    assert isinstance(optimizer, Elementwise)
    rules = optimizer, core.rules.compensation
    threads = torch.get_num_threads()
    core.walk = FusedPass(path, core.weights, core.tiling, *rules, threads=threads, streams=streams)


def use_what_is_ready(core: ParameterServer, folder: Path) -> str:
    """Use the kernel in `folder`, or have it made for the next server; returns what was done, for people.

    Compiling takes a second or more, and the first gradient waits for nothing. Whatever goes wrong with a kernel costs
    the kernel, never the run.
    """
    source = text(core)
    if source is None:
        return f"{TENSOR_CODE}: these can't be fused into one loop"
    try:
        path = compiling.find(source, folder)
        if path is not None:
            return _use_or_throw_away(core, path)
        begun = compiling.begin(source, folder)
    except (OSError, SubprocessError) as error:
        return f"{TENSOR_CODE}: {folder} or the C++ compiler can't be used ({error})"
    reason = "a compiled loop is being made for the next server" if begun else "there is no C++ compiler here"
    return f"{TENSOR_CODE}: {reason}"


def _use_or_throw_away(core: ParameterServer, path: Path) -> str:
    try:
        use(core, path)
    except (OSError, AttributeError) as error:  # no library, or one without our function
        path.unlink(missing_ok=True)
        return f"{TENSOR_CODE}: the compiled loop was damaged ({error})"
    return "rules run as one compiled loop"


def use_the_same(core: ParameterServer, kernel: str, folder: Path) -> bool:
    """Make and use the very kernel that a gradient log names. False: this machine makes another one, or none."""
    source = text(core)
    if source is None or compiling.name_of(source) != kernel:
        return False
    path = compiling.build(source, folder)
    if path is None:
        return False
    use(core, path)
    return True
