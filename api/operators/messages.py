"""Anybody's messages, for operators: found, looked at without their text, cancelled, retried."""

from __future__ import annotations

import re
from typing import Annotated, Final
from uuid import UUID

import msgspec

from api import announcing, requests
from api.auth import Caller
from api.calls import Answer, Calls
from api.pages import Limit, Page
from api.refusals import InvalidQuery
from api.requests import Moment
from api.services import Services
from shared import errors, events, log_outline
from shared.errors import LogUnavailable
from shared.lifecycle import ErrorCode, MessageStatus, Scope
from shared.log_outline import LogOutline
from shared.ops_records import MessageOutline, OperatorMessage
from shared.store import Wanted

calls = Calls()

_MOST_ENTRIES: Final = 10_000
"""Of a log, that are looked at."""
_UNITS_MS: Final = {"ms": 1, "": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


class OperatorMessagesQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    limit: Limit = 50
    before: UUID | None = None
    """The `nextCursor` of the page before."""
    status: MessageStatus | None = None
    code: ErrorCode | None = None
    project: UUID | None = None
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    since: Moment | None = None
    """Submitted then or later."""
    slower_than: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,8}(ms|s|m|h)?$")] | None = None
    """To its end, or so far: `1500` or `1500ms`, `2s`, `5m`."""


class MessageDetails(MessageOutline, frozen=True, kw_only=True):
    """`log`: what Redis has of its events; null where Redis does not answer."""

    log: LogOutline | None


@calls.add(
    "GET", "/v1/ops/messages", scope=Scope.OPS, query=OperatorMessagesQuery, answers={200: Page[OperatorMessage]}
)
def list_operator_messages(services: Services, *, principal: Caller, query: OperatorMessagesQuery) -> Answer:
    """The assistant's messages of all projects, newest first, without their text.

    A page is chosen from a bounded number of messages: it may be short, or empty. The last one has no `nextCursor`.
    """
    wanted = Wanted(
        status=query.status,
        code=query.code,
        project_id=query.project,
        model=query.model,
        since=requests.in_utc(query.since, InvalidQuery([("/since", "is out of range")])),
        slower_than_ms=None if query.slower_than is None else _milliseconds(query.slower_than),
    )
    items, cursor = services.store.operator_messages(wanted, limit=query.limit, before=query.before)
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


def _milliseconds(text: str) -> int:
    number, unit = re.fullmatch(r"([0-9]+)([a-z]*)", text).groups()  # type: ignore[union-attr]  # the query's pattern
    return int(number) * _UNITS_MS[unit]


@calls.add("GET", "/v1/ops/messages/{messageId}", scope=Scope.OPS, answers={200: MessageDetails})
def get_operator_message(services: Services, *, principal: Caller, message_id: UUID) -> Answer:
    """One message without its text: its row, its rounds and tool calls, and what its log tells of its attempts."""
    outline = services.store.operator_message(message_id)
    try:
        entries = services.log.whole(message_id, most=_MOST_ENTRIES)
        told = events.decode_all(entries.payloads)
        log = log_outline.outline(told, is_whole=len(entries) < _MOST_ENTRIES)
    except (LogUnavailable, ValueError):  # ValueError: an event of another version of this program
        log = None
    return Answer(status=200, body=MessageDetails(**msgspec.structs.asdict(outline), log=log))


@calls.add(
    "POST",
    "/v1/ops/messages/{messageId}/cancel",
    scope=Scope.OPS,
    answers={202: OperatorMessage},
    refusals=(errors.AlreadyFinal,),
)
def cancel_operator_message(services: Services, *, principal: Caller, message_id: UUID) -> Answer:
    """Ask for the end of anybody's message; its text so far is kept. The answer may still show it unfinished."""
    asked = services.store.request_cancel_by_operator(message_id)
    announcing.cancel_asked(services.store, services.log, services.doorbell, asked)
    return Answer(status=202, body=services.store.operator_message(message_id).message)


@calls.add(
    "POST",
    "/v1/ops/messages/{messageId}/retry",
    scope=Scope.OPS,
    answers={202: OperatorMessage},
    refusals=(errors.NotFinal,),
)
def retry_operator_message(services: Services, *, principal: Caller, message_id: UUID) -> Answer:
    """Put anybody's final message back in its queue, as a member's retry does. It goes on counting for its author."""
    message = services.store.retry_by_operator(message_id)
    announcing.retried(services.log, services.doorbell, message)
    return Answer(status=202, body=services.store.operator_message(message_id).message)
