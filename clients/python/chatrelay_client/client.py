"""The client: calls of the API, and the streams that it opens."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import httpx
import msgspec

from chatrelay_client.backoff import backoff_s
from chatrelay_client.connections import Connection, EventStream, NotPassed, Socket
from chatrelay_client.errors import ApiError, NoAnswer
from chatrelay_client.events import EventId
from chatrelay_client.rows import Message, Page, Project, Submitted
from chatrelay_client.streams import Following, Stream, Watching
from chatrelay_client.transcript import NOWHERE, Transcript

T = TypeVar("T")
S = TypeVar("S", bound=Stream[Any])

Transport: TypeAlias = Literal["auto", "websocket", "sse"]
OnBusy: TypeAlias = Literal["queue", "parallel", "reject", "interrupt"]

_DEADLINE_S: Final = 20.0
_TRIES: Final = 6
_SOCKETS_BEFORE_SSE: Final = 2


class Client:
    """A user of one server, who bears `token`. Use it as a context manager: at its end every stream is closed.

    `transport`: ``websocket``, ``sse`` (Server-Sent Events), or ``auto``, which goes over to these where no WebSocket has
    ever come about and two in a row did not: something in between lets none pass. A stream gives up `give_up_after_s` after
    its last sign of life; None: never. `http` is a client of one's own, with its certificates and proxies; it is left open.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        transport: Transport = "auto",
        give_up_after_s: float | None = 300.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.give_up_after_s = give_up_after_s
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._transport = transport
        self._http = http or httpx.AsyncClient(timeout=_DEADLINE_S)
        self._owns_http = http is None
        self._streams: set[Stream[Any]] = set()
        self._sockets_failed = 0
        """In a row, before the first one that came about."""
        self._socket_passed = False

    # --- calls ------------------------------------------------------------------------------------------------------

    async def create_project(
        self, name: str, *, document: Any = None, schema: Any = None, template: str | None = None
    ) -> Project:
        """A new project, empty, with this document and schema, or from a template."""
        body = _given(name=name, document=document, schema=schema, template=template)
        return await self._call("POST", "/v1/projects", Project, body=body)

    async def project(self, project_id: str) -> Project:
        return await self._call("GET", f"/v1/projects/{project_id}", Project, repeats=True)

    async def message(self, message_id: str) -> Message:
        return await self._call("GET", f"/v1/messages/{message_id}", Message, repeats=True)

    async def messages(self, project_id: str, *, limit: int = 50, before: str | None = None) -> Page[Message]:
        """A project's messages, newest first."""
        query = _given(limit=limit, before=before)
        return await self._call("GET", f"/v1/projects/{project_id}/messages", Page[Message], query=query, repeats=True)

    async def submit(
        self,
        project_id: str,
        content: str,
        *,
        model: str | None = None,
        on_busy: OnBusy | None = None,
        key: str | None = None,
    ) -> Submitted:
        """Sends a message. Where the outcome is unknown (no answer, a 5xx) it is sent again under the same key, which never
        makes a second message, and after a `Retry-After` not before its time. The last try's error is raised; to call again
        with the same `key` and content is still safe. A refusal (a 429 too) is raised at once.
        """
        body = _given(content=content, model=model, onBusy=on_busy)
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        path = f"/v1/projects/{project_id}/messages"
        return await self._call("POST", path, Submitted, body=body, headers=headers, repeats=True)

    async def cancel(self, message_id: str) -> Message:
        """Asks for a message's end; its text so far is kept. The answer may still show it unfinished."""
        return await self._call("POST", f"/v1/messages/{message_id}/cancel", Message)

    async def retry(self, message_id: str) -> Message:
        """Puts a final message back into the queue: a failed one goes on where it stopped, a success runs anew."""
        return await self._call("POST", f"/v1/messages/{message_id}/retry", Message)

    async def answer(self, message_id: str) -> Transcript:
        """Follows a message to its end: its fold."""
        transcript = Transcript()
        async with self.follow(message_id) as following:
            async for event in following:
                transcript = transcript.after(event)
        return transcript

    # --- streams ----------------------------------------------------------------------------------------------------

    def follow(self, message_id: str, *, after: EventId | str | None = None) -> Following:
        """A message's events until it is final: of its newest attempt, or those behind `after`."""
        position = EventId.parse(after) if isinstance(after, str) else after
        return self._begin(Following(self, message_id, None if position == NOWHERE else position))

    def watch(self, project_id: str) -> Watching:
        """All that happens in a project, until it is closed."""
        return self._begin(Watching(self, project_id))

    def _begin(self, stream: S) -> S:
        self._streams.add(stream)
        return stream

    def forget(self, stream: Stream[T]) -> None:
        """A stream has ended."""
        self._streams.discard(stream)

    async def connect(self, path: str, after: EventId | None) -> Connection:
        """A connection that carries the stream of what is at `path`. Raises `ApiError`, `NoAnswer`, `NotPassed`, `Over`."""
        query = {} if after is None else {"after": str(after)}
        events = httpx.URL(f"{self._base_url}{path}/events", params=query)
        blocked = self._sockets_failed >= _SOCKETS_BEFORE_SSE
        if self._transport == "sse" or (self._transport == "auto" and blocked):
            return await EventStream.open(self._http, events, self._headers)
        try:
            socket = await Socket.open(httpx.URL(f"{self._base_url}{path}/socket", params=query), self._headers)
        except NotPassed:
            self._sockets_failed += not self._socket_passed
            raise
        self._socket_passed, self._sockets_failed = True, 0
        return socket

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: object = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeats: bool = False,
    ) -> T:
        """The answer as a `kind`. `repeats`: the call changes nothing, or nothing twice, so that it may be made again."""
        failures = 0
        while True:
            try:
                return msgspec.json.decode(await self._send(method, path, body, query, headers), type=kind)
            except (ApiError, NoAnswer) as error:
                failures += 1
                unknown = error.status is None or error.status >= 500
                if not (repeats and unknown) or failures == _TRIES:
                    raise
                asked_s = error.retry_after_s if isinstance(error, ApiError) else None
                await asyncio.sleep(max(backoff_s(failures + 1), asked_s or 0.0))

    async def _send(
        self, method: str, path: str, body: object, query: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> bytes:
        own = {**self._headers, "Accept": "application/json", **(headers or {})}
        if body is not None:
            own["Content-Type"] = "application/json"
        content = None if body is None else msgspec.json.encode(body)
        try:
            answer = await self._http.request(
                method, self._base_url + path, params=query, content=content, headers=own, timeout=_DEADLINE_S
            )
        except httpx.TransportError as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        if not answer.is_success:
            raise ApiError(answer.status_code, answer.content, answer.headers.get("Retry-After"))
        return answer.content

    # --- its end ----------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Closes every stream and the connections."""
        for stream in list(self._streams):
            await stream.aclose()
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
