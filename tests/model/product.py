"""The product's own pure functions, as the model calls them: what a reader is owed, what it shows, what an end consists of.

These parts of the model are the code itself. They cost milliseconds where the model needs microseconds, so that each
answer is kept.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never, cast
from unittest import mock
from uuid import UUID

from api import catch_up, wire
from api.catch_up import Reading, Sources, Verdict, Want, is_current
from shared import events, outcomes
from shared.errors import LogUnavailable, StoreUnavailable
from shared.event_log import NOTHING, Entry, EventLog, Stretch
from shared.events import EventId, StreamEvent, ToolCall
from shared.lifecycle import ErrorCode, MessageStatus
from shared.outcomes import Cancelled, Failed, HandedOver, Outcome, Succeeded
from shared.records import ReaderRow
from shared.transcript import NOWHERE, Transcript, fold
from tests.model.state import Event, RowView

MESSAGE: Final = UUID(int=1)
JOB: Final = str(UUID(int=2))
_CALL: Final = "call"

_kept = lru_cache(maxsize=None)


# --- events, there and back -------------------------------------------------------------------------------------


@_kept
def entry_of(event: Event) -> Entry:
    return Entry(event.id, events.encode(_encoded(event)))


def _encoded(event: Event) -> StreamEvent:
    head: dict[str, Any] = {"id": str(event.id), "message_id": str(MESSAGE), "ts": 0}
    match event.kind:
        case "status":
            return events.Status(**head, status=cast(Any, event.status))
        case "delta":
            return events.Delta(**head, content=event.text)
        case "tool_start":
            return events.ToolStart(**head, name="tool", tool_call_id=_CALL, arguments={})
        case "tool_result":
            return events.ToolResult(**head, name="tool", tool_call_id=_CALL, success=True)
        case "complete":
            return events.Complete(**head, final_content=event.text)
        case "error":
            return events.Error(**head, error="", code="", retryable=True, final_content=event.text)
        case "finalized":
            return events.Finalized(**head, status=cast(Any, event.status))
        case "snapshot":
            return events.Snapshot(
                **head,
                content=event.text,
                status=cast(Any, event.status),
                tool_calls=_calls(event.calls),
                reason="attempt",
            )
        case _:
            raise AssertionError(event.kind)


@_kept
def event_of(payload: bytes) -> Event:
    return _abstract(events.decode(payload))


def _abstract(event: StreamEvent) -> Event:
    id_ = EventId.parse(event.id)
    match event:
        case events.Status():
            return Event(id_, "status", status=event.status)
        case events.Delta():
            return Event(id_, "delta", event.content, from_n=EventId.parse(event.from_).n if event.from_ else -1)
        case events.ToolStart():
            return Event(id_, "tool_start")
        case events.ToolResult():
            return Event(id_, "tool_result")
        case events.Complete():
            return Event(id_, "complete", event.final_content)
        case events.Error():
            return Event(id_, "error", event.final_content or "")
        case events.Finalized():
            return Event(id_, "finalized", status=event.status)
        case events.Snapshot():
            return Event(id_, "snapshot", event.content, event.status, _state_of(event.tool_calls))
        case _:
            assert_never(event)


def _calls(state: str) -> tuple[ToolCall, ...]:
    if not state:
        return ()
    return (ToolCall(tool_call_id=_CALL, name="tool", arguments={}, state=cast(Any, state)),)


def _state_of(calls: tuple[ToolCall, ...]) -> str:
    return calls[0].state if calls else ""


# --- what a reader shows ----------------------------------------------------------------------------------------


class Shown(NamedTuple):
    content: str
    status: str
    calls: str


@_kept
def folded(before: Shown, event: Event) -> Shown:
    start = Transcript(
        position=NOWHERE, content=before.content, status=cast(Any, before.status), tool_calls=_calls(before.calls)
    )
    after = fold(start, [events.decode(entry_of(event).payload)])
    return Shown(after.content, after.status, _state_of(after.tool_calls))


@_kept
def text_of(entries: tuple[Event, ...]) -> str:
    """The text that these events show."""
    return fold(Transcript(), (events.decode(entry_of(event).payload) for event in entries)).content


def is_terminal(event: Event) -> bool:
    return event.kind == "finalized" and event.status != "building"


# --- what a reader is owed --------------------------------------------------------------------------------------


def newest_attempt(log: tuple[Event, ...], after: EventId | None = None) -> tuple[Event, ...]:
    """`EventLog.replay`."""
    if not log:
        return ()
    newest = log[-1].id.attempt
    start = after if after is not None and after.attempt == newest else EventId(newest, -1)
    return tuple(event for event in log if event.id > start)


class _Log:
    """A log that stands still. None: Redis is away."""

    def __init__(self, log: tuple[Event, ...] | None) -> None:
        self._log = log

    def replay(self, message_id: UUID, after: EventId | None = None) -> Stretch:
        if self._log is None:
            raise LogUnavailable
        return Stretch.of(entry_of(event) for event in newest_attempt(self._log, after))

    def last_ids(self, message_ids: list[UUID]) -> list[EventId | None]:
        if self._log is None:
            raise LogUnavailable
        return [self._log[-1].id if self._log else None for _ in message_ids]


class _Rows:
    """One row that stands still. None: nobody is asked."""

    def __init__(self, view: RowView | None) -> None:
        self._view = view

    def reader_rows(self, message_ids: list[UUID]) -> dict[UUID, ReaderRow]:
        if self._view is None:
            raise StoreUnavailable
        return {MESSAGE: _reader_row(self._view)}


def _reader_row(view: RowView) -> ReaderRow:
    return ReaderRow(
        message_id=MESSAGE,
        project_id=MESSAGE,
        status=view.status,
        attempt=1,
        last_event_id=view.last,
        content=view.content,
        tool_calls=_calls(view.calls),
        ending=tuple(entry_of(event).payload for event in view.ending),
    )


class Owed(NamedTuple):
    events: tuple[Event, ...]
    position: EventId
    verdict: Verdict


@_kept
def owed(
    view: RowView | None,
    log: tuple[Event, ...] | None,
    after: EventId,
    is_compacted: bool,
    is_patient: bool,
    *,
    whole_beginning: bool = True,
) -> Owed:
    """What a reader at `after` is sent, given the row and the log. Without `whole_beginning` half a text is good enough."""
    want = Want(after, is_compacted)
    sources = Sources(cast(EventLog, _Log(log)), cast(Any, _Rows(view)))
    with nullcontext() if whole_beginning else mock.patch.object(catch_up, "_is_beheaded", return_value=False):
        decision = sources.decisions(MESSAGE, [want], is_patient=is_patient, redis_is_up=log is not None)[want]
    return Owed(
        tuple(event_of(frame.payload) for frame in decision.frames), wire.unpack(decision.position), decision.verdict
    )


@_kept
def is_behind(view: RowView | None, last: EventId | None, position: EventId) -> bool:
    """Whether an idle check finds that a reader at `position` is owed something."""
    row = None if view is None else _reader_row(view)
    return not is_current(position, Reading(MESSAGE, row, view is not None, last, NOTHING, 0))


# --- how a message ends -----------------------------------------------------------------------------------------


class Ended(NamedTuple):
    status: MessageStatus
    events: tuple[Event, ...]


def outcome_of(name: str, content: str, job_id: str = JOB) -> Outcome:
    """The end called `name`, a status."""
    match name:
        case "success":
            return Succeeded(content=content)
        case "building":
            return HandedOver(content=content, job_id=job_id)
        case "cancelled":
            return Cancelled(content=content)
        case _:
            return Failed(content=content, code=ErrorCode.WORKER_LOST)


@_kept
def ended(name: str, content: str, first: EventId) -> Ended:
    """The end called `name` (a status) of somebody who held the message."""
    outcome = outcome_of(name, content)
    made = outcomes.ending_events(outcome, message_id=str(MESSAGE), first=first, ts=0, usage=None, timing=None)
    return Ended(outcomes.status_of(outcome), tuple(map(_abstract, made)))


@_kept
def closed(name: str, content: str, attempt: int, status: str, calls: str) -> Ended:
    """The end called `name` of a message that nobody held, whose row has `status`."""
    outcome = outcome_of(name, content)
    assert isinstance(outcome, Failed | Cancelled)
    snapshot = _encoded(Event(EventId(attempt, 0), "snapshot", content, status, calls))
    assert isinstance(snapshot, events.Snapshot)
    made = outcomes.closing_events(snapshot, outcome, usage=None, timing=None)
    return Ended(outcomes.status_of(outcome), tuple(map(_abstract, made)))
