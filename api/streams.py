"""The events of one message, or of a project, over a WebSocket or as Server-Sent Events.

All that can be refused is refused over HTTP, before the handshake. Then the connection is the relay's and costs no
request thread.
"""

from __future__ import annotations

import base64
import binascii
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import msgspec
from flask import Response, request

from api import origins, readers, throttle, wire
from api.auth import Caller
from api.calls import EVENT_STREAM, Access, Calls, Header
from api.handover import HandedOver, take_socket
from api.refusals import ForeignOrigin, InvalidHeader
from api.relay import (
    Admission,
    FollowingEnded,
    Heartbeat,
    MessageTarget,
    ProjectTarget,
    Relay,
    Target,
    TooManyReaders,
    is_done,
)
from api.services import Services
from shared import errors, events
from shared.event_log import Entry
from shared.events import EventId, StreamEvent
from shared.lifecycle import MemberRole
from shared.notices import ProjectEvent
from shared.records import MessageState, Principal

calls = Calls()

_EVENT_ID = r"^([1-9][0-9]{0,9}-(0|[1-9][0-9]{0,9}))?$"
LAST_EVENT_ID = Header(
    name="Last-Event-ID", description="As `after`, which it overrides: what an EventSource sends.", pattern=_EVENT_ID
)


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True):
    after: Annotated[str, msgspec.Meta(pattern=_EVENT_ID)] | None = None
    """The id of the last event that the reader has."""


@calls.add(
    "GET",
    "/v1/messages/{messageId}/socket",
    access=Access.TOKEN_OR_TICKET,
    query=StreamQuery,
    answers={101: StreamEvent},
    refusals=(ForeignOrigin, InvalidHeader, errors.NotFound, TooManyReaders),
    is_socket=True,
)
def message_socket(services: Services, *, principal: Caller, message_id: UUID, query: StreamQuery) -> SocketGuest:
    """The message's events over a WebSocket, one JSON object a text frame, until it is final (close 1000).

    The newest attempt from its start, or what follows `after` where that lies in it, then live. The client may send
    `{"type":"cancel"}` and `{"type":"ping"}`.
    """
    check_handshake()
    row, may_cancel = services.store.message_for_reader(principal, message_id)
    return SocketGuest(
        relay=services.relay,
        target=_target(row, principal, _position(query.after), may_cancel=may_cancel),
        admission=services.relay.admit_caller(principal, throttle.place()),
    )


@calls.add(
    "GET",
    "/v1/messages/{messageId}/events",
    access=Access.TOKEN_OR_TICKET,
    query=StreamQuery,
    headers=(LAST_EVENT_ID,),
    media_type=EVENT_STREAM,
    answers={200: StreamEvent, 204: None},
    refusals=(ForeignOrigin, InvalidHeader, errors.NotFound, TooManyReaders),
)
def message_events(services: Services, *, principal: Caller, message_id: UUID, query: StreamQuery) -> Response:
    """The message's events as Server-Sent Events (`id:` and `data:`), ended once it is final.

    A reader that has had the terminal event is answered 204, which stops an EventSource.
    """
    after = _position(request.headers.get("Last-Event-ID"), header=True) or _position(query.after)
    row, _ = services.store.message_for_reader(principal, message_id)
    if is_done(row, after):
        return Response(status=204)
    return event_stream(services, principal, _target(row, principal, after))


@calls.add(
    "GET",
    "/v1/projects/{projectId}/socket",
    access=Access.TOKEN_OR_TICKET,
    answers={101: ProjectEvent},
    refusals=(ForeignOrigin, InvalidHeader, errors.NotFound, TooManyReaders),
    is_socket=True,
)
def project_socket(services: Services, *, principal: Caller, project_id: UUID) -> SocketGuest:
    """All that happens in a project over a WebSocket, one JSON object a text frame. It does not end.

    First `ready`: what a GET shows after it, together with what follows, is complete. Then the newest attempt of each
    unfinished message, then everything as it happens; a reader that comes back starts so again. The client may send
    `{"type":"cancel","messageId":"…"}` and `{"type":"ping"}`.
    """
    check_handshake()
    return SocketGuest(
        relay=services.relay,
        target=_project_target(services, principal, project_id),
        admission=services.relay.admit_caller(principal, throttle.place()),
    )


@calls.add(
    "GET",
    "/v1/projects/{projectId}/events",
    access=Access.TOKEN_OR_TICKET,
    media_type=EVENT_STREAM,
    answers={200: ProjectEvent},
    refusals=(ForeignOrigin, InvalidHeader, errors.NotFound, TooManyReaders),
)
def project_events(services: Services, *, principal: Caller, project_id: UUID) -> Response:
    """All that happens in a project as Server-Sent Events (`data:` alone): as on its socket."""
    return event_stream(services, principal, _project_target(services, principal, project_id))


def _project_target(services: Services, principal: Principal, project_id: UUID) -> ProjectTarget:
    role = services.store.project_for_reader(principal, project_id)
    return ProjectTarget(project_id=project_id, user_id=principal.user_id, may_cancel=role is not MemberRole.VIEWER)


def event_stream(services: Services, caller: Caller, target: Target) -> Response:
    if request.method == "HEAD":
        return Response(mimetype=EVENT_STREAM)
    admission = services.relay.admit_caller(caller, throttle.place())
    try:
        connection = take_socket(request.environ)
    except OSError:
        admission.release()
        raise
    if connection is None:
        return _in_this_thread(services.relay, target, admission)
    services.relay.adopt_sse(
        connection,
        target,
        admission,
        headers=origins.headers(services.settings).items(),
        chunked=request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0",
    )
    return HandedOver()


@dataclass(frozen=True, kw_only=True)
class SocketGuest:
    """A reader that is let in as soon as the handshake is done."""

    relay: Relay
    target: Target
    admission: Admission

    def adopt(self, sock: socket.socket) -> None:
        self.relay.adopt_socket(sock, self.target, self.admission)

    def turn_away(self) -> None:
        self.admission.release()


def _target(
    row: MessageState, principal: Principal, after: EventId | None, *, may_cancel: bool = False
) -> MessageTarget:
    return MessageTarget(
        message_id=row.message_id,
        project_id=row.project_id,
        user_id=principal.user_id,
        after=after,
        may_cancel=may_cancel,
    )


def _position(text: str | None, *, header: bool = False) -> EventId | None:
    if not text:
        return None
    try:
        return EventId.parse(text)
    except ValueError:
        assert header, "the query was parsed before"
        raise InvalidHeader("Last-Event-ID must be the id of an event.") from None


def check_handshake() -> None:
    """Raises `InvalidHeader` where RFC 6455, section 4.2.1, asks for something else."""
    headers = request.headers
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if headers.get("Sec-WebSocket-Version") != "13" or len(key) != 16:
        raise InvalidHeader("The WebSocket handshake is not one of RFC 6455, version 13.")


def _in_this_thread(relay: Relay, target: Target, admission: Admission) -> Response:
    """For servers that give no connection away: the events come through the request's own thread."""

    def lines() -> Iterator[bytes]:
        yield readers.retry()
        try:
            for item in relay.follow(target, admission):
                if isinstance(item, Heartbeat):
                    yield wire.HEARTBEAT
                elif isinstance(target, MessageTarget):
                    yield wire.Frame.of(Entry(events.peek(item)[1], item)).sse()
                else:
                    yield wire.plain_sse(item)
        except FollowingEnded:
            return  # the client comes back, or is told why not

    response = Response(lines(), mimetype=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
    response.call_on_close(admission.release)
    return response
