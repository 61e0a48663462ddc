"""Ends a message that nobody holds: cancelled before a worker took it, or its workers were lost too often."""

from __future__ import annotations

import msgspec

from shared import ended, events, metrics, notices, traces
from shared.errors import LogUnavailable
from shared.event_log import Entry, EventLog, Word
from shared.lifecycle import ErrorCode
from shared.metrics import AttemptReason
from shared.outcomes import Cancelled, Failed
from shared.records import Ending
from shared.store import CloseReason, Store, ToClose
from shared.transcript import Transcript, fold


def close(store: Store, log: EventLog | None, found: ToClose) -> Ending | None:
    """Commit the end of `found` with the text that its readers were shown, and append it.

    None where somebody was faster. Raises `StoreUnavailable`. The log may be away, or None where that is known: the row's
    text is kept then, and the ending stays stored.
    """
    content, above = (found.content, 0) if log is None else _shown(log, found)
    outcome: Failed | Cancelled
    match found.reason:
        case CloseReason.CANCEL:
            outcome = Cancelled(content=content)
        case CloseReason.WORKER_LOST:
            outcome = Failed(content=content, code=ErrorCode.WORKER_LOST)
    ending = store.close_message(found.message_id, outcome, seen_attempt=found.attempt, above=above)
    if ending is not None:
        metrics.ATTEMPTS.add(AttemptReason.CLOSING)
        ended.tell(ending, found.model)
    if ending is not None and log is not None:
        append_ending(store, log, ending)
    return ending


def append_ending(store: Store, log: EventLog, ending: Ending) -> bool:
    """Append a committed ending and note that it was; False where Redis is away and the sweeper is to try again.

    Where the log has lost what stands before it, or a newer attempt has begun, readers are served from the row.
    """
    entries = entries_of(ending)
    try:
        with traces.span("append ending", {"chatrelay.message.id": str(ending.message_id)}):
            answer = log.append(ending.message_id, entries, notices.ending(ending, entries))
        if answer.word in (Word.LOST, Word.STALE):
            # what is refused is not published: operators have no row that is compared for them
            for told in notices.ended(ending, entries):
                log.publish(told)
    except LogUnavailable:
        return False
    store.ending_was_appended(ending.message_id, entries[-1].id)
    return True


def entries_of(ending: Ending) -> list[Entry]:
    return [Entry(events.peek(payload)[1], payload) for payload in ending.events]


def _shown(log: EventLog, found: ToClose) -> tuple[str, int]:
    """The text of the log where it tells all of the row's attempt, else of the row; and the log's newest attempt."""
    try:
        entries = log.replay(found.message_id)
    except (LogUnavailable, ValueError):  # ValueError: not an entry of ours
        return found.content, 0
    if not entries:
        return found.content, 0
    last = entries[-1]
    newest = last.id.attempt
    if found.last_event_id is not None and last.id < found.last_event_id:
        return found.content, newest  # the row knows more: an end that the log lacks, of a run that was retried since
    if newest != found.attempt or events.is_terminal_payload(last.kind, last.payload):
        return found.content, newest  # another attempt's text, or an earlier run's that has ended
    if entries[0].id.n > 0:
        return found.content, newest  # somebody trimmed its beginning
    try:
        return fold(Transcript(), events.decode_all(entries.payloads)).content, newest
    except msgspec.DecodeError:  # an event of another version of this program
        return found.content, newest
