"""How a message can end, or be handed to a builder; and the events that such an end is made of. Pure."""

from __future__ import annotations

from typing import TypeAlias, assert_never

import msgspec

from shared import events
from shared.events import EventId, Snapshot, StreamEvent, Timing, Usage
from shared.lifecycle import ErrorCode, MessageKind, MessageStatus


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    content: str
    kind: MessageKind = MessageKind.TEXT


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """`content` is the text so far, which is kept. `reason`: what its job says of it, in place of the code's words."""

    content: str
    code: ErrorCode
    reason: str | None = None


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """`content` is the text so far, which is kept."""

    content: str


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """The turn is over and a component job goes on."""

    content: str
    job_id: str


Outcome: TypeAlias = Succeeded | Failed | Cancelled | HandedOver


def status_of(outcome: Outcome) -> MessageStatus:
    match outcome:
        case Succeeded():
            return MessageStatus.SUCCESS
        case Failed():
            return MessageStatus.ERROR
        case Cancelled():
            return MessageStatus.CANCELLED
        case HandedOver():
            return MessageStatus.BUILDING
        case _:
            assert_never(outcome)


def kind_of(outcome: Outcome) -> MessageKind:
    match outcome:
        case Succeeded():
            return outcome.kind
        case Failed():
            return MessageKind.ERROR
        case Cancelled():
            return MessageKind.TEXT if outcome.content else MessageKind.STATUS
        case HandedOver():
            return MessageKind.TOOL_RESULT
        case _:
            assert_never(outcome)


def ending_events(
    outcome: Outcome, *, message_id: str, first: EventId, ts: int, usage: Usage | None, timing: Timing | None
) -> tuple[StreamEvent, ...]:
    """The ending of a turn or a closing, from `first` on; its last is `finalized`."""
    second = str(first.next)
    match outcome:
        case Succeeded():
            return (
                events.Complete(id=str(first), message_id=message_id, ts=ts, final_content=outcome.content),
                events.Finalized(id=second, message_id=message_id, ts=ts, status="success", usage=usage, timing=timing),
            )
        case Failed():
            return (
                events.Error(
                    id=str(first),
                    message_id=message_id,
                    ts=ts,
                    error=outcome.code.detail,
                    code=outcome.code,
                    retryable=outcome.code.retryable,
                    final_content=outcome.content,
                ),
                events.Finalized(id=second, message_id=message_id, ts=ts, status="error", usage=usage, timing=timing),
            )
        case Cancelled():
            return (
                events.Finalized(
                    id=str(first), message_id=message_id, ts=ts, status="cancelled", usage=usage, timing=timing
                ),
            )
        case HandedOver():
            return (
                events.Status(id=str(first), message_id=message_id, ts=ts, status="building"),
                events.Finalized(
                    id=second,
                    message_id=message_id,
                    ts=ts,
                    status="building",
                    job_id=outcome.job_id,
                    usage=usage,
                    timing=timing,
                ),
            )
        case _:
            assert_never(outcome)


def closing_events(
    snapshot: Snapshot, outcome: Failed | Cancelled, *, usage: Usage | None, timing: Timing | None
) -> tuple[StreamEvent, ...]:
    """An attempt that does nothing but end the message: `snapshot`, then the ending."""
    return (
        snapshot,
        *ending_events(
            outcome,
            message_id=snapshot.message_id,
            first=EventId.parse(snapshot.id).next,
            ts=snapshot.ts,
            usage=usage,
            timing=timing,
        ),
    )
