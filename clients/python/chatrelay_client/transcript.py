"""What a reader shows of one message: the fold over its events.

The law of replay: ``fold(fold(start, log[:n]), log) == fold(start, log)`` for every n.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from chatrelay_client.events import (
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
from chatrelay_client.rows import MessageError, MessageStatus, ToolCall, Usage

NOWHERE = EventId(0, 0)
"""Before every event."""


class Transcript(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A message's text, tool calls and status after the event at `position`."""

    position: EventId = NOWHERE
    content: str = ""
    status: MessageStatus = "pending"
    tool_calls: tuple[ToolCall, ...] = ()
    activity: str | None = None
    error: MessageError | None = None
    usage: Usage | None = None

    def after(self, event: StreamEvent) -> Transcript:
        """With the event; itself where it has had that one."""
        position = event.event_id
        if position <= self.position:
            return self
        at = msgspec.structs.replace(self, position=position)
        match event:
            case Status():
                status: MessageStatus = "building" if event.status == "building" else at.status
                return msgspec.structs.replace(at, activity=event.status, status=status)
            case Delta():
                return msgspec.structs.replace(at, content=at.content + event.content)
            case ToolStart():
                call = ToolCall(
                    tool_call_id=event.tool_call_id, name=event.name, arguments=event.arguments, state="started"
                )
                return msgspec.structs.replace(at, tool_calls=_with(at.tool_calls, call))
            case ToolResult():
                return msgspec.structs.replace(at, tool_calls=_with(at.tool_calls, _result(at.tool_calls, event)))
            case Complete():
                return msgspec.structs.replace(at, content=event.final_content)
            case Error():
                content = at.content if event.final_content is None else event.final_content
                error = MessageError(code=event.code, detail=event.error, retryable=event.retryable)
                return msgspec.structs.replace(at, content=content, error=error)
            case Finalized():
                activity = "building" if event.status == "building" else None
                return msgspec.structs.replace(
                    at, status=event.status, activity=activity, usage=event.usage or at.usage
                )
            case Snapshot():
                return Transcript(
                    position=position, content=event.content, status=event.status, tool_calls=event.tool_calls
                )
            case _:
                assert_never(event)


def fold(start: Transcript, events: Iterable[StreamEvent]) -> Transcript:
    """`start` after `events`, which are in the order of their ids; what is at or before its position changes nothing."""
    for event in events:
        start = start.after(event)
    return start


def _with(calls: tuple[ToolCall, ...], call: ToolCall) -> tuple[ToolCall, ...]:
    """`call` in the place of the one with its id, or at the end."""
    if all(known.tool_call_id != call.tool_call_id for known in calls):
        return (*calls, call)
    return tuple(call if known.tool_call_id == call.tool_call_id else known for known in calls)


def _result(calls: tuple[ToolCall, ...], event: ToolResult) -> ToolCall:
    return ToolCall(
        tool_call_id=event.tool_call_id,
        name=event.name,
        arguments=next((call.arguments for call in calls if call.tool_call_id == event.tool_call_id), None),
        state="succeeded" if event.success else "failed",
        final_content=event.final_content,
        error=event.error,
        job_id=event.job_id,
    )
