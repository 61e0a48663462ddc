"""Rows to records. Reads only; each function runs inside its caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, Uuid, and_, bindparam, case, func, select

from shared.events import Timing, ToolCall, Usage, shown_arguments
from shared.lifecycle import FINAL, ErrorCode, MessageStatus, Role
from shared.models import LedgerEntry, Message, Round, User
from shared.records import JsonValue, MessageError, StoredCall, StoredRound, ToolEffect
from shared.records import Message as MessageRecord

_IS_IN_LINE = and_(
    Message.role == Role.ASSISTANT,
    Message.status == MessageStatus.PENDING,
    Message.lease_owner.is_(None),
    Message.waits.is_(True),
)

MESSAGE_COLUMNS: Final[tuple[Any, ...]] = (
    Message.id,
    Message.project_id,
    Message.role,
    # the assistant's has one too, whose limits it counts for
    select(User.name)
    .where(User.id == Message.author_id, Message.role == Role.USER)
    .correlate(Message)
    .scalar_subquery()
    .label("author"),
    Message.kind,
    Message.status,
    Message.content,
    Message.error_code,
    Message.attempt,
    Message.run,
    Message.job_id,
    Message.model,
    Message.usage,
    Message.timing,
    Message.reply_to,
    case((_IS_IN_LINE, Message.queue_number)).label("queue_number"),
    Message.created_at,
    Message.updated_at,
)

MESSAGE_BYTES: Final[Any] = (
    func.octet_length(Message.content)
    + select(
        func.coalesce(
            func.sum(
                func.octet_length(LedgerEntry.arguments)
                + func.coalesce(func.octet_length(LedgerEntry.final_content), 0)
                + func.coalesce(func.octet_length(LedgerEntry.error), 0)
            ),
            0,
        )
    )
    .where(LedgerEntry.message_id == Message.id, LedgerEntry.run == Message.run)
    .correlate(Message)
    .scalar_subquery()
).label("size")
"""About how many bytes a message is shown in: its text and the calls that were made."""


# built once, as in `turn_statements`
_messages = bindparam("messages", type_=Uuid(), expanding=True)
_ROUNDS: Final = (
    select(Round.message_id, Round.round, Round.text, Round.calls, Round.document_version, Round.usage)
    .join(Message, and_(Message.id == Round.message_id, Message.run == Round.run))
    .where(Round.message_id.in_(_messages))
    .order_by(Round.message_id, Round.round)
)
_LEDGER: Final = (
    select(LedgerEntry.__table__)
    .join(Message, and_(Message.id == LedgerEntry.message_id, Message.run == LedgerEntry.run))
    .where(LedgerEntry.message_id.in_(_messages))
    .order_by(LedgerEntry.message_id, LedgerEntry.round, LedgerEntry.index)
)


def fitting(sizes: Iterable[int], max_bytes: int) -> int:
    """How many of a page's first items, of these sizes, make at most `max_bytes`; one at least, if there is one."""
    total = count = 0
    for size in sizes:
        total += size
        if count and total > max_bytes:
            break
        count += 1
    return count


def message_records(connection: Connection, rows: Collection[Row[Any]]) -> list[MessageRecord]:
    """Public messages of rows of `MESSAGE_COLUMNS`, with their tool calls, in two statements."""
    calls = tool_calls(connection, {row.id: row.status for row in rows if row.attempt})
    return [_message(row, calls.get(row.id, ())) for row in rows]


def _message(row: Row[Any], calls: tuple[ToolCall, ...]) -> MessageRecord:
    error = None
    if row.error_code is not None:
        code = ErrorCode(row.error_code)
        error = MessageError(code=code, detail=code.detail, retryable=code.retryable)
    return MessageRecord(
        id=row.id,
        project_id=row.project_id,
        role=row.role,
        author=row.author,
        kind=row.kind,
        status=row.status,
        content=row.content,
        error=error,
        attempt=row.attempt,
        job_id=row.job_id,
        tool_calls=list(calls),
        model=row.model,
        usage=usage(row.usage),
        timing=None if row.timing is None else msgspec.convert(row.timing, Timing),
        reply_to=row.reply_to,
        queue_number=row.queue_number,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def usage(value: JsonValue) -> Usage | None:
    return None if value is None else msgspec.convert(value, Usage)


def tool_calls(connection: Connection, statuses: dict[UUID, MessageStatus]) -> dict[UUID, tuple[ToolCall, ...]]:
    """The calls of each message's present run, in order, as a message lists them.

    An unfinished message lists its stored calls that were not made yet as `started`; a final one lists what was made.
    """
    shown = {message_id: list(calls) for message_id, calls in made_calls(connection, statuses).items()}
    unfinished = [message_id for message_id, status in statuses.items() if status not in FINAL]
    for message_id, rounds in stored_rounds(connection, unfinished).items():
        known = {call.tool_call_id for call in shown.get(message_id, ())}
        shown.setdefault(message_id, []).extend(
            ToolCall(
                tool_call_id=call.tool_call_id,
                name=call.name,
                arguments=shown_arguments(call.arguments),
                state="started",
            )
            for stored in rounds
            for call in stored.calls
            if call.tool_call_id not in known
        )
    return {message_id: tuple(calls) for message_id, calls in shown.items()}


def made_calls(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, tuple[ToolCall, ...]]:
    """The calls of each message's present run that were made, in order: what a snapshot shows."""
    return {
        message_id: tuple(effect.call for effect in effects)
        for message_id, effects in ledger(connection, message_ids).items()
    }


def ledger(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, list[ToolEffect]]:
    """What the present run of each message has made, in order."""
    found: dict[UUID, list[ToolEffect]] = defaultdict(list)
    if message_ids:
        for entry in connection.execute(_LEDGER, {"messages": list(message_ids)}):
            found[entry.message_id].append(tool_effect(entry))
    return found


def tool_effect(entry: Row[Any]) -> ToolEffect:
    return ToolEffect(
        call=ToolCall(
            tool_call_id=entry.tool_call_id,
            name=entry.name,
            arguments=shown_arguments(entry.arguments),
            state="succeeded" if entry.succeeded else "failed",
            final_content=entry.final_content,
            error=entry.error,
            job_id=None if entry.job_id is None else str(entry.job_id),
            version=entry.version,
        ),
        result=entry.result,
    )


def stored_rounds(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, list[StoredRound]]:
    """The stored rounds of each message's present run, in order."""
    found: dict[UUID, list[StoredRound]] = defaultdict(list)
    if message_ids:
        for row in connection.execute(_ROUNDS, {"messages": list(message_ids)}):
            found[row.message_id].append(
                StoredRound(
                    round=row.round,
                    text=row.text,
                    calls=msgspec.convert(row.calls, tuple[StoredCall, ...]),
                    document_version=row.document_version,
                    usage=usage(row.usage),
                )
            )
    return found
