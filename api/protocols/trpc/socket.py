"""tRPC on a WebSocket: what `wsLink` says, as acts of the conversation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from typing import Final

import msgspec

from api import throttle
from api.auth import Caller
from api.close_codes import CloseCode
from api.protocols.sockets import Act, Ask, Await, Dialect, Follow, Known, Outcome, Say, Stop
from api.protocols.trpc import envelopes, procedures
from api.protocols.trpc.envelopes import Envelope, Request, Transformer
from api.protocols.trpc.errors import (
    BAD_REQUEST,
    PARSE_ERROR,
    SERVICE_UNAVAILABLE,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    Kind,
    MalformedMessage,
    Refusal,
    shape,
    shape_of,
)
from api.protocols.trpc.procedures import Procedure, Waiting
from api.protocols.trpc.telling import SocketTelling
from api.refusals import Unauthorized
from api.relay import MessageTarget
from api.services import Services
from shared.errors import ChatrelayError

_log = logging.getLogger(__name__)

_PONG: Final = envelopes.PONG.encode()
_GOODBYES: Final[dict[CloseCode, Kind]] = {
    CloseCode.FLOOD: TOO_MANY_REQUESTS,
    CloseCode.UNKNOWN: UNAUTHORIZED,
    CloseCode.RESTART: SERVICE_UNAVAILABLE,
}
"""Said to the socket as a whole before it is closed: the client then waits longer and longer before it comes back."""


class TrpcDialect(Dialect):
    """One client. `token` None: it comes in the first message, as `?connectionParams=1` in the address announces.

    Every call authenticates anew, so that a token that was revoked does nothing more.
    """

    def __init__(self, services: Services, token: str | None) -> None:
        self._services = services
        self._transformer = Transformer(services.settings.trpc_transformer)
        self._token = token
        self._client = throttle.client()
        self._awaits_params = token is None
        self._refused: Exception | None = None
        """Why nothing is done for this client."""

    # --- what is heard ------------------------------------------------------------------------------------------

    def hear(self, text: str | None, taken: Container[Hashable]) -> Iterator[Act]:
        if text == envelopes.PING:
            yield Say(_PONG)
        elif text == envelopes.PONG:
            return
        elif self._awaits_params:
            yield from self._hear_params(text)
        else:
            try:
                heard = self._parse(text)
            except MalformedMessage as error:
                yield Say(self._to_all(error.kind, error.message))
                return
            for request in heard:
                yield from self._hear_one(request, taken)

    def _parse(self, text: str | None) -> list[Request]:
        if text is None:
            raise MalformedMessage("Frames are text")
        return envelopes.parse(text, self._transformer, max_depth=self._services.settings.max_json_depth)

    def _hear_params(self, text: str | None) -> Iterator[Act]:
        self._awaits_params = False
        try:
            if text is None:
                raise MalformedMessage("Malformed TRPCConnectionParamsMessage")
            self._token = envelopes.first_message(text, max_depth=self._services.settings.max_json_depth)
        except MalformedMessage as error:
            self._refused = error
            yield Say(self._to_all(error.kind, error.message))
        else:
            yield Ask(None, self._identify)

    def _hear_one(self, request: Request, taken: Container[Hashable]) -> Iterator[Act]:
        envelope = Envelope(request.id, self._transformer, jsonrpc=request.jsonrpc)
        if request.id is None:
            yield Say(envelope.error(shape(PARSE_ERROR, "`id` is required")))
        elif request.kind is None:
            yield Stop(request.id, envelope.stopped)
        elif request.kind != "subscription":
            yield Ask(None, lambda: self._call(request, envelope))
        elif request.id in taken:
            yield Say(envelope.error(shape(BAD_REQUEST, f"Duplicate id {request.id}", request.path)))
        else:
            yield Ask(request.id, lambda: self._subscribe(request, envelope))

    # --- what is said to the socket as a whole ------------------------------------------------------------------

    def moving(self) -> Sequence[bytes]:
        return (envelopes.RECONNECT,)

    def goodbye(self, code: CloseCode) -> Sequence[bytes]:
        kind = _GOODBYES.get(code)
        return () if kind is None else (self._to_all(kind, code.reason),)

    def _to_all(self, kind: Kind, message: str) -> bytes:
        return Envelope(None, self._transformer).error(shape(kind, message))

    # --- the work, on a thread for calls ------------------------------------------------------------------------

    def _identify(self) -> Outcome:
        try:
            caller = self._caller()
            return Known(
                caller.user_id,
                self._services.relay.admit_caller(caller, self._client.counted_place),
            )
        except Unauthorized as error:
            throttle.count_bad_token(self._services.rates, self._client)
            self._refused = error  # each call says so
        except ChatrelayError as error:
            self._refused = error  # too many sockets, say; the socket ends soon
        except Exception as error:
            _log.exception("a client could not be identified")
            self._refused = error
        return None

    def _caller(self) -> Caller:
        if self._refused is not None:
            raise self._refused
        if self._token is None:
            raise Unauthorized
        return self._services.authenticator.by_bare_token(self._token)

    def _call(self, request: Request, envelope: Envelope) -> Outcome:
        def work() -> Outcome:
            assert request.kind is not None
            procedure = procedures.find(request.path, request.kind)
            caller = self._caller()
            if procedure.waits:
                return self._wait(caller, procedure, request, envelope)
            result = procedures.run(self._services, caller, procedure, request.input)
            return Say(envelope.data(msgspec.json.encode(result)))

        return _refusing(work, request, envelope)

    def _wait(self, caller: Caller, procedure: Procedure, request: Request, envelope: Envelope) -> Outcome:
        admission = self._services.relay.admit_caller(caller)  # before anything is changed
        try:
            waiting = procedures.run(self._services, caller, procedure, request.input)
            assert isinstance(waiting, Waiting)
        except BaseException:
            admission.release()
            raise

        def finish() -> Outcome:
            return Say(envelope.data(msgspec.json.encode(waiting.finish())))

        message = waiting.pair.assistant_message
        target = MessageTarget(message_id=message.id, project_id=message.project_id, user_id=caller.user_id)
        return Await(target, waiting.timeout_s, lambda is_final: _refusing(finish, request, envelope), admission)

    def _subscribe(self, request: Request, envelope: Envelope) -> Outcome:
        def work() -> Outcome:
            procedures.find(request.path, "subscription")
            caller = self._caller()
            target = procedures.target(self._services, caller, request.input, request.last_event_id)
            admission = self._services.relay.admit_caller(caller)
            return Follow(target, SocketTelling(envelope, request.path), admission)

        return _refusing(work, request, envelope)


def _refusing(work: Callable[[], Outcome], request: Request, envelope: Envelope) -> Outcome:
    """What `work` comes to, or how it was refused."""
    try:
        return work()
    except (ChatrelayError, Refusal) as error:
        refused = shape_of(error, request.path)
    except Exception as error:
        refused = shape_of(error, request.path)
    if refused.data.http_status == 500:
        _log.exception("a call failed")
    return Say(envelope.error(refused))
