"""What a chat of the AI SDK asks for: a message sent, an answer again, the answer that is being written, its end.

Of what a client sends only the newest user message counts: the conversation is the project's.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from api import announcing, messages, requests
from api.messages import NewMessage
from api.refusals import InvalidFields
from api.relay import MessageTarget
from api.services import Services
from shared.errors import AlreadyFinal, NotFinal, NotFound
from shared.events import EventId
from shared.lifecycle import FINAL, OnBusy, Role
from shared.records import JsonValue, Message, Principal

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ClientPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a message, as far as it is read."""

    type: str
    text: JsonValue = None


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A `UIMessage`, as far as it is read."""

    role: str
    id: str = ""
    parts: list[ClientPart] = msgspec.field(default_factory=list)


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `useChat` posts. Of `messages` the newest of the user's is read; `message` may stand in their place.

    `model` and `onBusy` are as in `NewMessage`: what a page adds with `body`.
    """

    id: str = ""
    """The chat's, which the client chose."""
    messages: list[ClientMessage] = msgspec.field(default_factory=list)
    message: ClientMessage | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    model: str | None = None
    on_busy: OnBusy = OnBusy.QUEUE


class Answer(NamedTuple):
    """The answer to be told: its row, and after which event (None: from its newest attempt's start)."""

    row: Message
    after: EventId | None = None

    def target(self, principal: Principal) -> MessageTarget:
        return MessageTarget(
            message_id=self.row.id, project_id=self.row.project_id, user_id=principal.user_id, after=self.after
        )


def ask(services: Services, principal: Principal, project_id: UUID, chat: ChatRequest) -> Answer:
    """What a client posts. Raises what `messages.submit` and `store.retry` refuse with."""
    if chat.trigger == "regenerate-message":
        return _regenerate(services, principal, project_id, chat)
    return Answer(_submit(services, principal, project_id, chat)[0])


def _submit(services: Services, principal: Principal, project_id: UUID, chat: ChatRequest) -> tuple[Message, bool]:
    """The answer to the newest user message, and whether that was known: the same one sent again has the same answer."""
    said = _newest(chat)
    text = _text_of(said)
    given = NewMessage(content=text, model=chat.model, on_busy=chat.on_busy)
    # With the text and not as its body: who edits a message sends another text under the same id.
    told_apart_by = msgspec.json.encode([chat.id, said.id, given])
    key = f"ai-sdk-{hashlib.sha256(told_apart_by).hexdigest()}" if said.id else None
    pair = messages.submit(services, principal, project_id, given, key=key)
    return pair.assistant_message, pair.repeated


def _regenerate(services: Services, principal: Principal, project_id: UUID, chat: ChatRequest) -> Answer:
    """Another answer in place of the named one, or of the one to the newest user message."""
    named = _named(services, principal, project_id, chat.message_id)
    if named is None and (asked := _last_of_user(chat)) is not None:
        named = _named(services, principal, project_id, asked.id)
    if named is None:
        row, was_known = _submit(services, principal, project_id, chat)
        if not was_known:
            return Answer(row)  # it had never come as far as here
        named = row
    if named.status not in FINAL:
        return Answer(named)
    before, _ = services.store.message_for_reader(principal, named.id)
    try:
        row = services.store.retry(principal, named.id, services.submit_limits)
    except NotFinal:  # somebody else was faster
        return Answer(services.store.message(principal, named.id))
    announcing.retried(services.log, services.doorbell, row)
    return Answer(row, after=before.last_event_id)


def _named(services: Services, principal: Principal, project_id: UUID, message_id: str | None) -> Message | None:
    """The answer of that id, or to the user's message of that id; None where the client's id is none of ours."""
    if message_id is None or _UUID.fullmatch(message_id) is None:
        return None
    return services.store.answer(principal, project_id, UUID(message_id))


def resumed(services: Services, principal: Principal, project_id: UUID, message_id: str | None) -> Answer | None:
    """The answer of that id; without one the active one, None where none is. Raises `NotFound`."""
    if message_id is None:
        active = services.store.active_answer(principal, project_id)
        return None if active is None else Answer(active)
    row = services.store.message(principal, requests.path_id(message_id))
    if row.project_id != project_id or row.role is not Role.ASSISTANT:
        raise NotFound
    return Answer(row)


def stop(services: Services, principal: Principal, project_id: UUID) -> Message | None:
    """Cancel the active answer; None where none is. Raises `NotFound`, `Forbidden`."""
    active = services.store.active_answer(principal, project_id)
    return None if active is None else cancel(services, principal, active.id)


def cancel(services: Services, principal: Principal, message_id: UUID) -> Message | None:
    """None where it was final. Raises `NotFound`, `Forbidden`."""
    try:
        announcing.cancel(services.store, services.log, services.doorbell, principal, message_id)
    except AlreadyFinal:
        return None
    return services.store.message(principal, message_id)


# --- the newest user message ------------------------------------------------------------------------------------


def _newest(chat: ChatRequest) -> ClientMessage:
    """Raises `InvalidFields`: what follows on a tool's output or an approval of the client's has no place here."""
    newest = chat.message or (chat.messages[-1] if chat.messages else None)
    if newest is None or newest.role != "user":
        raise InvalidFields([("/messages", "must end with a message of the user's")])
    return newest


def _last_of_user(chat: ChatRequest) -> ClientMessage | None:
    return next(
        (said for said in reversed([*chat.messages, *filter(None, [chat.message])]) if said.role == "user"), None
    )


def _text_of(said: ClientMessage) -> str:
    """All its text parts. Raises `InvalidFields` for one with a file."""
    if any(part.type == "file" for part in said.parts):
        raise InvalidFields([("/messages", "has a file, which is not supported")])
    texts = [part.text for part in said.parts if part.type == "text" and isinstance(part.text, str)]
    if not any(texts):
        raise InvalidFields([("/messages", "must end with a message that has a text")])
    return "\n\n".join(texts)
