"""Checkpoints of a running server: copied while it stands still for a memcpy, written by a thread of its own."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from workers import checkpoint
from workers.assignment import Assignment, Cause
from workers.checkpoint import OWN, Meta
from workers.failures import Failure
from workers.reporting import Reporter
from workers.server.core import ParameterServer
from workers.server.setup import Run
from workers.spec import RunSpec

WRITE_SECONDS = 120.0
NICENESS = 10
COUNTS = f"{OWN}batch_norm/counts"
"""What a batch-norm rule keeps beside means and variances, which have their names in the model."""


def meta_of(core: ParameterServer, of: Assignment, spec: RunSpec, *, seconds: float, metrics: dict[str, float]) -> Meta:
    """What a checkpoint of this moment is a state of. `metrics` are those of this very version."""
    clocks = core.clocks
    return Meta(
        run=of.run,
        attempt=of.attempt,
        epoch=of.epoch,
        version=clocks.version,
        gradients=clocks.gradients,
        seed=spec.seed,
        steps=list(clocks.steps),
        applied=list(clocks.applied),
        refused=clocks.refused,
        statistics=clocks.statistics,
        optimizer_steps=core.rules.optimizer.steps,
        seconds=seconds,
        metrics=metrics,
        spec=json.loads(spec.canonical()),
    )


class Snapshot:
    """Copies of everything a checkpoint holds, in memory that is used again for the next."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.weights = _on_host(run.core.weights)
        self.buffers = _on_host(run.core.buffers)
        self._state = {name: _on_host(t) for name, t in run.core.vectors().items()}

    def take(self) -> None:
        core = self._run.core
        self.weights.copy_(core.exported)
        self.buffers.copy_(core.buffers)
        for name, tensor in core.vectors().items():
            self._state[name].copy_(tensor)

    @property
    def finite(self) -> bool:
        return all(bool(t.isfinite().all()) for t in (self.weights, self.buffers, *self._state.values()))

    def tensors(self, statistics: int) -> dict[str, Tensor]:
        """All tensors by their names in the file."""
        own = {f"{OWN}{name}": tensor for name, tensor in self._state.items()}
        counts = self.buffers[self._run.layout.buffer_size :]
        if counts.numel():
            own[COUNTS] = counts
        return model_tensors(self._run, self.weights, self.buffers, statistics) | own


def _on_host(vector: Tensor) -> Tensor:
    """Room for a copy in host memory, pinned where it comes from a GPU: twice as fast or more."""
    return torch.empty_like(vector, device="cpu", pin_memory=vector.is_cuda)


def model_tensors(run: Run, weights: Tensor, buffers: Tensor, statistics: int) -> dict[str, Tensor]:
    """The module's state: trained values from the vectors, everything else from the model as it was built."""
    state: dict[str, Tensor] = run.model.state_dict(keep_vars=True)
    named = dict(run.model.named_parameters())
    places = {id(named[s.name]): s for s in run.layout.segments}  # by identity: tied ones have several names
    trained = {name: places[id(t)].of(weights) for name, t in state.items() if id(t) in places}
    kept = {s.name: s.of(buffers) for s in run.layout.statistics}
    counters = {name: torch.tensor(statistics) for name in state if name.rpartition(".")[2] == "num_batches_tracked"}
    return {name: t.detach() for name, t in state.items()} | trained | kept | counters


@dataclass(frozen=True)
class Request:
    meta: Meta
    final: bool


