"""The shells between Celery and the turns: parse, call, and let no error out."""

from __future__ import annotations

import logging
from uuid import UUID

from celery import Celery, current_task

from shared.doorbell import BUILD_COMPONENT, RUN_MESSAGE
from shared.errors import StoreUnavailable
from worker import telling
from worker.build import run_build
from worker.compiler import Compiler
from worker.held import Workshop
from worker.turn import run_turn

_log = logging.getLogger(__name__)

workshop: Workshop | None = None
"""The process's clients, set when the worker is set up."""

compiler: Compiler | None = None
"""A builder's, set with its clients."""


def register(app: Celery) -> None:
    @app.task(name=RUN_MESSAGE)  # type: ignore[untyped-decorator]  # celery is untyped
    def run_message(message_id: str) -> None:
        """A bell: look whether the message is there to be taken."""
        if workshop is None or workshop.leases.is_draining:
            return
        if workshop.streams.silent_s > workshop.settings.lease_s / 2:
            return  # what it can't stream it must not take; the bell is rung again
        with telling.bell(current_task.request, UUID(message_id)):
            try:
                run_turn(workshop, UUID(message_id))
            except StoreUnavailable:
                _log.warning("bell for %s not answered: the database is away", message_id)
            except Exception:
                # handed back with a try less; the sweeper rings again, or ends the message as worker_lost
                _log.exception("the turn of message %s broke", message_id)

    @app.task(name=BUILD_COMPONENT)  # type: ignore[untyped-decorator]  # celery is untyped
    def build_component(message_id: str) -> None:
        """A bell: look whether the message's component is there to be built."""
        if workshop is None or compiler is None or workshop.leases.is_draining:
            return
        if workshop.streams.silent_s > workshop.settings.lease_s / 2:
            return  # as a turn: the bell is rung again
        with telling.bell(current_task.request, UUID(message_id)):
            try:
                run_build(workshop, compiler, UUID(message_id))
            except StoreUnavailable:
                _log.warning("bell for the build of %s not answered: the database is away", message_id)
            except Exception:
                _log.exception("the build of message %s broke", message_id)
