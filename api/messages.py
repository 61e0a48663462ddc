"""Messages: submitted, listed, read, cancelled, retried."""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec
from flask import request

from api import announcing, requests
from api.calls import Answer, Calls, Header
from api.pages import Limit, Page
from api.refusals import InvalidFields, InvalidHeader
from api.services import Services
from shared import errors
from shared.lifecycle import FINAL, MessageKind, MessageStatus, OnBusy
from shared.records import Message, Principal, Submitted
from shared.store import Idempotency

calls = Calls()

IDEMPOTENCY_KEY = Header(
    name="Idempotency-Key",
    description="The same key and body answer the same messages again.",
    pattern=r"^[\x21-\x7e]{1,200}$",
)
PREFER = Header(
    name="Prefer", description="`wait=<seconds>`, at most 120: answer 200 once the message is final (RFC 7240)."
)


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`onBusy`: what to do while an assistant message of the project is pending."""

    content: str
    model: str | None = None
    on_busy: OnBusy = OnBusy.QUEUE


class Pair(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The user's message and the assistant's, and the paths on which the second can be followed."""

    user_message: Message
    assistant_message: Message
    socket_url: str
    events_url: str


class MessagesQuery(msgspec.Struct, frozen=True, kw_only=True):
    limit: Limit = 50
    before: UUID | None = None
    """The `nextCursor` of the page before."""
    status: MessageStatus | None = None
    kind: MessageKind | None = None


@calls.add(
    "POST",
    "/v1/projects/{projectId}/messages",
    body=NewMessage,
    headers=(IDEMPOTENCY_KEY, PREFER),
    answers={202: Pair, 200: Pair},
    refusals=(
        InvalidHeader,
        errors.NotFound,
        errors.Forbidden,
        errors.Busy,
        errors.IdempotencyMismatch,
        errors.TooManyUnfinished,
        errors.QuotaExceeded,
    ),
)
def submit_message(services: Services, *, principal: Principal, project_id: UUID, body: NewMessage) -> Answer:
    """Send a message: it and the assistant's pending answer are stored together, then a worker is called.

    With `Prefer: wait=<s>` the answer is a 200 with the final message, or a 202 where that takes longer or where too
    many wait already. A 503 says that the outcome is unknown: send the same again with the same key.
    """
    key, wait_s = requests.idempotency_key(request.headers), requests.wait_s(request.headers)
    pair = submit(services, principal, project_id, body, key=key)
    if wait_s is None or not waited(services, pair, wait_s):
        return Answer(status=202, body=_pair(pair.user_message, pair.assistant_message))
    final = services.store.message(principal, pair.assistant_message.id)
    applied = {"Preference-Applied": f"wait={wait_s:.0f}"}
    return Answer(status=200, body=_pair(pair.user_message, final), headers=applied)


def submit(
    services: Services, principal: Principal, project_id: UUID, body: NewMessage, *, key: str | None = None
) -> Submitted:
    """Store the pair and call a worker. Raises what `submit_message` refuses with."""
    pair = services.store.submit(
        principal,
        project_id,
        _content(services, body),
        model=_model(services, body),
        on_busy=body.on_busy,
        limits=services.submit_limits,
        idempotency=None if key is None else Idempotency(key=key, body_sha256=_digest(body)),
    )
    announcing.submitted(services.log, services.doorbell, pair)
    return pair


def _content(services: Services, body: NewMessage) -> str:
    longest = services.settings.max_content_chars
    if not 1 <= len(body.content) <= longest:
        raise InvalidFields([("/content", f"must have 1 to {longest} characters")])
    return body.content


def _model(services: Services, body: NewMessage) -> str:
    models = services.settings.models
    if body.model is not None and body.model not in models:
        raise InvalidFields([("/model", f"must be one of {', '.join(models)}")])
    return body.model or models[0]


def _digest(body: NewMessage) -> bytes:
    """The same for the same fields, however they were written down."""
    return hashlib.sha256(msgspec.json.encode(body)).digest()


def waited(services: Services, pair: Submitted, wait_s: float) -> bool:
    """Whether the assistant's message is final within `wait_s`; False at once where too many wait already."""
    if pair.assistant_message.status in FINAL:
        return True
    if not services.waiting.acquire(blocking=False):
        return False
    try:
        return services.relay.wait_final(pair.assistant_message.id, wait_s)
    finally:
        services.waiting.release()


def _pair(user_message: Message, assistant_message: Message) -> Pair:
    path = f"/v1/messages/{assistant_message.id}"
    return Pair(
        user_message=user_message,
        assistant_message=assistant_message,
        socket_url=f"{path}/socket",
        events_url=f"{path}/events",
    )


@calls.add(
    "GET",
    "/v1/projects/{projectId}/messages",
    query=MessagesQuery,
    answers={200: Page[Message]},
    refusals=(errors.NotFound,),
)
def list_messages(services: Services, *, principal: Principal, project_id: UUID, query: MessagesQuery) -> Answer:
    """The messages of a project, newest first."""
    items, cursor = services.store.messages(
        principal, project_id, limit=query.limit, before=query.before, status=query.status, kind=query.kind
    )
    return Answer(status=200, body=Page(items=items, next_cursor=None if cursor is None else str(cursor)))


@calls.add("GET", "/v1/messages/{messageId}", answers={200: Message}, refusals=(errors.NotFound,))
def get_message(services: Services, *, principal: Principal, message_id: UUID) -> Answer:
    """One message."""
    return Answer(status=200, body=services.store.message(principal, message_id))


@calls.add(
    "POST",
    "/v1/messages/{messageId}/cancel",
    answers={202: Message},
    refusals=(errors.NotFound, errors.Forbidden, errors.AlreadyFinal),
)
def cancel_message(services: Services, *, principal: Principal, message_id: UUID) -> Answer:
    """Ask for a message's end; its text so far is kept. The answer may still show it unfinished."""
    announcing.cancel(services.store, services.log, services.doorbell, principal, message_id)
    return Answer(status=202, body=services.store.message(principal, message_id))


@calls.add(
    "POST",
    "/v1/messages/{messageId}/retry",
    answers={202: Message},
    refusals=(
        errors.NotFound,
        errors.Forbidden,
        errors.NotFinal,
        errors.TooManyUnfinished,
        errors.QuotaExceeded,
    ),
)
def retry_message(services: Services, *, principal: Principal, message_id: UUID) -> Answer:
    """Put a final message back in the queue: a failed one goes on where it stopped, a success runs anew."""
    message = services.store.retry(principal, message_id, services.submit_limits)
    announcing.retried(services.log, services.doorbell, message)
    return Answer(status=202, body=message)
