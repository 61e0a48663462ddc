"""tRPC over HTTP: queries and mutations, alone or in batches, and subscriptions as event streams; and the way to its socket.

Every refusal is in tRPC's own words, with the status that its own server gives; a subscription's comes inside of its stream.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from flask import Response, current_app, request

from api import auth, messages, requests, throttle
from api.auth import Caller
from api.calls import EVENT_STREAM, JSON, Access, Calls
from api.errors import headers_of
from api.protocols import streams
from api.protocols.sockets import SocketGuest
from api.protocols.trpc import envelopes, procedures
from api.protocols.trpc.envelopes import ProcedureKind, Transformer
from api.protocols.trpc.errors import (
    BAD_REQUEST,
    METHOD_NOT_SUPPORTED,
    NOT_FOUND,
    Refusal,
    Shape,
    shape_of,
)
from api.protocols.trpc.procedures import PROCEDURES, Procedure, Waiting
from api.protocols.trpc.socket import TrpcDialect
from api.protocols.trpc.telling import StreamTelling, connected
from api.readers import NOBODY, VANISHED_GRACE_S
from api.refusals import ForeignOrigin, InvalidHeader, Unauthorized
from api.relay import TooManyReaders
from api.services import Services
from api.streams import check_handshake
from shared import strict_json
from shared.errors import ChatrelayError
from shared.records import JsonValue

calls = Calls()

MOST_IN_A_BATCH: Final = 50
TYPES: Final = "clients/trpc.d.ts"
_JSON_LINES: Final = "application/jsonl"
_METHODS: Final[dict[ProcedureKind, str]] = {"query": "GET", "mutation": "POST", "subscription": "GET"}
_PING: Final = envelopes.event("ping")

_log = logging.getLogger(__name__)


@calls.add(
    "GET",
    "/trpc",
    access=Access.PROTOCOL,
    answers={101: None},
    refusals=(ForeignOrigin, InvalidHeader, Unauthorized, TooManyReaders),
    is_socket=True,
)
def trpc_socket(services: Services) -> SocketGuest:
    """tRPC's WebSocket. With `?connectionParams=1` the token comes in the first message, else in the header."""
    check_handshake()
    if request.args.get("connectionParams") == "1":
        admission = services.relay.admit(NOBODY, place=throttle.place())
        return SocketGuest(relay=services.relay, dialect=TrpcDialect(services, None), admission=admission)
    token = auth.bearer_token(request.headers)
    if token is None:
        raise Unauthorized
    admission = services.relay.admit_caller(services.authenticator.by_bare_token(token), throttle.place())
    return SocketGuest(relay=services.relay, dialect=TrpcDialect(services, token), admission=admission)


@calls.add("GET", "/trpc/{procedures}", access=Access.PROTOCOL, answers={200: None})
def trpc_get(services: Services, *, procedures: str) -> Response:
    """Queries, and a subscription."""
    return Response(status=204) if request.method == "HEAD" else _serve(services, procedures)


@calls.add("POST", "/trpc/{procedures}", access=Access.PROTOCOL, answers={200: None})
def trpc_post(services: Services, *, procedures: str) -> Response:
    """Mutations."""
    return _serve(services, procedures)


