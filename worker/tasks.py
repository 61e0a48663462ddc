"""The shells between Celery and the turns: parse, call, and let no error out."""

from __future__ import annotations

import logging
from threading import Semaphore
from typing import Any
from uuid import UUID

import msgspec
from celery import Celery, current_task

from shared.doorbell import BUILD_COMPONENT, RUN_BATCH, RUN_MESSAGE
from shared.errors import StoreUnavailable
from worker import telling
from worker.batches import BatchDriver
from worker.build import run_build
from worker.compiler import Compiler
from worker.held import Workshop
from worker.turn import run_turn

_log = logging.getLogger(__name__)

workshop: Workshop | None = None
"""The process's clients, set when the worker is set up."""

compiler: Compiler | None = None
"""A builder's, set with its clients."""

batch_slots: BatchSlots | None = None
"""Set with a worker's clients."""


class BatchSlots(msgspec.Struct, frozen=True, kw_only=True):
    """What batches may take of a worker."""

    free: Semaphore
    """Turns at a time; the others are left to people."""
    workshop: Workshop
    """With connections to Postgres of its own, so that no turn of a person's waits for one that a batch has."""
    driver: BatchDriver
    """On the same connections."""


def slots_for_batches(concurrency: int, share: float) -> int:
    """Of a worker's slots, those that batches may take: at least one, and all but one at most. None of a single one."""
    return min(concurrency - 1, max(1, int(concurrency * share)))


def _may_take() -> bool:
    if workshop is None or workshop.leases.is_draining:
        return False
    # what it can't stream it must not take; the bell is rung again
    return workshop.streams.silent_s <= workshop.settings.lease_s / 2


def _answer(clients: Workshop, message_id: UUID, request: Any) -> None:
    """Live the message's turn, if it is there to be taken; no error gets out. `request`: Celery's, of the bell."""
    with telling.bell(request, message_id):
        try:
            run_turn(clients, message_id)
        except StoreUnavailable:
            _log.warning("bell for %s not answered: the database is away", message_id)
        except Exception:
            # handed back with a try less; the sweeper rings again, or ends the message as worker_lost
            _log.exception("the turn of message %s broke", message_id)


def _next_of_a_batch(slots: BatchSlots, answered: UUID) -> UUID | None:
    """Any that is sent, or else what may be sent since `answered` was: of a project's messages one is sent at a time."""
    store = slots.workshop.store
    try:
        following = store.next_of_a_batch()
        if following is None:
            slots.driver.go_on_after(answered)
            following = store.next_of_a_batch()
        return following
    except StoreUnavailable:
        return None  # the sweeper rings


def register(app: Celery) -> None:
    @app.task(name=RUN_MESSAGE)  # type: ignore[untyped-decorator]  # celery is untyped
    def run_message(message_id: str) -> None:
        """A bell: look whether the message is there to be taken."""
        if workshop is not None and _may_take():
            _answer(workshop, UUID(message_id), current_task.request)

    @app.task(name=RUN_BATCH)  # type: ignore[untyped-decorator]  # celery is untyped
    def run_batch(message_id: str) -> None:
        """A bell of a batch: take the message and then others of batches, one after another, while there is a slot for it."""
        if batch_slots is None or not batch_slots.free.acquire(blocking=False):
            return  # those who have the slots go on to what waits
        try:
            following: UUID | None = UUID(message_id)
            while following is not None and _may_take():
                _answer(batch_slots.workshop, following, current_task.request)
                following = _next_of_a_batch(batch_slots, following)
        finally:
            batch_slots.free.release()

    @app.task(name=BUILD_COMPONENT)  # type: ignore[untyped-decorator]  # celery is untyped
    def build_component(message_id: str) -> None:
        """A bell: look whether the message's component is there to be built."""
        if workshop is None or compiler is None or not _may_take():
            return
        with telling.bell(current_task.request, UUID(message_id)):
            try:
                run_build(workshop, compiler, UUID(message_id))
            except StoreUnavailable:
                _log.warning("bell for the build of %s not answered: the database is away", message_id)
            except Exception:
                _log.exception("the build of message %s broke", message_id)
