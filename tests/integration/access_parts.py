"""What the tests of access stand on: every kind of stream that there is, opened by whoever, until it is closed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.ai_sdk_parts import posted, said
from tests.integration.api_parts import JSON, Person, answered
from tests.integration.trpc_parts import Json, follow, stream_address

ENDED: Final = "ended"
"""In place of a close code, of an event stream."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One way to be told of things as they happen. `path` has ``{project}``, ``{message}`` and ``{response}`` in it."""

    call: str
    """The route's name."""
    path: str
    kind: Literal["socket", "events"] = "events"
    body: Any = None
    """It is a POST with this."""
    takes_ticket: bool = False
    of_operators: bool = False
    says: Literal["nothing", "tRPC", "tRPC's parameters", "AI SDK"] = "nothing"
    """On a socket: what a client says first, so that it is told of the message."""


STREAMS: Final = (
    Stream(call="message_socket", path="/v1/messages/{message}/socket", kind="socket", takes_ticket=True),
    Stream(call="message_events", path="/v1/messages/{message}/events", takes_ticket=True),
    Stream(call="project_socket", path="/v1/projects/{project}/socket", kind="socket", takes_ticket=True),
    Stream(call="project_events", path="/v1/projects/{project}/events", takes_ticket=True),
    Stream(call="ops_socket", path="/v1/ops/socket", kind="socket", takes_ticket=True, of_operators=True),
    Stream(call="ops_events_stream", path="/v1/ops/events", takes_ticket=True, of_operators=True),
    Stream(call="trpc_socket", path="/trpc", kind="socket", says="tRPC"),
    Stream(call="trpc_socket", path="/trpc?connectionParams=1", kind="socket", says="tRPC's parameters"),
    Stream(call="trpc_get", path="{trpc}"),
    Stream(call="ai_chat_socket", path="/v1/ai/chat/{project}/socket", kind="socket", takes_ticket=True, says="AI SDK"),
    Stream(call="ai_chat", path="/v1/ai/chat/{project}", body=posted(said("Hello"))),
    Stream(call="ai_chat_stream", path="/v1/ai/chat/{project}/stream"),
    Stream(call="ai_chat_stream_of_chat", path="/v1/ai/chat/{project}/chat-1/stream"),
    Stream(call="get_response", path="/v1/openai/responses/{response}?stream=true"),
    Stream(
        call="create_response",
        path="/v1/openai/responses",
        body={"model": "chatrelay:{project}", "input": "Hello", "stream": True},
    ),
    Stream(
        call="create_completion",
        path="/v1/openai/chat/completions",
        body={"model": "chatrelay:{project}", "messages": [{"role": "user", "content": "Hello"}], "stream": True},
    ),
)


class Refused(Exception):
    """A stream was not opened: the status of the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Opened:
    """A stream that was let in."""

    def __init__(self, source: ClientConnection | http.client.HTTPResponse) -> None:
        self._source = source

    def until_closed(self) -> tuple[int | str, str]:
        """The close code, or `ENDED`, and all that was told until then."""
        if isinstance(self._source, http.client.HTTPResponse):
            try:
                return ENDED, self._source.read().decode()
            except http.client.IncompleteRead as broken:
                return ENDED, broken.partial.decode()
        told = []
        try:
            while True:
                told.append(str(self._source.recv(timeout=60)))
        except ConnectionClosed:
            assert self._source.close_code is not None
            return self._source.close_code, "\n".join(told)

    def next(self) -> str:
        """The next frame of a socket."""
        assert isinstance(self._source, ClientConnection)
        return str(self._source.recv(timeout=60))


def filled(template: Any, pair: Json) -> Any:
    """With the ids of a pair of messages in it."""
    answer = pair["assistantMessage"]
    ids = {
        "{project}": answer["projectId"],
        "{message}": answer["id"],
        "{response}": f"resp_{answer['id']}",
        "{trpc}": stream_address(pair),
    }
    text = template if isinstance(template, str) else json.dumps(template)
    for name, value in ids.items():
        text = text.replace(name, value)
    return text if isinstance(template, str) else json.loads(text)


def ticket_for(person: Person, path: str) -> str:
    ticket: str = answered(person.post("/v1/tickets", {"path": path}), 201)["ticket"]
    return ticket


@contextmanager
def opened(
    served: str, stream: Stream, pair: Json, person: Person | None, *, ticket: str | None = None
) -> Iterator[Opened]:
    """The stream, by the person's token where there is no ticket. Raises `Refused`, also where that is said inside of it."""
    path = filled(stream.path, pair)
    if ticket is not None:
        path += f"{'&' if '?' in path else '?'}ticket={ticket}"
    by_parameters = stream.says == "tRPC's parameters"
    headers = {} if person is None or ticket or by_parameters else {"Authorization": f"Bearer {person.token}"}
    with ExitStack() as ending:
        if stream.kind == "socket":
            yield Opened(ending.enter_context(_socket(served, stream, path, headers, pair, person)))
        else:
            connection = http.client.HTTPConnection(served, timeout=60)
            ending.callback(connection.close)
            raw = None if stream.body is None else json.dumps(filled(stream.body, pair))
            method = "GET" if raw is None else "POST"
            connection.request(method, path, raw, {**headers, **({} if raw is None else {"Content-Type": JSON})})
            response = ending.enter_context(connection.getresponse())
            if response.status != 200:
                raise Refused(response.status)
            if stream.path == "{trpc}" and not response.chunked:
                raise Refused(_refused_with(response.read().decode().rpartition("data: ")[2]))
            yield Opened(response)


@contextmanager
def _socket(
    served: str, stream: Stream, path: str, headers: Mapping[str, str], pair: Json, person: Person | None
) -> Iterator[ClientConnection]:
    try:
        socket = connect(f"ws://{served}{path}", additional_headers=headers, proxy=None, legacy=True, max_size=None)
    except InvalidStatus as refused:
        raise Refused(refused.response.status_code) from None
    with socket:
        if stream.says == "tRPC's parameters":
            token = None if person is None else person.token
            socket.send(json.dumps({"method": "connectionParams", "data": {"token": token}}))
        if stream.says in ("tRPC", "tRPC's parameters"):
            socket.send(json.dumps(follow(1, pair)))
            while '"id":1' not in (frame := str(socket.recv(timeout=60))):
                pass
            if "error" in json.loads(frame):
                raise Refused(_refused_with(frame))
        if stream.says == "AI SDK":
            socket.send(json.dumps({"type": "resume", "requestId": "r", "id": "chat-1", "headers": {}, "body": {}}))
            json.loads(socket.recv(timeout=60))
        yield socket


def _refused_with(shape: str) -> int:
    """The status that an error of tRPC's names."""
    error = json.loads(shape)
    status: int = error.get("error", error)["data"]["httpStatus"]
    return status
