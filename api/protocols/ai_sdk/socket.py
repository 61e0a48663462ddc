"""The AI SDK on a WebSocket: what `WebSocketChatTransport` says, as acts of the conversation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Hashable, Iterator
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from api import requests
from api.auth import Caller
from api.errors import problem_of
from api.protocols.ai_sdk import asking
from api.protocols.ai_sdk.asking import Answer, ChatRequest, ClientMessage
from api.protocols.ai_sdk.telling import SocketTelling, failed, no_active
from api.protocols.sockets import Act, Ask, Dialect, Follow, Outcome, Say, Stop
from api.refusals import InvalidFields
from api.services import Services
from shared import strict_json
from shared.errors import ChatrelayError, InvalidJson
from shared.lifecycle import ErrorCode
from shared.settings import Settings

_log = logging.getLogger(__name__)

LONGEST_ID: Final = 200
"""Characters of a request's id: it comes back with every chunk."""
NO_FRAME: Final = "This is not a frame of WebSocketChatTransport."


class _Frame(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A client's frame. `body` is what its page adds; `headers` and `metadata` are not looked at."""

    type: Literal["send", "resume", "abort"]
    request_id: str
    id: str = ""
    messages: list[ClientMessage] = msgspec.field(default_factory=list)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    body: dict[str, Any] | None = None

    def chat(self) -> ChatRequest:
        """As over HTTP, where the page's own fields stand beside the others. Raises `InvalidFields`."""
        added: dict[str, Any] = self.body or {}
        own: dict[str, Any] = {name: added[name] for name in ("message", "model", "onBusy") if name in added}
        given: dict[str, Any] = {"id": self.id, "trigger": self.trigger, "messageId": self.message_id, **own}
        return msgspec.structs.replace(requests.parse(given, ChatRequest), messages=self.messages)

    def resumed_message(self) -> str | None:
        """Raises `InvalidFields`."""
        message_id = (self.body or {}).get("messageId")
        if not isinstance(message_id, str | None):
            raise InvalidFields([("/body/messageId", "must be a message's id")])
        return message_id


class _Sent:
    """A message that was sent, and its answer once it is known."""

    __slots__ = ("message_id",)

    def __init__(self) -> None:
        self.message_id: UUID | None = None


class AiSdkDialect(Dialect):
    """One client in one project, who was let in. Each frame is authorised anew, by the membership."""

    def __init__(self, services: Services, caller: Caller, project_id: UUID) -> None:
        self._services = services
        self._caller = caller
        self._project_id = project_id
        self._sent: dict[str, _Sent] = {}
        """By their requests' ids, those of the requests that go on."""

    def most_frame_bytes(self, settings: Settings) -> int:
        """A client sends the whole conversation with every message, as in a body."""
        return max(settings.max_frame_bytes, settings.max_body_bytes)

    # --- what is heard ------------------------------------------------------------------------------------------

    def hear(self, text: str | None, taken: Container[Hashable]) -> Iterator[Act]:
        self._sent = {request_id: sent for request_id, sent in self._sent.items() if request_id in taken}
        request_id = ""
        try:
            value = self._load(text)
            request_id = _request_id(value)
            frame = requests.parse(value, _Frame)
        except (InvalidFields, InvalidJson) as error:
            yield Say(failed(request_id, _words_of(error)))
            return
        if frame.type == "abort":
            aborted = self._sent.pop(frame.request_id, None)
            yield Stop(frame.request_id)
            if aborted is not None:
                yield Ask(None, lambda: self._cancel(aborted))
        elif frame.request_id in taken:
            yield Say(failed(frame.request_id, "This requestId is in use."))
        elif frame.type == "send":
            sent = self._sent[frame.request_id] = _Sent()
            yield Ask(frame.request_id, lambda: self._send(frame, sent))
        else:
            yield Ask(frame.request_id, lambda: self._resume(frame))

    def _load(self, text: str | None) -> Any:
        if text is None:
            raise InvalidJson(NO_FRAME)
        return strict_json.load(text.encode(), max_depth=self._services.settings.max_json_depth, what="The frame")

    # --- the work, on a thread for calls ------------------------------------------------------------------------

    def _send(self, frame: _Frame, sent: _Sent) -> Outcome:
        def work() -> Outcome:
            admission = self._services.relay.admit_caller(self._caller)  # before anything is changed
            try:
                answer = asking.ask(self._services, self._caller, self._project_id, frame.chat())
            except BaseException:
                admission.release()
                raise
            sent.message_id = answer.row.id
            telling = SocketTelling(answer.row, frame.request_id, "send")
            return Follow(answer.target(self._caller), telling, admission)

        return _refusing(work, frame.request_id)

    def _resume(self, frame: _Frame) -> Outcome:
        def work() -> Outcome:
            answer: Answer | None = asking.resumed(
                self._services, self._caller, self._project_id, frame.resumed_message()
            )
            if answer is None:
                return Say(no_active(frame.request_id))
            admission = self._services.relay.admit_caller(self._caller)
            telling = SocketTelling(answer.row, frame.request_id, "resume")
            return Follow(answer.target(self._caller), telling, admission)

        return _refusing(work, frame.request_id)

    def _cancel(self, sent: _Sent) -> Outcome:
        """Nobody is told what comes of it: who aborts listens no more."""
        if sent.message_id is not None:
            try:
                asking.cancel(self._services, self._caller, sent.message_id)
            except ChatrelayError:
                _log.warning("an aborted request's answer was not cancelled", exc_info=True)
            except Exception:
                _log.exception("an aborted request's answer could not be cancelled")
        return None


def _request_id(value: Any) -> str:
    """What an answer is addressed to; empty where the client did not say. Raises `InvalidFields`."""
    request_id = value.get("requestId") if isinstance(value, dict) else None
    if not isinstance(request_id, str):
        return ""
    if len(request_id) > LONGEST_ID:
        raise InvalidFields([("/requestId", f"has more than {LONGEST_ID} characters")])
    return request_id


def _refusing(work: Callable[[], Outcome], request_id: str) -> Outcome:
    """What `work` comes to, or how it was refused."""
    try:
        return work()
    except ChatrelayError as error:
        return Say(failed(request_id, _words_of(error)))
    except Exception:
        _log.exception("a request failed")
        return Say(failed(request_id, ErrorCode.INTERNAL.detail))


def _words_of(error: ChatrelayError) -> str:
    problem = problem_of(error)
    places = "; ".join(f"{place.path.lstrip('/') or 'the frame'} {place.message}" for place in problem.errors or ())
    return places or problem.detail
