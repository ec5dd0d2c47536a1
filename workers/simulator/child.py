"""The simulation child: a whole run in one process and one slot, reported as a live server reports its own.

It is never restored: what waits in the heap is in no checkpoint. A lost child's successor begins anew, and comes to
the same result, since the log it writes holds nothing of who computes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from workers.assignment import Exit, Outcome
from workers.checkpoint import Meta
from workers.events import Progress
from workers.process import Child
from workers.server import event_log
from workers.server.checkpoints import Checkpointer, meta_of
from workers.server.event_log import EventLog, Header
from workers.simulator.replay import threads
from workers.simulator.reports import Reports
from workers.simulator.simulation import FLUSH_RECORDS, Ending, Simulation

LOG_RECORDS = FLUSH_RECORDS // 4
"""Records that wait for the disk. Fewer than the simulation itself would let wait: it knows no disk that fails."""
TRAINERS_A_SECOND = 32
"""Trainers whose series one second's rows may hold; with more of them, reports are further apart."""


def run(child: Child) -> Exit:
    """Simulate a run to its end."""
    with threads(1):  # as the command does: the last bits of a sum depend on it
        return Simulated(child).play()


class Simulated:
    def __init__(self, child: Child) -> None:
        self._assignment, self._spec = child.assignment, child.spec
        self._reporter, self._stop = child.reporter, child.stop
        self._log = self._begin_log()
        self._simulation = Simulation(child.spec, log=self._log, data=child.data)
        self._started_at = time.time()
        self._reports = Reports(self._simulation, child.reporter, started_at=self._started_at)
        self._simulation.observer = self._reports
        folder = Path(child.assignment.checkpoint_dir)
        self._checkpointer = Checkpointer(self._simulation.run_parts, folder, child.reporter)

    def _begin_log(self) -> EventLog:
        """A log as `trainhub simulate` writes it: its records name no attempt and no epoch but the first."""
        header = Header.here(self._spec, run=self._assignment.run, attempt=1, restored=None)
        return event_log.create(Path(self._assignment.work_dir) / event_log.FILE_NAME, header, attempt=1, epoch=1)

    def play(self) -> Exit:
        simulation, reporter = self._simulation, self._reporter
        trainers = len(simulation.workers)
        reporter.flush_seconds = max(1.0, len(self._reports.shown) / TRAINERS_A_SECOND)
        reporter.watch(self.progress)
        reporter.event(
            "training",
            f"{trainers:,} simulated trainers start" if trainers > 1 else "1 simulated trainer starts",
            trainers=trainers,
            version=0,
            started_at=self._started_at,
        )
        while not self._stop.requested and simulation.turn():
            if self._log.waiting >= LOG_RECORDS:
                self._write_log(self._log.flush)
        return self._finish(simulation.ending or Ending(Outcome.STOPPED, "stopped as asked"))

    def _finish(self, ending: Ending) -> Exit:
        simulation = self._simulation
        if ending.kind:
            self._reporter.event(ending.kind, ending.message, version=simulation.core.version)
        self._write_log(self._log.close)
        self._reports.rate()
        if ending.outcome is Outcome.COMPLETED:
            self._tell_result()
        if ending.outcome is not Outcome.FAILED:
            self._checkpointer.start(self._meta(), final=True)
            self._checkpointer.wait()
        return Exit(ending.outcome, ending.cause, ending.message, simulation.core.version)

    def _tell_result(self) -> None:
        """Evaluate the last version, and give the hashes that every computation of this run comes to."""
        result = self._simulation.result()
        self._reporter.event(
            "simulated",
            f"{result.gradients:,} gradients in {result.seconds:.1f} virtual s; log {result.log_hash[:12]}, "
            f"weights {result.weights_hash[:12]}",
            version=result.version,
            seconds=result.seconds,
            log_hash=result.log_hash,
            weights_hash=result.weights_hash,
            crashes=result.totals.crashes,
        )

    def _write_log(self, write: Callable[[], object]) -> None:
        """A disk that fails costs the log, never the run: its hash goes on without a file."""
        try:
            write()
        except OSError as error:
            self._log.stop_writing()
            self._reporter.warn(f"the gradient log can't be written, so this run can't be replayed: {error}")

    # ------------------------------------------------------------ where it stands

    def progress(self) -> Progress:
        """Called from the reporter's thread: reads numbers, changes nothing."""
        clocks = self._simulation.core.clocks
        steps = {worker: clocks.applied[worker] for worker in sorted(self._reports.shown)}
        return Progress(clocks.version, clocks.gradients, self._simulation.fraction, clocks.refused, steps)

    def _meta(self) -> Meta:
        simulation = self._simulation
        version = simulation.core.version
        metrics = next((e.metrics for e in simulation.evaluations[-1:] if e.version == version), {})
        return meta_of(simulation.core, self._assignment, self._spec, seconds=simulation.seconds, metrics=metrics)
