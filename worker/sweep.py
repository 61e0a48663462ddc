"""The sweeper: what processes that died left undone. Any number may run.

python -m worker.sweep
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Final
from uuid import UUID

from shared import event_log, keys, logs, metrics, notices, settings, traces
from shared.closing import append_ending, close
from shared.doorbell import Doorbell, make_celery
from shared.engine import make_engine
from shared.errors import LogUnavailable, StoreUnavailable
from shared.event_log import EventLog
from shared.exporter import Exporter
from shared.store import Lapsed, Store
from worker.batches import BatchDriver

_log = logging.getLogger("worker.sweep")  # run as a module, its name would be another

BATCH: Final = 100
MOST_BELLS_WAITING: Final = 50
"""Bells that nobody answered yet: with as many, workers have no room, and more would only lengthen the queue."""
ENDING_AGE_S: Final = 2.0
"""Its committer has as long to append an ending itself."""


class Sweeper:
    def __init__(
        self,
        store: Store,
        log: EventLog,
        doorbell: Doorbell,
        read: settings.Settings,
        *,
        bells: EventLog | None = None,
    ) -> None:
        """`bells`: where these wait, if that is not the log's Redis."""
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._store = store
        self._log = log
        self._bells = bells or log
        self._doorbell = doorbell
        self._settings = read
        self._batches = BatchDriver(store, log, doorbell, read)
        self._healthy_since: float | None = None
        self._answered_at = 0.0

    def sweep(self) -> None:
        """One round. Raises `StoreUnavailable`."""
        try:
            self._store.sweeper_came_round(self._name)
        except StoreUnavailable:
            self._healthy_since = None
            raise
        self._note_answer(time.monotonic())
        # what fails from here on need not be the database's health: one question may wait for a lock, or take too long
        redis_is_up = self._redis_is_up()
        if self._may_take_lapsed():
            self._take_lapsed(tell=redis_is_up)
        self._close_abandoned(self._log if redis_is_up else None)
        if redis_is_up:
            self._append_endings()
        if redis_is_up or self._bells is not self._log:
            self._ring()
            self._batches.step()

    def _note_answer(self, now: float) -> None:
        """Where the database was silent, or this process stopped, the workers get a whole lease to renew what is theirs."""
        longest_gap_s = max(self._settings.lease_s / 2, 3 * self._settings.sweep_s)
        if self._healthy_since is None or now - self._answered_at > longest_gap_s:
            self._healthy_since = now
        self._answered_at = now

    def _may_take_lapsed(self) -> bool:
        return self._healthy_since is not None and time.monotonic() - self._healthy_since >= self._settings.lease_s

    def _redis_is_up(self) -> bool:
        try:
            self._log.ping()
        except LogUnavailable:
            return False
        return True

    def _take_lapsed(self, *, tell: bool) -> None:
        """All of them, however many workers died at once: none has longer to wait than a round."""
        taken = BATCH
        while taken == BATCH:
            lapsed = self._store.take_lapsed(limit=BATCH)
            taken = len(lapsed)
            for one in lapsed:
                metrics.ATTEMPTS_LOST.add()
                _log.warning("message %s lost its worker in attempt %d", one.message_id, one.attempt)
                tell = tell and self._tell_of(one)

    def _tell_of(self, lapsed: Lapsed) -> bool:
        """False where Redis is away: operators see the next attempt's start."""
        told = notices.attempt_over(
            "lost",
            message_id=lapsed.message_id,
            project_id=lapsed.project_id,
            attempt=lapsed.attempt,
            tries=lapsed.tries,
            model=lapsed.model,
        )
        try:
            self._log.publish(told)
        except LogUnavailable:
            return False
        return True

    def _close_abandoned(self, log: EventLog | None) -> None:
        began_at = time.monotonic()
        for found in self._store.to_close(limit=BATCH, max_tries=self._settings.max_tries):
            try:
                if close(self._store, log, found) is not None and log is not None:
                    self._ring_for_next(found.project_id)
            except StoreUnavailable:
                raise
            except Exception:
                # one message that cannot be closed must not keep the others from it
                _log.exception("message %s could not be closed", found.message_id)
            if time.monotonic() - began_at > self._settings.lease_s / 4:
                return  # the rest has its turn in the next round, after the leases

    def _ring_for_next(self, project_id: UUID) -> None:
        following = self._store.next_in_line(project_id)
        if following is not None:
            self._doorbell.ring(following)

    def _append_endings(self) -> None:
        for ending in self._store.endings_to_append(limit=BATCH, older_than_s=ENDING_AGE_S):
            try:
                if not append_ending(self._store, self._log, ending):
                    return  # Redis is away: the rest would fail too
            except StoreUnavailable:
                raise
            except Exception:
                # one ending that cannot be read must not keep the others, and the bells, from their turn
                _log.exception("the ending of message %s could not be appended", ending.message_id)

    def _ring(self) -> None:
        again_s = self._settings.ring_again_s
        try:
            room = MOST_BELLS_WAITING - self._bells.bells_waiting(keys.INTERACTIVE_QUEUE)
            builders_room = MOST_BELLS_WAITING - self._bells.bells_waiting(keys.BUILDS_QUEUE)
        except LogUnavailable:
            return
        if room > 0:
            for message_id in self._store.ring_for(limit=room, again_s=again_s):
                if not self._doorbell.ring(message_id):
                    return
        if builders_room > 0:
            for message_id in self._store.ring_builders_for(limit=builders_room, again_s=again_s):
                if not self._doorbell.ring_builder(message_id):
                    return


def main() -> None:
    try:
        read = settings.load(os.environ)
    except settings.InvalidSettings as error:
        print(f"chatrelay sweeper: the settings are wrong\n{error}", file=sys.stderr)
        raise SystemExit(2) from None
    logs.configure("sweeper", style=read.log_format, level=read.log_level)
    logs.catch_what_nobody_caught()
    traces.start("sweeper", os.environ, wanted=read.traces)
    redis_url = read.redis_url.get_secret_value()
    store = Store(make_engine(read.database_url.get_secret_value(), pool_size=2, application="sweeper"))
    metrics.know(models=read.models)
    Exporter(store).serve(read.metrics_port)
    sweeper = Sweeper(
        store,
        EventLog(event_log.connect(redis_url), retention_s=read.log_retention_s),
        Doorbell(make_celery(read.bells_url)),
        read,
        bells=EventLog(event_log.connect(read.bells_url)) if read.broker_url else None,
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    _log.info("sweeping every %.1f s", read.sweep_s)
    while not stopping.is_set():
        try:
            sweeper.sweep()
        except StoreUnavailable:
            _log.warning("the database is away")
        except Exception:
            _log.exception("a round of the sweeper failed")
        stopping.wait(read.sweep_s)
    traces.stop()


if __name__ == "__main__":
    main()