class Checkpointer:
    """Writes checkpoints of one run, one at a time."""

    def __init__(self, run: Run, folder: Path, reporter: Reporter) -> None:
        self._run = run
        self._folder = folder
        self._reporter = reporter
        self._snapshot: Snapshot | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, meta: Meta, *, final: bool = False) -> None:
        """Copy the run's state now, and write it in the background."""
        self.wait()
        if self._snapshot is None:
            self._snapshot = Snapshot(self._run)
        self._snapshot.take()
        request = Request(meta, final)
        self._thread = threading.Thread(target=self._write, args=(self._snapshot, request), name="checkpoint")
        self._thread.daemon = True
        self._thread.start()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._thread is not None:
            self._thread.join(WRITE_SECONDS)
            if self._thread.is_alive():
                raise Failure(Cause.DEADLINE, f"a checkpoint was not on disk after {WRITE_SECONDS:.0f} s")

    def _write(self, snapshot: Snapshot, request: Request) -> None:
        meta = request.meta
        # Linux keeps niceness per thread: training goes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            if not snapshot.finite:
                self._reporter.warn(f"no checkpoint of version {meta.version}: its weights are not finite")
                return
            began = time.monotonic()
            written = checkpoint.write(self._folder, snapshot.tensors(meta.statistics), meta)
        except Exception as error:  # noqa: BLE001 - a thread ends here; training goes on, and people are told
            self._reporter.event(
                "warning", f"no checkpoint of version {meta.version}: {error}", level="error", version=meta.version
            )
            return
        self._reporter.event(
            "checkpoint",
            f"checkpoint of version {meta.version}",
            path=str(written.path),
            sha256=written.sha256,
            size_bytes=written.size_bytes,
            version=meta.version,
            metrics=meta.metrics,
            final=request.final,
            seconds=time.monotonic() - began,
        )


def restore(run: Run, path: Path, *, own_run: int, take: str) -> Meta:
    """Load a checkpoint into a fresh run; returns where that leaves it.

    A run's own checkpoint always gives everything. Another run's gives what `take` says: its weights, with
    clocks at 0, or everything. Raises Failure where the checkpoint does not fit this run's model or optimizer.
    """
    tensors, meta = checkpoint.read(path)
    _load_model(run, checkpoint.model_state(tensors))
    if meta.run != own_run and take == "weights":
        return replace(
            meta, version=0, gradients=0, steps=[], applied=[], refused=0, statistics=0, optimizer_steps=0, seconds=0.0
        )
    _load_optimizer(run, tensors)
    _load_counts(run, tensors)
    _load_clocks(run, meta)
    return meta


def _load_model(run: Run, tensors: Mapping[str, Tensor]) -> None:
    core = run.core
    expected = model_tensors(run, core.weights, core.buffers, 0)
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise _misfit(f"it lacks {missing or 'nothing'} and has {unknown or 'nothing'} beyond this model")
    for name, target in expected.items():
        if target.shape != tensors[name].shape:
            raise _misfit(f"{name} is {list(tensors[name].shape)} there, {list(target.shape)} here")
        target.copy_(tensors[name])
    if core.exported is not core.weights:
        core.exported.copy_(core.weights)  # what a checkpoint calls the model is what was exported


def _load_optimizer(run: Run, tensors: Mapping[str, Tensor]) -> None:
    for name, target in run.core.vectors().items():
        saved = tensors.get(f"{OWN}{name}")
        if saved is None or saved.shape != target.shape:
            raise _misfit(f"it holds no {name} as this run needs it; take its weights only")
        target.copy_(saved)


def _load_counts(run: Run, tensors: Mapping[str, Tensor]) -> None:
    """A run whose batch norm was another has none: then the first message sets the statistics anew."""
    target, saved = run.core.buffers[run.layout.buffer_size :], tensors.get(COUNTS)
    if saved is not None and saved.shape == target.shape:
        target.copy_(saved)


def _load_clocks(run: Run, meta: Meta) -> None:
    clocks = run.core.clocks
    clocks.version, clocks.gradients = meta.version, meta.gradients
    clocks.refused, clocks.statistics = meta.refused, meta.statistics
    # Another number of trainers than then: those that are new start at their slice's beginning.
    clocks.steps[: len(meta.steps)] = meta.steps[: len(clocks.steps)]
    clocks.applied[: len(meta.applied)] = meta.applied[: len(clocks.applied)]
    run.core.rules.optimizer.steps = meta.optimizer_steps
    if run.core.rules.averaging is not None:
        run.core.rules.averaging.updates = meta.version


def _misfit(why: str) -> Failure:
    return Failure(Cause.SPEC, f"start: the checkpoint does not fit this run: {why}")
