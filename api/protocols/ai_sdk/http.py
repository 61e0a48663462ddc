"""The AI SDK's chat over HTTP, for `DefaultChatTransport`, and the way to its socket. Refusals are problems, as elsewhere."""

from __future__ import annotations

import re
from typing import Final, Literal
from uuid import UUID

import msgspec
from flask import Response, request

from api import calls as api_calls
from api import throttle
from api.auth import Caller
from api.calls import EVENT_STREAM, Access, Calls
from api.protocols import streams
from api.protocols.ai_sdk import asking
from api.protocols.ai_sdk.asking import Answer, ChatRequest
from api.protocols.ai_sdk.chunks import Chunk
from api.protocols.ai_sdk.socket import AiSdkDialect
from api.protocols.ai_sdk.telling import StreamTelling
from api.protocols.sockets import SocketGuest
from api.refusals import ForeignOrigin, InvalidHeader
from api.relay import Admission, TooManyReaders
from api.services import Services
from api.streams import check_handshake
from shared import errors
from shared.records import Message

calls = Calls()

STREAM_HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1"}
_SUBMIT_REFUSALS: Final = (
    InvalidHeader,
    errors.NotFound,
    errors.Forbidden,
    errors.Busy,
    errors.IdempotencyMismatch,
    errors.TooManyUnfinished,
    errors.QuotaExceeded,
    TooManyReaders,
)
_AI_SDK: Final = re.compile(r"\bai-sdk/([0-9]{1,4})")
_KNOWS_RESETS: Final = 7
"""The first version whose client knows `reset-step`."""


class VersionQuery(msgspec.Struct, frozen=True, kw_only=True):
    sdk: Literal["6", "7"] | None = None
    """The client's major version. No transport of the SDK says it by itself."""


class ResumeQuery(VersionQuery, frozen=True, kw_only=True, rename="camel"):
    message_id: str | None = None
    """An answer that is to be told, also one that has ended."""


@calls.add(
    "POST",
    "/v1/ai/chat/{projectId}",
    query=VersionQuery,
    body=ChatRequest,
    media_type=EVENT_STREAM,
    answers={200: Chunk},
    refusals=_SUBMIT_REFUSALS,
)
def ai_chat(
    services: Services, *, principal: Caller, project_id: UUID, query: VersionQuery, body: ChatRequest
) -> Response:
    """A message of `useChat`: it is answered by the UI message stream of its answer.

    `submit-message` sends the newest user message; sent again under the same id it has the same answer.
    `regenerate-message` has an answer written anew.
    """
    admission = services.relay.admit_caller(principal, throttle.place())  # before anything is changed
    try:
        answer = asking.ask(services, principal, project_id, body)
    except BaseException:
        admission.release()
        raise
    return _told(services, principal, answer, query, admission)


@calls.add(
    "GET",
    "/v1/ai/chat/{projectId}/stream",
    query=ResumeQuery,
    media_type=EVENT_STREAM,
    answers={200: Chunk, 204: None},
    refusals=(errors.NotFound, TooManyReaders),
)
def ai_chat_stream(services: Services, *, principal: Caller, project_id: UUID, query: ResumeQuery) -> Response:
    """The active answer from its start, under the same id; 204 where none is active."""
    answer = asking.resumed(services, principal, project_id, query.message_id)
    if answer is None:
        return Response(status=204)
    return _told(services, principal, answer, query)


@calls.add(
    "GET",
    "/v1/ai/chat/{projectId}/{chatId}/stream",
    query=ResumeQuery,
    media_type=EVENT_STREAM,
    answers={200: Chunk, 204: None},
    refusals=(errors.NotFound, TooManyReaders),
)
def ai_chat_stream_of_chat(
    services: Services, *, principal: Caller, project_id: UUID, chat_id: str, query: ResumeQuery
) -> Response:
    """As `…/stream`: the address to which a `DefaultChatTransport` comes back by itself.

    The chat's id is the client's own and is not looked at.
    """
    return ai_chat_stream(services, principal=principal, project_id=project_id, query=query)


@calls.add(
    "POST",
    "/v1/ai/chat/{projectId}/stop",
    answers={202: Message, 204: None},
    refusals=(errors.NotFound, errors.Forbidden),
)
def ai_chat_stop(services: Services, *, principal: Caller, project_id: UUID) -> api_calls.Answer:
    """Cancel the active answer, whose text so far is kept; 204 where none is active.

    `stop()` of `useChat` only closes its own connection.
    """
    row = asking.stop(services, principal, project_id)
    return api_calls.Answer(status=204) if row is None else api_calls.Answer(status=202, body=row)


@calls.add(
    "GET",
    "/v1/ai/chat/{projectId}/socket",
    access=Access.TOKEN_OR_TICKET,
    answers={101: None},
    refusals=(ForeignOrigin, InvalidHeader, errors.NotFound, TooManyReaders),
    is_socket=True,
)
def ai_chat_socket(services: Services, *, principal: Caller, project_id: UUID) -> SocketGuest:
    """The same over a WebSocket, for `WebSocketChatTransport`: the frames `send`, `resume` and `abort`."""
    check_handshake()
    services.store.project_for_reader(principal, project_id)
    return SocketGuest(
        relay=services.relay,
        dialect=AiSdkDialect(services, principal, project_id),
        admission=services.relay.admit_caller(principal, throttle.place()),
        project_id=project_id,
    )


def _told(
    services: Services, principal: Caller, answer: Answer, query: VersionQuery, admission: Admission | None = None
) -> Response:
    if request.method == "HEAD":
        return Response(mimetype=EVENT_STREAM, headers=STREAM_HEADERS)
    return streams.answer(
        services,
        principal,
        answer.target(principal),
        StreamTelling(answer.row, resets=_knows_resets(query)),
        headers=STREAM_HEADERS,
        admission=admission,
        breaks_off=True,
    )


def _knows_resets(query: VersionQuery) -> bool:
    """By what the address says, else by a `User-Agent` as the SDK's other clients send it. Who says neither may be any."""
    if query.sdk is not None:
        return int(query.sdk) >= _KNOWS_RESETS
    named = _AI_SDK.search(request.headers.get("User-Agent", ""))
    return named is not None and int(named[1]) >= _KNOWS_RESETS
