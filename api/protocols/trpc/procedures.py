"""The procedures of the router, over the same rows as every other route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from api import messages, requests
from api.messages import NewMessage
from api.pages import Limit, Page
from api.protocols.trpc.envelopes import ProcedureKind
from api.protocols.trpc.errors import BAD_REQUEST, NOT_FOUND, Refusal
from api.relay import MessageTarget
from api.services import Services
from shared.errors import NotFound
from shared.events import EventId
from shared.records import JsonValue, Message, Principal, Submitted


class Sent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `chat.initiateChat` and `chat.sendMessage` are given."""

    project_id: str
    message: str


class Listed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `chat.getMessages` is given."""

    project_id: str
    limit: Limit | None = None
    before: str | None = None


class Followed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `chat.streamResponse` is given; the event id comes inside it over HTTP."""

    assistant_message_id: str
    project_id: str
    last_event_id: str | None = None


class Initiated(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `chat.initiateChat` answers."""

    assistant_message_id: UUID


class Exchange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `chat.sendMessage` answers: the pair; the answer is final, or took longer than was waited."""

    user_message: Message
    assistant_message: Message


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call whose answer comes once `pair`'s is final, or after `timeout_s`."""

    pair: Submitted
    timeout_s: float
    finish: Callable[[], Any]
    """The result, whether or not it is final."""


def initiate_chat(services: Services, principal: Principal, given: Sent) -> Initiated:
    return Initiated(assistant_message_id=_submit(services, principal, given).assistant_message.id)


def send_message(services: Services, principal: Principal, given: Sent) -> Waiting:
    pair = _submit(services, principal, given)

    def finish() -> Exchange:
        answer = services.store.message(principal, pair.assistant_message.id)
        return Exchange(user_message=pair.user_message, assistant_message=answer)

    return Waiting(pair, requests.LONGEST_WAIT_S, finish)


def _submit(services: Services, principal: Principal, given: Sent) -> Submitted:
    body = NewMessage(content=given.message)
    return messages.submit(services, principal, requests.path_id(given.project_id), body)


def get_messages(services: Services, principal: Principal, given: Listed) -> Page[Message]:
    items, cursor = services.store.messages(
        principal,
        requests.path_id(given.project_id),
        limit=given.limit or 50,
        before=None if given.before is None else requests.path_id(given.before),
    )
    return Page(items=items, next_cursor=None if cursor is None else str(cursor))


@dataclass(frozen=True, kw_only=True)
class Procedure:
    kind: ProcedureKind
    given: type[msgspec.Struct]
    do: Callable[[Services, Principal, Any], Any] | None = None
    """None for a subscription; a `Waiting` is one that waits."""
    waits: bool = False


STREAM_RESPONSE: Final = "chat.streamResponse"
PROCEDURES: Final[Mapping[str, Procedure]] = {
    "chat.initiateChat": Procedure(kind="mutation", given=Sent, do=initiate_chat),
    "chat.sendMessage": Procedure(kind="mutation", given=Sent, do=send_message, waits=True),
    "chat.getMessages": Procedure(kind="query", given=Listed, do=get_messages),
    STREAM_RESPONSE: Procedure(kind="subscription", given=Followed),
}


def find(path: str, kind: ProcedureKind) -> Procedure:
    """Raises `Refusal`."""
    procedure = PROCEDURES.get(path)
    if procedure is None or procedure.kind != kind:
        raise Refusal(NOT_FOUND, f'No "{kind}"-procedure on path "{path}"')
    return procedure


def run(services: Services, principal: Principal, procedure: Procedure, given: JsonValue) -> Any:
    """The result of a query or a mutation, or a `Waiting`. Raises our errors."""
    assert procedure.do is not None
    return procedure.do(services, principal, requests.parse(given, procedure.given))


def target(services: Services, principal: Principal, given: JsonValue, last_event_id: str | None) -> MessageTarget:
    """What a subscription follows. Raises our errors, and `Refusal` for an id that is no event's."""
    wanted = requests.parse(given, Followed)
    row, _ = services.store.message_for_reader(principal, requests.path_id(wanted.assistant_message_id))
    if row.project_id != requests.path_id(wanted.project_id):
        raise NotFound
    after = last_event_id or wanted.last_event_id
    try:
        position = EventId.parse(after) if after else None
    except ValueError:
        raise Refusal(BAD_REQUEST, "lastEventId must be the id of an event") from None
    return MessageTarget(
        message_id=row.message_id, project_id=row.project_id, user_id=principal.user_id, after=position
    )
