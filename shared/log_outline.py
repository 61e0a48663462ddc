"""What a message's log tells without its text: for operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from shared.events import (
    Complete,
    Delta,
    Error,
    EventId,
    Finalized,
    Snapshot,
    Status,
    StreamEvent,
    ToolResult,
    ToolStart,
)


class EventOutline(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One event without its text; neighbouring deltas are one, with their count and bytes."""

    type: str
    id: str
    """The last one's."""
    ts: int
    """The first one's."""
    until: int | None = None
    """The last delta's `ts`."""
    deltas: int | None = None
    text_bytes: int | None = None
    status: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    success: bool | None = None
    code: str | None = None
    reason: str | None = None
    job_id: str | None = None


class AttemptOutline(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    attempt: int
    events: int
    deltas: int
    began: int
    """`ts` of its first event."""
    ended: int
    """`ts` of its last event."""
    ending: str | None
    """The status of its `finalized`; null where it stopped without one."""


class LogOutline(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    attempts: list[AttemptOutline]
    events: list[EventOutline]
    is_whole: bool
    """Whether the log has no more than was looked at."""


def outline(log: Iterable[StreamEvent], *, is_whole: bool) -> LogOutline:
    """Of one message's events, oldest first."""
    told: list[EventOutline] = []
    attempts: dict[int, AttemptOutline] = {}
    before = 0
    for event in log:
        attempt = EventId.parse(event.id).attempt
        one = _outlined(event)
        if told and told[-1].type == one.type == "delta" and before == attempt:
            one = _joined(told.pop(), one)
        told.append(one)
        attempts[attempt] = _counted(attempts.get(attempt), attempt, event)
        before = attempt
    return LogOutline(attempts=list(attempts.values()), events=told, is_whole=is_whole)


def _joined(before: EventOutline, one: EventOutline) -> EventOutline:
    return msgspec.structs.replace(
        before,
        id=one.id,
        until=one.ts,
        deltas=(before.deltas or 0) + (one.deltas or 0),
        text_bytes=(before.text_bytes or 0) + (one.text_bytes or 0),
    )


def _counted(known: AttemptOutline | None, attempt: int, event: StreamEvent) -> AttemptOutline:
    known = known or AttemptOutline(attempt=attempt, events=0, deltas=0, began=event.ts, ended=event.ts, ending=None)
    return msgspec.structs.replace(
        known,
        events=known.events + 1,
        deltas=known.deltas + isinstance(event, Delta),
        ended=event.ts,
        ending=event.status if isinstance(event, Finalized) else known.ending,
    )


def _outlined(event: StreamEvent) -> EventOutline:
    kind = type(event).__struct_config__.tag
    assert isinstance(kind, str)
    plain = EventOutline(type=kind, id=event.id, ts=event.ts)
    with_ = msgspec.structs.replace
    match event:
        case Delta():
            return with_(plain, deltas=1, text_bytes=len(event.content.encode()))
        case Status():
            return with_(plain, status=event.status)
        case ToolStart():
            return with_(plain, name=event.name, tool_call_id=event.tool_call_id)
        case ToolResult():
            return with_(
                plain, name=event.name, tool_call_id=event.tool_call_id, success=event.success, job_id=event.job_id
            )
        case Complete():
            return with_(plain, text_bytes=len(event.final_content.encode()))
        case Error():
            return with_(plain, code=event.code)
        case Finalized():
            return with_(plain, status=event.status, job_id=event.job_id)
        case Snapshot():
            return with_(plain, status=event.status, reason=event.reason, text_bytes=len(event.content.encode()))
        case _:
            assert_never(event)
