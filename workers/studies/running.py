"""Runs a study's cells on several processes, and writes down each as it is finished."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any

from workers.assignment import Cause
from workers.failures import Failure
from workers.spec import RunSpec
from workers.studies.cells import Cell, cells
from workers.studies.plan import Study
from workers.studies.results import Results

AHEAD = 3
"""Cells handed out for each process: what is handed out is computed again after a kill."""


@dataclass(frozen=True)
class Progress:
    """How far a stage is. `seconds`: what one run took so far, on the average; None: none is finished."""

    stage: str
    done: int
    total: int
    seconds: float | None


Watch = Callable[[Progress], None]


def run(study: Study, results: Results, *, jobs: int, watch: Watch | None = None) -> None:
    """Compute what is missing: what tunes first, then the final runs. Raises SpecError, Failure and OSError."""
    results.begin()
    cells(study, results.rows)  # a wrong spec is told of before an hour of computing
    with pool_of(jobs) as pool:
        try:
            for stage in ("tune", "final"):
                found = [c for c in cells(study, results.rows) if c.labels["stage"] == stage]
                _Stage(pool, results, stage, found, jobs, watch).run()
        except BrokenProcessPool:
            message = "a process of the study was lost; start it again, and it goes on where it was"
            raise Failure(Cause.ENGINE, message) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Here(Executor):
    """Computes in this process, at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def pool_of(jobs: int) -> Executor:
    """Processes of one thread each. One job needs none of its own."""
    if jobs == 1:
        return Here()
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_prepare)


class _Stage:
    def __init__(
        self,
        pool: Executor,
        results: Results,
        stage: str,
        found: list[Cell],
        jobs: int,
        watch: Watch | None,
    ) -> None:
        self._pool, self._results, self._name, self._all = pool, results, stage, found
        self._ahead, self._watch = (jobs * AHEAD if jobs > 1 else 1), watch
        self._traced = min((int(c.labels["seed"]) for c in found), default=0)
        """Lines over time are kept of the first seed only: figures show no others."""
        self._waiting: dict[Future[Any], list[Cell]] = {}
        self._took: list[float] = []
        self._left = 0

    def run(self) -> None:
        todo = self._not_yet_run()
        self._left = sum(len(alike) for alike in todo.values())
        self._tell()
        queue = list(todo.values())
        while queue or self._waiting:
            while queue and len(self._waiting) < self._ahead:
                alike = queue.pop(0)
                self._waiting[self._pool.submit(_measure, alike[0].spec.canonical(), alike[0].measures)] = alike
            for future in wait(self._waiting, return_when=FIRST_COMPLETED).done:
                self._finished(self._waiting.pop(future), *future.result())

    def _not_yet_run(self) -> dict[str, list[Cell]]:
        """Cells by run. Those whose run is known under other labels are written down at once."""
        known, done = self._results.runs(), self._results.done
        todo: dict[str, list[Cell]] = {}
        for cell in self._all:
            if cell.key in done:
                continue
            if cell.run in known:
                self._write(cell, {n: v for n, v in known[cell.run].items() if n not in _names(cell)})
            else:
                todo.setdefault(cell.run, []).append(cell)
        return todo

    def _finished(self, alike: list[Cell], columns: dict[str, Any], traces: dict[str, Any]) -> None:
        if any(c.labels["seed"] == self._traced for c in alike):
            self._results.keep_traces(alike[0].run, traces)
        for cell in alike:
            self._write(cell, columns)
        self._took.append(columns["wall_seconds"])
        self._left -= len(alike)
        self._tell()

    def _write(self, cell: Cell, columns: dict[str, Any]) -> None:
        self._results.add({"cell": cell.key, "run": cell.run, **cell.labels, **columns})

    def _tell(self) -> None:
        if self._watch is not None:
            mean = sum(self._took) / len(self._took) if self._took else None
            self._watch(Progress(self._name, len(self._all) - self._left, len(self._all), mean))


def _names(cell: Cell) -> set[str]:
    return {"cell", "run", *cell.labels}


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all in the terminal; the parent ends its children
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"
    from workers.studies import measuring

    measuring.prepare()


def _end_with_the_parent() -> None:
    """A killed parent tells its processes nothing: they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _measure(spec: str, measures: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    from workers.studies import measuring

    columns, traces = measuring.measure(RunSpec.parse_yaml(spec), measures)
    return columns, dict(traces)  # a trace is a pair, to whoever has not loaded torch
