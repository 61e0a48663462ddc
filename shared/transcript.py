"""What a reader shows of one message: the fold over its events.

The law of replay: ``fold(fold(start, log[:n]), log) == fold(start, log)`` for every n. A transcript knows its position
and ignores what is at or before it, so that a replay is idempotent and a late joiner loses nothing.
"""

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
    MessageStatusName,
    Snapshot,
    Status,
    StreamEvent,
    ToolCall,
    ToolResult,
    ToolStart,
)

NOWHERE = EventId(0, 0)
"""The position before every event."""


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """The text, the tool calls and the message's status after the event at `position`."""

    position: EventId = NOWHERE
    content: str = ""
    status: MessageStatusName = "pending"
    tool_calls: tuple[ToolCall, ...] = ()
    activity: str | None = None
    """``thinking``, ``tool_calling`` or ``building``; None before the first status and after the end."""
    error_code: str | None = None


def fold(start: Transcript, events: Iterable[StreamEvent]) -> Transcript:
    """`start` after `events`, which are in the order of their ids.

    What is at or before its position changes nothing.
    """
    transcript = start
    for event in events:
        transcript = _step(transcript, event)
    return transcript


def _step(before: Transcript, event: StreamEvent) -> Transcript:
    position = EventId.parse(event.id)
    if position <= before.position:
        return before
    at = msgspec.structs.replace(before, position=position)
    match event:
        case Status():
            return msgspec.structs.replace(
                at, activity=event.status, status="building" if event.status == "building" else at.status
            )
        case Delta():
            return msgspec.structs.replace(at, content=at.content + event.content)
        case ToolStart():
            started = ToolCall(
                tool_call_id=event.tool_call_id, name=event.name, arguments=event.arguments, state="started"
            )
            return msgspec.structs.replace(at, tool_calls=with_call(at.tool_calls, started))
        case ToolResult():
            return msgspec.structs.replace(at, tool_calls=with_call(at.tool_calls, _result(at.tool_calls, event)))
        case Complete():
            return msgspec.structs.replace(at, content=event.final_content)
        case Error():
            content = at.content if event.final_content is None else event.final_content
            return msgspec.structs.replace(at, content=content, error_code=event.code)
        case Finalized():
            return msgspec.structs.replace(
                at, status=event.status, activity="building" if event.status == "building" else None
            )
        case Snapshot():
            return Transcript(
                position=position, content=event.content, status=event.status, tool_calls=event.tool_calls
            )
        case _:
            assert_never(event)


def with_call(calls: tuple[ToolCall, ...], call: ToolCall) -> tuple[ToolCall, ...]:
    """`calls` with `call` in the place of the one of its id, or at the end."""
    if all(known.tool_call_id != call.tool_call_id for known in calls):
        return (*calls, call)
    return tuple(call if known.tool_call_id == call.tool_call_id else known for known in calls)


def _result(calls: tuple[ToolCall, ...], event: ToolResult) -> ToolCall:
    known = next((call for call in calls if call.tool_call_id == event.tool_call_id), None)
    return ToolCall(
        tool_call_id=event.tool_call_id,
        name=event.name,
        arguments=known.arguments if known else None,
        state="succeeded" if event.success else "failed",
        final_content=event.final_content,
        error=event.error,
        job_id=event.job_id,
    )
