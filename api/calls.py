"""A call of the API as a value: its address, who may make it, what goes in and what comes out.

The calls are the route table, and the OpenAPI document is made of the same values, so that neither can say what the other
does not do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

import msgspec
from flask import Response, request

from api import auth, requests, throttle
from api.refusals import MissingScope
from api.services import Services
from shared import names, strict_json
from shared.errors import ChatrelayError
from shared.lifecycle import Scope

JSON: Final = "application/json"
JSON_PATCH: Final = "application/json-patch+json"
EVENT_STREAM: Final = "text/event-stream"

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Access(Enum):
    """Who may make a call."""

    ANYBODY = "anybody"
    TOKEN = "token"
    TOKEN_OR_TICKET = "token or ticket"
    PROTOCOL = "as its protocol says"
    """The handler authenticates: its protocol has a place of its own for the token, and words of its own for refusals."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A request header that a call reads; `pattern` is a regular expression of its values."""

    name: str
    description: str
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True)
class Words:
    """How a call is refused where it is not with a problem: in its protocol's own words, with the same statuses."""

    say: Callable[[Exception], Response]
    """The answer to any error that the call ends in."""
    body: Any
    """The type of its body."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call answers; `body` is encoded as JSON, None is no body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        raw = b"" if self.body is None else msgspec.json.encode(self.body)
        response = Response(raw, self.status, mimetype=JSON)
        if self.body is None:
            del response.headers["Content-Type"]
        response.headers.update(self.headers)
        return response


@dataclass(frozen=True, kw_only=True)
class Call:
    """One method on one address.

    The handler gets the services, then by name: `principal`, the parts of the path, `query`, `body`, as far as the call
    has them. It returns an `Answer`, or the response itself where `media_type` is not JSON.
    """

    method: str
    path: str
    """With ``{projectId}`` for a part that varies; `PATH_PARTS` says what each is."""
    handler: Callable[..., Answer | Response]
    access: Access = Access.TOKEN
    scope: Scope | None = None
    """What the caller's token must allow beside its user's projects; who comes with another is refused with 403."""
    query: type[msgspec.Struct] | None = None
    body: Any = None
    """The type of the body; None: the call has none and none is read."""
    body_media_type: str = JSON
    headers: tuple[Header, ...] = ()
    answers: Mapping[int, Any]
    """Status to type of the body; None: no body."""
    media_type: str = JSON
    refusals: tuple[type[ChatrelayError], ...] = ()
    words: Words | None = None
    """None: refusals are problems."""
    is_socket: bool = False
    any_origin: bool = False
    """Whether every page may make the call and read its answer, also a sandboxed frame, whose origin is ``null``."""

    @property
    def name(self) -> str:
        return self.handler.__name__

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or self.name).strip().split("\n")[0]

    @property
    def description(self) -> str:
        lines = [line.strip() for line in (self.handler.__doc__ or "").strip().split("\n")]
        return "\n".join(lines[1:]).strip()

    @property
    def path_parts(self) -> tuple[str, ...]:
        """The names of the parts of the path that vary, as in the address."""
        return tuple(_PATH_PART.findall(self.path))

    @property
    def rule(self) -> str:
        """The path as Flask writes it."""
        return _PATH_PART.sub(lambda name: f"<{snake(name[1])}>", self.path)

    def address(self, parts: Mapping[str, object]) -> str:
        """The path with `parts` (by their names in Python) in it, written in one way."""
        return _PATH_PART.sub(lambda name: str(parts[snake(name[1])]), self.path)

    def view(self, services: Services) -> Callable[..., Response]:
        """Parse, one call, answer."""

        def view(**path: str) -> Response:
            if self.words is None:
                return self._answered(services, path)
            try:
                return self._answered(services, path)
            except Exception as error:
                return self.words.say(error)

        view.__name__ = self.name
        return view

    def _answered(self, services: Services, path: Mapping[str, str]) -> Response:
        given: dict[str, Any] = {}
        if self.access is Access.TOKEN:
            given["principal"] = self._allowed(services.authenticator.by_token(request.headers))
        parts = {snake(name): PATH_PARTS[name].read(path[snake(name)]) for name in self.path_parts}
        given.update(parts)
        if self.query is not None:
            given["query"] = requests.parse_query(request.args, self.query)
        if self.access is Access.TOKEN_OR_TICKET:  # last: a ticket may be good for one use
            ticket = request.args.get("ticket")
            caller = services.authenticator.by_token_or_ticket(request.headers, ticket, self.address(parts))
            given["principal"] = self._allowed(caller)
        if "principal" in given:
            throttle.check_user(services.rates, given["principal"], throttle.client())
        if self.body is not None:
            raw = requests.read_body(request, self.body_media_type, max_bytes=services.settings.max_body_bytes)
            value = strict_json.load(raw, max_depth=services.settings.max_json_depth)
            given["body"] = requests.parse(value, self.body)
        answered = self.handler(services, **given)
        return answered.response() if isinstance(answered, Answer) else answered

    def _allowed(self, caller: auth.Caller) -> auth.Caller:
        if self.scope is not None and self.scope not in caller.scopes:
            raise MissingScope
        return caller


_PATH_PART: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class PathPart:
    """A part of a path that varies: how it is read, and what it is in JSON Schema."""

    read: Callable[[str], Any]
    schema: Mapping[str, Any]


_ID: Final = PathPart(read=requests.path_id, schema={"type": "string", "format": "uuid"})
PATH_PARTS: Final[Mapping[str, PathPart]] = {
    "projectId": _ID,
    "messageId": _ID,
    "jobId": _ID,
    "batchId": _ID,
    "responseId": PathPart(
        read=lambda text: requests.path_id(text.removeprefix("resp_")),
        schema={"type": "string", "pattern": "^(resp_)?[0-9a-f-]{36}$"},
    ),
    "version": PathPart(read=requests.path_version, schema={"type": "integer", "minimum": 1}),
    "chatId": PathPart(read=str, schema={"type": "string", "minLength": 1}),
    "procedures": PathPart(read=str, schema={"type": "string", "minLength": 1}),
    "user": PathPart(read=requests.path_user, schema={"type": "string", "pattern": names.USER_NAME_PATTERN}),
}


def snake(camel: str) -> str:
    return re.sub(r"([A-Z])", lambda letter: f"_{letter[1].lower()}", camel)


class Calls(list[Call]):
    """The calls of one resource, in the order in which they are written."""

    def add(self, method: str, path: str, **rest: Any) -> Callable[[Handler], Handler]:
        """Declare what the decorated function handles; `rest` are the fields of `Call`."""

        def declare(handler: Handler) -> Handler:
            self.append(Call(method=method, path=path, handler=handler, **rest))
            return handler

        return declare
