"""The shells between Celery and the turns: parse, call, and let no error out."""

from __future__ import annotations

import logging
from uuid import UUID

from celery import Celery

from shared.doorbell import RUN_MESSAGE
from shared.errors import StoreUnavailable
from worker.turn import Workshop, run_turn

_log = logging.getLogger(__name__)

workshop: Workshop | None = None
"""The process's clients, set when the worker is set up."""


def register(app: Celery) -> None:
    @app.task(name=RUN_MESSAGE)  # type: ignore[untyped-decorator]  # celery is untyped
    def run_message(message_id: str) -> None:
        """A bell: look whether the message is there to be taken."""
        if workshop is None or workshop.leases.is_draining:
            return
        if workshop.streams.silent_s > workshop.settings.lease_s / 2:
            return  # what it can't stream it must not take; the bell is rung again
        try:
            run_turn(workshop, UUID(message_id))
        except StoreUnavailable:
            _log.warning("bell for %s not answered: the database is away", message_id)
        except Exception:
            # the lease runs out, the sweeper counts a try and rings again, or ends the message as worker_lost
            _log.exception("the turn of message %s broke", message_id)
