"""Keeps this worker's claims alive: a thread and a connection of its own renew all of them in one statement.

The same statement tells which messages were asked to end, so that a cancel arrives even where Redis is away. Renewal stops
when the streams' loop has stopped: a worker that can't stream must not hold messages.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final
from uuid import UUID

from shared import metrics
from shared.errors import StoreUnavailable
from shared.records import Lease
from shared.store import Store

_log = logging.getLogger(__name__)

_SOONER: Final = 6
"""A renewal that the database did not answer is tried again after this part of a heartbeat."""


class Stop(Enum):
    """Why a turn should end before its answer does, by rank: a higher one wins."""

    DRAIN = 1
    CANCEL = 2
    LOST = 3


class Hold:
    """One message that this worker holds. `on_stop` is called once, from any thread, when it should end."""

    def __init__(self, lease: Lease, valid_until: float) -> None:
        self.message_id = lease.message_id
        self.owner = lease.owner
        self.valid_until = valid_until
        self._stop: Stop | None = None
        self._changed = threading.Event()
        self._on_stop: Callable[[], object] | None = None
        self._lock = threading.Lock()

    @property
    def stop_reason(self) -> Stop | None:
        return self._stop

    def is_valid(self) -> bool:
        """Whether the lease holds by this process's clock, which was read before the renewal was sent."""
        return time.monotonic() < self.valid_until and self._stop is not Stop.LOST

    def ask_to_stop(self, reason: Stop) -> None:
        with self._lock:
            if self._stop is not None and self._stop.value >= reason.value:
                return
            self._stop = reason
            on_stop = self._on_stop
        self._changed.set()
        if on_stop is not None:
            on_stop()

    def when_stopped(self, on_stop: Callable[[], object] | None) -> None:
        """Call `on_stop` when the turn should end; at once where it should already. None: nobody."""
        with self._lock:
            self._on_stop = on_stop
            stopped = self._stop is not None
        if stopped and on_stop is not None:
            on_stop()

    def pause(self, seconds: float) -> None:
        """Wait, or less where the turn should end."""
        self._changed.wait(seconds)


class LeaseKeeper:
    def __init__(
        self,
        store: Store,
        process: str,
        *,
        lease_s: float,
        heartbeat_s: float,
        loop_silent_s: Callable[[], float],
    ) -> None:
        """`store` has a connection of its own. `process`: a name that no other process has had.
        `loop_silent_s`: since the streams' loop last came round."""
        self._process = process
        self._claims = itertools.count(1)
        self._store = store
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._loop_silent_s = loop_silent_s
        self._holds: dict[str, Hold] = {}
        """By their claims."""
        self._newest: dict[UUID, Hold] = {}
        """By their messages."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._draining = False
        self._nudged_at = 0.0
        self._thread = threading.Thread(target=self._main, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=5)

    def drain(self) -> None:
        """Ask every turn to hand its message back, those to come too."""
        self._draining = True
        for hold in self._all():
            hold.ask_to_stop(Stop.DRAIN)

    @property
    def count(self) -> int:
        return len(self._holds)

    @property
    def is_draining(self) -> bool:
        return self._draining

    def nudge(self) -> None:
        """Look now: somebody asked a message to end."""
        self._nudged_at = time.monotonic()
        self._wake.set()

    def new_owner(self) -> str:
        """Names one claim in its row: who repeats it, because the answer was lost, is known again."""
        return f"{self._process}/{next(self._claims)}"

    @contextmanager
    def hold(self, lease: Lease, *, claimed_at: float) -> Iterator[Hold]:
        """Keep the lease while the context lasts. `claimed_at`: `time.monotonic` before the claim was sent."""
        hold = Hold(lease, claimed_at + self._lease_s)
        with self._lock:
            older = self._newest.get(lease.message_id)
            self._newest[lease.message_id] = self._holds[lease.owner] = hold
            metrics.RUNNING.set(len(self._holds))
        if older is not None:  # its lease ran out, and this very process took the message again
            older.ask_to_stop(Stop.LOST)
        if self._draining:
            hold.ask_to_stop(Stop.DRAIN)
        if self._nudged_at >= claimed_at:  # it may have been this one that was meant, before it was known here
            self._wake.set()
        try:
            yield hold
        finally:
            with self._lock:
                del self._holds[lease.owner]
                if self._newest.get(lease.message_id) is hold:
                    del self._newest[lease.message_id]
                metrics.RUNNING.set(len(self._holds))

    def _all(self) -> list[Hold]:
        with self._lock:
            return list(self._holds.values())

    def _main(self) -> None:
        wait_s = self._heartbeat_s
        while not self._stopping:
            self._wake.wait(wait_s)
            self._wake.clear()
            wait_s = self._heartbeat_s
            if self._loop_silent_s() > self._lease_s / 2:
                _log.critical("the streams' loop does not come round; leases are not renewed")
                if self._loop_silent_s() > self._lease_s * 2:
                    # nothing in this process can mend a stuck loop: whoever started it starts it again
                    os._exit(70)
                continue
            if self._holds and not self._stopping:
                try:
                    if not self._renew():
                        wait_s = self._heartbeat_s / _SOONER
                except Exception:
                    # this thread must outlive any one renewal: without it every lease of the process runs out
                    _log.exception("leases not renewed")

    def _renew(self) -> bool:
        """Whether the database answered."""
        sent_at = time.monotonic()
        holds = self._all()
        try:
            held = self._store.renew_leases([hold.owner for hold in holds], lease_s=self._lease_s)
        except StoreUnavailable:
            _log.warning("leases not renewed: the database is away")
            return False
        for hold in holds:
            known = held.get(hold.owner)
            if known is None:
                hold.ask_to_stop(Stop.LOST)
                continue
            if known.is_renewed:
                hold.valid_until = sent_at + self._lease_s
            if known.cancel_requested:
                hold.ask_to_stop(Stop.CANCEL)
        return True
