"""One connection that carries a stream of frames: a WebSocket, or Server-Sent Events."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

import httpx
import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from chatrelay_client.errors import ApiError, NoAnswer

FINISHED: Final = 1000
BROKEN: Final = 1006
"""The code of a connection that ended without one."""

_OPEN_WITHIN_S: Final = 20.0
_CLOSE_WITHIN_S: Final = 2.0
_SILENT_FOR_S: Final = 90.0
"""Server-Sent Events have a heartbeat; so long without one, the connection is dead."""
_MOST_FRAME_BYTES: Final = 64 * 1024 * 1024
_MOST_REFUSAL_BYTES: Final = 1024 * 1024


class Over(Exception):
    """The connection has ended; `code` is the WebSocket's, or what one would have said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class NotPassed(Exception):
    """No WebSocket came about, and it is not the API that refused it."""


class Connection(Protocol):
    async def receive(self) -> bytes | str:
        """The next frame. Raises `Over`."""
        ...

    async def close(self) -> None: ...


class Socket:
    """A WebSocket. Pings tell a connection that died silently."""

    def __init__(self, socket: websockets.asyncio.client.ClientConnection) -> None:
        self._socket = socket

    @classmethod
    async def open(cls, url: httpx.URL, headers: Mapping[str, str]) -> Socket:
        """Raises `ApiError` where the API refuses, `NoAnswer` where nobody is there, else `NotPassed`."""
        address = str(url.copy_with(scheme="wss" if url.scheme == "https" else "ws"))
        try:
            socket = await websockets.asyncio.client.connect(
                address,
                additional_headers=headers,
                compression=None,
                max_size=_MOST_FRAME_BYTES,
                open_timeout=_OPEN_WITHIN_S,
                close_timeout=_CLOSE_WITHIN_S,
            )
        except InvalidStatus as refused:
            answer = refused.response
            if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
                raise ApiError(
                    answer.status_code, bytes(answer.body or b""), answer.headers.get("Retry-After")
                ) from None
            raise NotPassed(f"a WebSocket was answered with HTTP {answer.status_code}") from None
        except (WebSocketException, EOFError, TimeoutError, ConnectionResetError) as error:
            raise NotPassed(str(error) or type(error).__name__) from error
        except OSError as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        return cls(socket)

    async def receive(self) -> bytes | str:
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            raise Over(closed.rcvd.code if closed.rcvd is not None else BROKEN) from None

    async def close(self) -> None:
        await self._socket.close()


class EventStream:
    """Server-Sent Events."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces = response.aiter_raw()
        self._unread = b""
        self._frames: deque[bytes] = deque()
        self._data: list[bytes] = []

    @classmethod
    async def open(cls, http: httpx.AsyncClient, url: httpx.URL, headers: Mapping[str, str]) -> EventStream:
        """Raises `ApiError`, `NoAnswer`, and `Over` where the reader has had everything."""
        own = {**headers, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(_OPEN_WITHIN_S, read=_SILENT_FOR_S)
        try:
            response = await http.send(http.build_request("GET", url, headers=own, timeout=timeout), stream=True)
            if response.status_code == 200:
                return cls(response)
            try:
                body = await response.aread()
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        if response.status_code == 204:
            raise Over(FINISHED)
        raise ApiError(response.status_code, body[:_MOST_REFUSAL_BYTES], response.headers.get("Retry-After"))

    async def receive(self) -> bytes | str:
        while not self._frames:
            try:
                piece = await anext(self._pieces)
            except (StopAsyncIteration, httpx.HTTPError, httpx.StreamError):
                raise Over(BROKEN) from None
            self._feed(piece)
        return self._frames.popleft()

    def _feed(self, piece: bytes) -> None:
        """Split at line feeds alone: JSON may hold what Python takes for the end of a line."""
        *lines, self._unread = (self._unread + piece).split(b"\n")
        for line in lines:
            field, _, value = line.removesuffix(b"\r").partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not field and not value and self._data:
                self._frames.append(b"\n".join(self._data))
                self._data = []

    async def close(self) -> None:
        await self._response.aclose()
