"""Process groups of `torch.distributed`, made directly and never by `init_process_group`.

A process may have several, and each comes and goes by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch.distributed import ProcessGroupGloo


def gloo(store: Any, rank: int, size: int, *, address: str, timeout: timedelta, threads: int) -> ProcessGroupGloo:
    """Binds a port of its own on that address, for as long as the group lives. Raises RuntimeError where the others do
    not come."""
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    # One device for each group: its port and its threads end with it.
    options._devices = [ProcessGroupGloo.create_device(hostname=address, lazy_init=False)]
    options._timeout = timeout
    options._threads = threads
    return ProcessGroupGloo(store, rank, size, options)


def nccl(store: Any, rank: int, size: int, *, device: torch.device, timeout: timedelta) -> Any:
    """Between GPUs, one for each rank. Raises RuntimeError where the others do not come."""
    from torch.distributed import ProcessGroupNCCL

    torch.cuda.set_device(device)
    options = ProcessGroupNCCL.Options()
    options._timeout = timeout
    group = ProcessGroupNCCL(store, rank, size, options)
    group.eager_connect_single_device(device)
    return group
