"""Readers of a message's or a project's events, as real clients are: over a WebSocket, and over Server-Sent Events.

    with SocketReader(stack.urls[1], stack.token) as reader:
        reader.follow(message_id)
        reader.until_finalized()
        check_trace(reader.events, row=…)

All that a reader received over all of its connections is kept, in order; `reconnect` goes on after the last of it.
"""

from __future__ import annotations

import time
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import httpx
import msgspec
import websockets.exceptions
import websockets.sync.client

from shared import events
from shared.events import Finalized, StreamEvent

WAIT_S: Final = 30.0
PLAIN_HTTP: Final = False
"""As `verify` of a client: certificates that nobody looks at take longer to load than most requests here."""
_OTHER_FRAMES: Final = frozenset({"ready", "pong", "message", "document", "job"})


class ReaderEnded(AssertionError):
    """The server ended the connection before what was waited for came."""


class Reader(ABC):
    """What both kinds share. `path` is ``/v1/messages/<id>`` or ``/v1/projects/<id>``.

    `frames` are the payloads as they came, `events` those of them that are StreamEvents.
    """

    def __init__(self, base_url: str, token: str | None, *, ticket: str | None = None) -> None:
        self.frames: list[bytes] = []
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._ticket = ticket
        self._path = ""
        self.ended = False
        """Whether the server has ended the newest connection."""

    @property
    def events(self) -> list[StreamEvent]:
        """Everything received that is an event of a message, in order."""
        return [event for frame in self.frames if (event := _stream_event(frame)) is not None]

    @property
    def others(self) -> list[dict[str, Any]]:
        """The frames that are no StreamEvents: ready, pong, document…"""
        return [msgspec.json.decode(frame) for frame in self.frames if _stream_event(frame) is None]

    @property
    def text(self) -> str:
        """All of it, for the message of a test that fails."""
        return b"\n".join(self.frames).decode()

    def follow(self, message_id: UUID | str, *, after: str | None = None) -> Self:
        """Connect to a message's events. Raises what the client does where the server refuses."""
        return self.follow_path(f"/v1/messages/{message_id}", after=after)

    def follow_project(self, project_id: UUID | str) -> Self:
        return self.follow_path(f"/v1/projects/{project_id}")

    def follow_path(self, path: str, *, after: str | None = None) -> Self:
        self.close()
        self._path = path
        self.ended = False
        self._connect(path, after)
        return self

    def reconnect(self) -> Self:
        """A new connection, after the last event received."""
        received = self.events
        return self.follow_path(self._path, after=received[-1].id if received else None)

    def until(self, predicate: Callable[[StreamEvent], bool], *, timeout_s: float = WAIT_S) -> StreamEvent:
        """The next event that fits, of those not received yet. Raises `TimeoutError`, or `ReaderEnded`."""
        deadline_s = time.monotonic() + timeout_s
        while (frame := self._receive(deadline_s)) is not None:
            event = _stream_event(frame)
            if event is not None and predicate(event):
                return event
        raise ReaderEnded(f"the connection ended; received:\n{self.text}")

    def until_frame(self, predicate: Callable[[dict[str, Any]], bool], *, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """As `until`, for frames of any kind."""
        deadline_s = time.monotonic() + timeout_s
        while (frame := self._receive(deadline_s)) is not None:
            decoded: dict[str, Any] = msgspec.json.decode(frame)
            if predicate(decoded):
                return decoded
        raise ReaderEnded(f"the connection ended; received:\n{self.text}")

    def until_finalized(self, *, timeout_s: float = WAIT_S) -> Finalized:
        """The next terminal `finalized`."""
        event = self.until(events.is_terminal, timeout_s=timeout_s)
        assert isinstance(event, Finalized)
        return event

    def until_ended(self, *, timeout_s: float = WAIT_S) -> Self:
        """Everything until the server ends the connection. Raises `TimeoutError`."""
        deadline_s = time.monotonic() + timeout_s
        while self._receive(deadline_s) is not None:
            pass
        return self

    def _receive(self, deadline_s: float) -> bytes | None:
        """The next frame, kept; None once the server has ended the connection."""
        if self.ended:
            return None
        left_s = deadline_s - time.monotonic()
        frame = self._next(left_s) if left_s > 0 else _too_late()
        if frame is None:
            self.ended = True
        else:
            self.frames.append(frame)
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _connect(self, path: str, after: str | None) -> None: ...

    @abstractmethod
    def _next(self, timeout_s: float) -> bytes | None:
        """The next payload; None at the end. Raises `TimeoutError`."""

    @abstractmethod
    def close(self) -> None:
        """Leave; harmless where there is no connection."""


class SocketReader(Reader):
    """A WebSocket client. What it may send back goes through `send`."""

    def __init__(self, base_url: str, token: str | None, *, ticket: str | None = None) -> None:
        super().__init__(base_url, token, ticket=ticket)
        self._socket: websockets.sync.client.ClientConnection | None = None
        self.close_code: int | None = None
        self.close_reason = ""

    def send(self, text: str | bytes) -> None:
        assert self._socket is not None
        self._socket.send(text)

    def _connect(self, path: str, after: str | None) -> None:
        self.close_code = None
        given = {"after": after, "ticket": self._ticket}
        query = urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
        self._socket = websockets.sync.client.connect(
            f"{self._base_url.replace('http', 'ws', 1)}{path}/socket?{query}",
            additional_headers={} if self._token is None else {"Authorization": f"Bearer {self._token}"},
            proxy=None,
            max_size=None,
            max_queue=None,
            open_timeout=WAIT_S,
            close_timeout=2,
            legacy=True,  # a connection, and no context manager of one
        )

    def _next(self, timeout_s: float) -> bytes | None:
        assert self._socket is not None
        try:
            return self._socket.recv(timeout_s, decode=False)
        except websockets.exceptions.ConnectionClosed as closed:
            if closed.rcvd is not None:
                self.close_code, self.close_reason = closed.rcvd.code, closed.rcvd.reason
            return None
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s:g} s; received:\n{self.text}") from None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class SseReader(Reader):
    """An EventSource. `status_code` is the answer's: 204 tells a reader that it has had everything."""

    def __init__(self, base_url: str, token: str | None, *, ticket: str | None = None) -> None:
        super().__init__(base_url, token, ticket=ticket)
        self.ids: list[str] = []
        """The `id` fields, one for each frame that has one."""
        self.comments = 0
        self.status_code: int | None = None
        self._http: httpx.Client | None = None
        self._response: httpx.Response | None = None
        self._payloads: Iterator[bytes | None] = iter(())

    def _connect(self, path: str, after: str | None) -> None:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if after is not None:
            headers["Last-Event-ID"] = after
        given = {} if self._ticket is None else {"ticket": self._ticket}
        # a connection of its own: whoever closes it takes nothing from others
        self._http = httpx.Client(
            base_url=self._base_url, headers=headers, timeout=WAIT_S, trust_env=False, verify=PLAIN_HTTP
        )
        self._response = self._http.send(self._http.build_request("GET", f"{path}/events", params=given), stream=True)
        self.status_code = self._response.status_code
        if self._response.is_error:
            self._response.read()
            self._response.raise_for_status()
        self._payloads = self._parse(self._response.iter_raw())

    def _next(self, timeout_s: float) -> bytes | None:
        deadline_s = time.monotonic() + timeout_s
        try:
            for payload in self._payloads:
                if payload is not None:
                    return payload
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"waited {timeout_s:g} s; received:\n{self.text}")
        except httpx.ReadTimeout:
            raise TimeoutError(f"waited {WAIT_S:g} s without a byte; received:\n{self.text}") from None
        except httpx.RemoteProtocolError:
            pass  # cut off in the middle
        return None

    def _parse(self, chunks: Iterator[bytes]) -> Iterator[bytes | None]:
        """Data of each event; None after each chunk, so that the deadline is looked at between them."""
        rest, data = b"", list[bytes]()
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                field, _, value = line.removesuffix(b"\r").partition(b":")
                value = value.removeprefix(b" ")
                if field == b"data":
                    data.append(value)
                elif field == b"id":
                    self.ids.append(value.decode())
                elif not field and value:
                    self.comments += 1
                elif not field and data:
                    yield b"\n".join(data)
                    data = []
            yield None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._http is not None:
            self._http.close()
            self._http = None
        self._payloads = iter(())


def _stream_event(frame: bytes) -> StreamEvent | None:
    decoded = msgspec.json.decode(frame)
    if not isinstance(decoded, dict) or "id" not in decoded or decoded.get("type") in _OTHER_FRAMES:
        return None
    return events.decode(frame)


def _too_late() -> bytes:
    raise TimeoutError("the time was up before the next frame")
