"""Rings nodes over Celery, in a thread of its own: a dead broker slows doorbells and nothing else."""

from __future__ import annotations

import logging
import queue
import threading

from trainhub.celery import app

log = logging.getLogger(__name__)

EXPIRES_SECONDS = 30
MOST_WAITING = 10_000


class Doorbell:
    """Accepts rings without blocking and sends them one after another."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[int, str]] = queue.Queue(MOST_WAITING)
        self._complained = False
        threading.Thread(target=self._work, name="doorbell", daemon=True).start()

    def ring(self, member_id: int, node: str) -> None:
        try:
            self._waiting.put_nowait((member_id, node))
        except queue.Full:
            log.debug("too many doorbells are waiting; member %s is rung again later", member_id)

    def _work(self) -> None:
        # Celery's own would try again for ever, in silence, with the ring in hand
        connection = app.connection_for_write(transport_options={"max_retries": 1, "interval_max": 0.2})
        while True:
            member_id, node = self._waiting.get()
            try:
                app.send_task(
                    "workers.tasks.supervise",
                    args=[member_id],
                    queue=f"node.{node}",
                    connection=connection,
                    expires=EXPIRES_SECONDS,
                    retry=False,
                    ignore_result=True,
                )
                self._complained = False
            except Exception as error:  # noqa: BLE001  whatever the broker's client raises; agents poll
                connection.release()
                if not self._complained:
                    log.warning("the broker does not answer (%s); nodes find their work by polling", error)
                self._complained = True
