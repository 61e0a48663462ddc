"""Drives batches, in the sweeper's round: notes what ended, tells operators, sends what may be sent, rings for it.

A worker that has nothing more of a batch to answer sends what may be sent now itself.
"""

from __future__ import annotations

import logging
import time
from typing import Final
from uuid import UUID

from shared import keys, notices
from shared.batches import Sent
from shared.doorbell import Doorbell
from shared.errors import LogUnavailable
from shared.event_log import EventLog
from shared.settings import Settings
from shared.store import Store

_log = logging.getLogger(__name__)

AT_ONCE: Final = 20
"""Items of one transaction, which has their projects locked: short enough for nobody to notice."""
MOST_BELLS_WAITING: Final = 50
"""A worker that has begun goes from one item to the next by itself; bells are there to begin."""


class BatchDriver:
    def __init__(self, store: Store, log: EventLog, doorbell: Doorbell, settings: Settings) -> None:
        self._store = store
        self._log = log
        self._doorbell = doorbell
        self._settings = settings

    def step(self) -> None:
        """What can be done now, for at most a quarter of a lease. Raises `StoreUnavailable`."""
        ends_at = time.monotonic() + self._settings.lease_s / 4
        try:
            for batch in self._store.note_batches():
                self._log.publish(notices.reprocess(batch))
            while time.monotonic() < ends_at:
                sent = self._store.send_batch_items(limit=AT_ONCE, window=self._settings.batch_window)
                if sent is None or not sent.count:
                    break
                if not self._tell(sent):
                    return
            self._ring()
        except LogUnavailable:
            _log.warning("a batch waits: Redis is away")

    def go_on_after(self, message_id: UUID) -> None:
        """Send what this message, which was answered, kept from being sent: nobody has to wait for a sweeper's round.

        Raises `StoreUnavailable`.
        """
        self._store.note_batch_end(message_id)
        sent = self._store.send_batch_items(limit=AT_ONCE, window=self._settings.batch_window)
        if sent is None:
            return  # nothing may be sent, or a sweeper is at it
        try:
            self._tell(sent)
        except LogUnavailable:
            _log.warning("what a batch sent is not told: Redis is away")

    def _tell(self, sent: Sent) -> bool:
        """Ring for what was stuck, and show the others to who watches; False where Redis is away."""
        for bell in sent.bells:
            ring = self._doorbell.ring_builder if bell.builds else self._doorbell.ring
            if not ring(bell.message_id):
                return False
        for message in sent.again:
            self._log.publish(notices.message_made(message), notices.retried(message))
        return True

    def _ring(self) -> None:
        again_s = self._settings.ring_again_s
        room = MOST_BELLS_WAITING - self._log.bells_waiting(keys.BATCH_QUEUE)
        if room > 0:
            for message_id in self._store.ring_batches_for(limit=room, again_s=again_s):
                if not self._doorbell.ring_for_batch(message_id):
                    return
        for message_id in self._store.ring_batch_builders_for(again_s=again_s):
            if not self._doorbell.ring_builder(message_id):
                return
