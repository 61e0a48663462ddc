"""How the whole system is doing: a summary, and what happens as it happens."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
from flask import Response

from api import throttle
from api.auth import Caller
from api.calls import EVENT_STREAM, Access, Answer, Calls
from api.refusals import ForeignOrigin, InvalidHeader
from api.relay import OpsTarget, TooManyReaders
from api.services import Services
from api.streams import SocketGuest, check_handshake, event_stream
from shared import ops_events
from shared.errors import StoreUnavailable
from shared.lifecycle import Scope
from shared.ops_events import OpsEvent, ReadyLine
from shared.ops_records import Summary

calls = Calls()

_MOST: Final = "{0,19}"
_ID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def _list_of(item: str) -> msgspec.Meta:
    return msgspec.Meta(pattern=f"^{item}(,{item}){_MOST}$")


class LiveQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Each a value or several with commas between, at most 20; a line must have one of each that is given."""

    project: Annotated[str, _list_of(_ID)] | None = None
    message: Annotated[str, _list_of(_ID)] | None = None
    status: Annotated[str, _list_of(ops_events.TYPE)] | None = None
    type: Annotated[str, _list_of(ops_events.TYPE)] | None = None


@calls.add("GET", "/v1/ops/summary", scope=Scope.OPS, answers={200: Summary})
def ops_summary(services: Services, *, principal: Caller) -> Answer:
    """Figures of the whole system, at most a second old: what waits, what is held, what ended how, how long it took."""
    return Answer(status=200, body=services.figures.now())


@calls.add(
    "GET",
    "/v1/ops/socket",
    access=Access.TOKEN_OR_TICKET,
    scope=Scope.OPS,
    query=LiveQuery,
    answers={101: OpsEvent},
    refusals=(ForeignOrigin, InvalidHeader, TooManyReaders),
    is_socket=True,
)
def ops_socket(services: Services, *, principal: Caller, query: LiveQuery) -> SocketGuest:
    """The lifecycle of all messages over a WebSocket, one line of `chatrelay:ops` a text frame. It does not end.

    First `ready` with a summary; what follows happened since. `missed` says that lines are lacking: so many, for a client
    that does not keep up, or unknown, where Redis was away. The client may send `{"type":"ping"}`.
    """
    check_handshake()
    return SocketGuest(
        relay=services.relay,
        target=_target(services, principal, query),
        admission=services.relay.admit_caller(principal, throttle.place()),
    )


@calls.add(
    "GET",
    "/v1/ops/events",
    access=Access.TOKEN_OR_TICKET,
    scope=Scope.OPS,
    query=LiveQuery,
    media_type=EVENT_STREAM,
    answers={200: OpsEvent},
    refusals=(ForeignOrigin, InvalidHeader, TooManyReaders),
)
def ops_events_stream(services: Services, *, principal: Caller, query: LiveQuery) -> Response:
    """The lifecycle of all messages as Server-Sent Events (`data:` alone): as on the socket."""
    return event_stream(services, principal, _target(services, principal, query))


def _target(services: Services, principal: Caller, query: LiveQuery) -> OpsTarget:
    store, token = services.store, principal.token_sha256

    def opening() -> bytes:
        try:
            summary: Summary | None = services.figures.read_after(time.monotonic())
        except StoreUnavailable:
            summary = None
        return ops_events.encode(ReadyLine(summary=summary))

    return OpsTarget(
        user_id=principal.user_id,
        wanted=ops_events.Filter(
            projects=_split(query.project),
            messages=_split(query.message),
            statuses=_split(query.status),
            types=_split(query.type),
        ),
        opening=opening,
        may_watch=lambda: store.is_good(token, Scope.OPS),
    )


def _split(given: str | None) -> frozenset[str]:
    return frozenset(given.split(",")) if given else frozenset()
