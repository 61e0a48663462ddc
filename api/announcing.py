"""What is told to others once a change is committed: the workers' bell, and who watches. All of it best effort.

The row is the truth. A bell that was not rung is rung by the sweeper; a notice that was not published is seen at the
watchers' next look. Where Redis is away only the first of these calls waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from shared import closing, log_context, metrics, notices
from shared.doorbell import Doorbell
from shared.errors import LogUnavailable
from shared.event_log import EventLog, Publication
from shared.records import Cancelling, Message, Principal, Submitted
from shared.store import Store

_log = logging.getLogger(__name__)


def publish(log: EventLog, publications: Iterable[Publication]) -> bool:
    """Publish in order; False where Redis is away."""
    try:
        log.publish(*publications)
    except LogUnavailable:
        _log.warning("notices were not published: Redis is away")
        return False
    return True


def submitted(log: EventLog, doorbell: Doorbell, pair: Submitted) -> None:
    """A pair of messages was made, or was asked for again: then only the bell."""
    if not pair.repeated:
        metrics.SUBMITTED.add()
    log_context.note(message_id=pair.assistant_message.id, project_id=pair.assistant_message.project_id)
    if pair.assistant_message.status != "pending" or not doorbell.ring(pair.assistant_message.id) or pair.repeated:
        return
    made = [notices.message_made(pair.user_message), notices.message_made(pair.assistant_message)]
    publish(log, [*map(notices.cancel_asked, pair.interrupted), *made, notices.submitted(pair.assistant_message)])


def retried(log: EventLog, doorbell: Doorbell, message: Message) -> None:
    """A final message is back in the queue, or its component is to be built again."""
    metrics.RETRIES.add()
    log_context.note(message_id=message.id, project_id=message.project_id)
    rung = doorbell.ring_builder(message.id) if message.status == "building" else doorbell.ring(message.id)
    if rung:
        publish(log, [notices.message_made(message), notices.retried(message)])


def cancel(store: Store, log: EventLog, doorbell: Doorbell, principal: Principal, message_id: UUID) -> None:
    """Ask for a message's end, and commit it here where nobody holds the message.

    Raises `NotFound`, `Forbidden`, `AlreadyFinal`, `StoreUnavailable`.
    """
    cancel_asked(store, log, doorbell, store.request_cancel(principal, message_id))


def cancel_asked(store: Store, log: EventLog, doorbell: Doorbell, asked: Cancelling) -> None:
    """Whoever holds the message is told that its end was asked for; where nobody does, it is committed here."""
    message_id = asked.message_id
    log_context.note(message_id=message_id, project_id=asked.project_id)
    metrics.CANCELS.add()
    if asked.held:
        publish(log, [notices.cancel_asked(message_id)])
        return
    found = store.closing_of(message_id)
    if found is None or closing.close(store, log, found) is None:
        # claimed in between: its holder is to hear of it
        publish(log, [notices.cancel_asked(message_id)])
        return
    following = store.next_in_line(asked.project_id)
    if following is not None:
        doorbell.ring(following)