@calls.add("GET", f"/{TYPES}", access=Access.ANYBODY, media_type="text/plain", answers={200: str})
def trpc_types(services: Services) -> Response:
    """The router's types, for `createTRPCClient<AppRouter>`."""
    response = current_app.send_static_file(TYPES)
    response.mimetype = "text/plain"
    return response


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One call of a request; `procedure` None where there is none at that path."""

    path: str
    procedure: Procedure | None
    input: JsonValue

    @property
    def is_subscription(self) -> bool:
        return self.procedure is not None and self.procedure.kind == "subscription"


def _serve(services: Services, paths: str) -> Response:
    transformer = Transformer(services.settings.trpc_transformer)
    try:
        asked = _asked(services, paths, transformer)
        if not _is_batch() and request.method == "GET" and asked[0].is_subscription:
            return _subscription(services, asked[0], transformer)
        token = _token(services)
    except (ChatrelayError, Refusal) as error:
        return _one(shape_of(error), transformer, error)
    batch = _Batch(services, token, request.method, asked)
    if _wants_lines():
        return Response(batch.lines(transformer), mimetype=JSON, headers={"X-Accel-Buffering": "no"})
    results = batch.results()
    answers = [envelopes.response(result, transformer) for result in results]
    response = Response(
        envelopes.batch(answers) if _is_batch() else answers[0], envelopes.status_of(results), mimetype=JSON
    )
    response.headers.update(batch.headers)
    return response


def _is_batch() -> bool:
    return request.args.get("batch") == "1"


def _wants_lines() -> bool:
    accepted = request.headers.get("Trpc-Accept") or request.headers.get("Accept", "")
    return _JSON_LINES in (part.strip() for part in accepted.split(","))


def _one(shape: Shape, transformer: Transformer, error: Exception | None = None) -> Response:
    """The answer to a request that is refused as a whole."""
    response = Response(envelopes.response(shape, transformer), shape.data.http_status, mimetype=JSON)
    if isinstance(error, ChatrelayError):
        response.headers.update(headers_of(error, shape.data.http_status))
    return response


# --- what is asked ----------------------------------------------------------------------------------------------


def _asked(services: Services, joined: str, transformer: Transformer) -> list[_Asked]:
    """Raises `Refusal` and our errors for what concerns the request as a whole."""
    is_batch = _is_batch()
    paths = joined.split(",") if is_batch else [joined]
    if len(paths) > MOST_IN_A_BATCH:
        raise Refusal(BAD_REQUEST, "Batch call exceeds maximum size")
    if _wants_lines() and not is_batch:
        raise Refusal(BAD_REQUEST, "Streaming requests must be batched (you can do a batch of 1)")
    found = [PROCEDURES.get(path) for path in paths]
    kinds = {procedure.kind for procedure in found if procedure is not None}
    if len(kinds) > 1:
        raise Refusal(BAD_REQUEST, f"Cannot mix procedure types in call: {', '.join(sorted(kinds))}")
    inputs = envelopes.inputs_of(_inputs(services), paths, is_batch=is_batch)
    if inputs is None:
        raise Refusal(BAD_REQUEST, '"input" needs to be an object when doing a batch call')
    return [
        _Asked(path=path, procedure=procedure, input=transformer.unwrap(inputs.get(index)))
        for index, (path, procedure) in enumerate(zip(paths, found, strict=True))
    ]


def _inputs(services: Services) -> JsonValue:
    """The input as it was sent; None where there is none."""
    settings = services.settings
    if request.method == "GET":
        raw = request.args.get("input", "").encode()
    elif not request.content_length and "Transfer-Encoding" not in request.headers:
        raw = b""
    else:
        raw = requests.read_body(request, JSON, max_bytes=settings.max_body_bytes)
    return strict_json.load(raw, max_depth=settings.max_json_depth, what="The input") if raw else None


def _token(services: Services) -> str | None:
    """From the header, else from `connectionParams` in the address. Raises `MalformedMessage`."""
    token = auth.bearer_token(request.headers)
    params = request.args.get("connectionParams")
    if token is not None or params is None:
        return token
    return envelopes.token_of(envelopes.load(params.encode(), max_depth=services.settings.max_json_depth))


# --- queries and mutations --------------------------------------------------------------------------------------


class _Batch:
    """The calls of one request, in their order; those that wait for an answer's end do so after the others, together."""

    def __init__(self, services: Services, token: str | None, method: str, asked: Sequence[_Asked]) -> None:
        self._services = services
        self._token = token
        self._method = method
        self._asked = asked
        self._caller: Caller | None = None
        self.headers: dict[str, str] = {}
        """What a refusal adds to the answer."""

    def results(self) -> list[bytes | Shape]:
        found = dict(self._run())
        return [found[index] for index in range(len(self._asked))]

    def lines(self, transformer: Transformer) -> Iterator[bytes]:
        """Each answer as soon as it is there."""
        yield envelopes.lines_head(len(self._asked), transformer)
        for index, result in self._run():
            yield envelopes.line(index, result, transformer)

    def _run(self) -> Iterator[tuple[int, bytes | Shape]]:
        waiting: list[tuple[int, Waiting]] = []
        for index, asked in enumerate(self._asked):
            result = self._guarded(asked.path, partial(self._do, asked))
            if isinstance(result, Waiting):
                waiting.append((index, result))
            else:
                yield index, result
        end_s = time.monotonic() + requests.LONGEST_WAIT_S
        for index, one in waiting:
            messages.waited(self._services, one.pair, min(one.timeout_s, max(0.0, end_s - time.monotonic())))
            result = self._guarded(self._asked[index].path, partial(_finish, one))
            assert not isinstance(result, Waiting)
            yield index, result

    def _guarded(self, path: str, work: Callable[[], bytes | Waiting]) -> bytes | Shape | Waiting:
        """What `work` comes to, or how it was refused."""
        try:
            return work()
        except (ChatrelayError, Refusal) as error:
            refused = shape_of(error, path)
            if isinstance(error, ChatrelayError):
                self.headers.update(headers_of(error, refused.data.http_status))
        except Exception as error:
            refused = shape_of(error, path)
        if refused.data.http_status == 500:
            _log.exception("a call failed")
        return refused

    def _do(self, asked: _Asked) -> bytes | Waiting:
        procedure, method = asked.procedure, self._method
        if procedure is None:
            raise Refusal(NOT_FOUND, f'No procedure found on path "{asked.path}"')
        if method != _METHODS[procedure.kind]:
            self.headers["Allow"] = _METHODS[procedure.kind]
            raise Refusal(
                METHOD_NOT_SUPPORTED,
                f'Unsupported {method}-request to {procedure.kind} procedure at path "{asked.path}"',
            )
        if procedure.do is None:
            raise Refusal(BAD_REQUEST, "Cannot batch subscription calls")
        caller = self._authenticated()
        throttle.check_user(self._services.rates, caller, throttle.client())
        result = procedures.run(self._services, caller, procedure, asked.input)
        return result if isinstance(result, Waiting) else msgspec.json.encode(result)

    def _authenticated(self) -> Caller:
        if self._caller is None:
            if self._token is None:
                raise Unauthorized
            self._caller = self._services.authenticator.by_bare_token(self._token)
        return self._caller


def _finish(waiting: Waiting) -> bytes:
    return msgspec.json.encode(waiting.finish())


# --- subscriptions ----------------------------------------------------------------------------------------------


def _subscription(services: Services, asked: _Asked, transformer: Transformer) -> Response:
    reconnect_after_ms = int(1000 * (2 * services.settings.heartbeat_socket_s + VANISHED_GRACE_S))
    try:
        token = _token(services)
        if token is None:
            raise Unauthorized
        caller = services.authenticator.by_bare_token(token)
        last_event_id = request.headers.get("Last-Event-ID") or request.args.get("lastEventId")
        throttle.check_user(services.rates, caller, throttle.client())
        target = procedures.target(services, caller, asked.input, last_event_id)
        telling = StreamTelling(transformer, asked.path, reconnect_after_ms=reconnect_after_ms)
        return streams.answer(services, caller, target, telling, heartbeat=_PING)
    except (ChatrelayError, Refusal) as error:
        refused = envelopes.error_event(shape_of(error, asked.path), transformer)
        return Response(connected(reconnect_after_ms) + refused, mimetype=EVENT_STREAM)
