"""The model's provider: the only importer of the openai package.

The SDK keeps authentication, requests and errors; the answer's bytes are taken raw off the connection, since iterating its
objects builds and validates a model of each chunk. Its own retries are off: they cover the time before the headers only.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, cast

import aiohttp
import httpx2
import msgspec
import openai
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

from shared.errors import ChatrelayError
from shared.lifecycle import ErrorCode
from worker.assembler import MalformedStream, ProviderLine

MOST_CONNECTIONS: Final = 2000
READ_OUT_S: Final = 0.1
MOST_ERROR_BYTES: Final = 64 * 1024
"""Of what a provider says about a refusal; the rest is not read."""
MOST_EARLY_HEADS: Final = 16
"""Of those that announce an answer (RFC 9110, section 15.2) before its own."""
_LARGE_BYTES: Final = 8 * 1024
"""After a piece of so many bytes other streams have their turn: where more is there already, the next one does not wait."""
_BODY: Final = "chatrelay.body"
"""Under which a response has aiohttp's own."""
_TOLD_OF_AN_ERROR: Final = ("content-type", "retry-after", "retry-after-ms", "x-request-id")


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the model: messages and tools in the provider's wire form."""

    model: str
    messages: Sequence[dict[str, Any]]
    tools: Sequence[dict[str, Any]]


class ProviderFailed(ChatrelayError):
    """The model's provider failed."""

    def __init__(self, error_code: ErrorCode, *, transient: bool, retry_after_s: float | None = None) -> None:
        super().__init__(error_code.detail)
        self.error_code = error_code
        self.transient = transient
        self.retry_after_s = retry_after_s


class Model:
    """Streams chat completions. To be made and used on one event loop."""

    def __init__(self, *, api_key: str, base_url: str, connect_timeout_s: float, silence_s: float) -> None:
        """`silence_s`: without a byte for as long, the answer is given up."""
        self._client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(silence_s, connect=connect_timeout_s, pool=connect_timeout_s),
            http_client=_Client(
                limits=httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=100),
                # the address is the operator's: no provider sends the key and a conversation elsewhere
                follow_redirects=False,
            ),
        )

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[Incoming]:
        """An answer that has begun. Leaving the context closes the connection to the provider.

        Raises `ProviderFailed`, for whatever happens inside the context too.
        """
        body: dict[str, Any] = {
            "model": request.model,
            "messages": request.messages,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = request.tools
        # the fields that the SDK knows it walks through along their types, which takes more CPU than all else that it does
        wire: dict[str, Any] = {
            "model": openai.omit,
            "messages": openai.omit,
            "extra_body": body,
            "stream": True,
            # the bytes are read as they come off the wire
            "extra_headers": {"Accept-Encoding": "identity"},
        }
        try:
            async with self._client.chat.completions.with_streaming_response.create(**wire) as response:
                yield Incoming(response.http_response.extensions[_BODY])
        except openai.APIStatusError as error:
            raise _of_status(error) from error
        except openai.APITimeoutError as error:
            code = ErrorCode.PROVIDER_TIMEOUT if _took_too_long(error) else ErrorCode.PROVIDER_UNAVAILABLE
            raise ProviderFailed(code, transient=True) from error
        except httpx2.TimeoutException as error:
            code = ErrorCode.PROVIDER_TIMEOUT if _took_too_long(error) else ErrorCode.STREAM_BROKEN
            raise ProviderFailed(code, transient=True) from error
        except openai.APIConnectionError as error:
            raise ProviderFailed(ErrorCode.PROVIDER_UNAVAILABLE, transient=True) from error
        except aiohttp.ServerTimeoutError as error:
            raise ProviderFailed(ErrorCode.PROVIDER_TIMEOUT, transient=True) from error
        except (httpx2.TransportError, aiohttp.ClientError, OSError, MalformedStream) as error:
            raise ProviderFailed(ErrorCode.STREAM_BROKEN, transient=True) from error
        except ProviderLine as error:
            raise _of_line(error) from error
        except openai.OpenAIError as error:
            raise ProviderFailed(ErrorCode.PROVIDER_UNAVAILABLE, transient=True) from error

    async def close(self) -> None:
        await self._client.close()


Take: TypeAlias = Callable[[bytes], bool]
"""Gets the next bytes of an answer; true where they were enough. What it raises ends the reading."""


class Incoming:
    """An answer that has begun. Its bytes are handed over as they are read from the connection, and no task is woken for
    them: to pass each piece through the iterators of aiohttp, httpx and the SDK cost as much as all that is done with it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._body = response.content
        # None where all of it has come
        self._connection: _Connection | None = response.connection and cast(Any, response.connection.protocol)

    async def read(self, take: Take) -> None:
        """Hand all that comes to `take`, until that has enough or the answer ends. Raises what broke it."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        is_taking = False

        def change() -> None:
            """Something came, or the connection ended."""
            nonlocal is_taking
            if is_taking or over.done():  # (to read may bring more of what had to wait, which is read below)
                return
            is_taking = True
            try:
                if self._pass_on(take):
                    end(None)
            except BaseException as error:
                end(error)
            finally:
                is_taking = False

        def end(error: BaseException | None) -> None:
            # at once: before the next turn of the loop the connection may serve somebody else
            self._let_go(change)
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        if self._connection is not None and not self._body.is_eof():  # else it may be another answer's by now
            self._connection.on_change = change
        try:
            change()
            await over
        finally:
            self._let_go(change)
            if over.done() and not over.cancelled():
                over.exception()  # seen, also where whoever waited for it was cancelled

    async def read_out(self) -> None:
        """What a server sends after its last line, for a moment at most, so that the connection can serve the next call.

        The answer is whole: whatever goes wrong here only costs the connection.
        """
        try:
            async with asyncio.timeout(READ_OUT_S):
                await self.read(lambda _: False)
        except (aiohttp.ClientError, OSError):
            pass

    def _pass_on(self, take: Take) -> bool:
        """What is there; whether that was all."""
        while data := self._body.read_nowait():
            if take(data):
                return True
            if len(data) >= _LARGE_BYTES and self._connection is not None and not self._body.is_eof():
                self._connection.rest()
        if self._body.is_eof():
            return True
        if self._connection is None or not self._connection.connected:
            raise aiohttp.ServerDisconnectedError
        return False

    def _let_go(self, change: Callable[[], None]) -> None:
        if self._connection is not None and self._connection.on_change is change:
            self._connection.on_change = None


class _Client(openai.DefaultAioHttpClient):
    """The SDK's client, with `_Guarded` around each way out: the direct one, and those through the environment's proxies."""

    def _init_transport(self, *args: Any, **options: Any) -> httpx2.AsyncBaseTransport:
        return _Guarded(super()._init_transport(*args, **options))

    def _init_proxy_transport(self, *args: Any, **options: Any) -> httpx2.AsyncBaseTransport:
        return _Guarded(super()._init_proxy_transport(*args, **options))


class _Guarded(httpx2.AsyncBaseTransport):
    """A way to a provider that is trusted with nothing: it sets no cookies, which one conversation would bear to the next and
    which would grow, and of a refusal so much is read as it takes to understand it, unpacked by nobody."""

    def __init__(self, way: Any) -> None:
        """`way`: the SDK's transport over aiohttp."""
        self._way = way
        way.client = lambda: aiohttp.ClientSession(
            connector=_Connector(
                limit=MOST_CONNECTIONS, ssl=way.ssl_context, keepalive_timeout=way.limits.keepalive_expiry
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response: httpx2.Response = await self._way.handle_async_request(request)
        except ValueError as error:  # of a head that is no text
            raise httpx2.RemoteProtocolError("the provider's head cannot be read", request=request) from error
        response.headers.pop("set-cookie", None)
        if response.is_success:
            response.extensions[_BODY] = cast(Any, response.stream)._aiohttp_response
            return response
        headers = {name: response.headers[name] for name in _TOLD_OF_AN_ERROR if name in response.headers}
        packed = response.headers.get("content-encoding", "identity").lower() != "identity"
        try:
            said = b"" if packed else await _beginning(response)
        finally:
            await response.aclose()
        return httpx2.Response(response.status_code, headers=headers, content=said, request=request)

    async def aclose(self) -> None:
        await self._way.aclose()


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = functools.partial(_Connection, loop=self._loop)


class _Connection(ResponseHandler):
    """Given up once the server sends head after head: aiohttp takes any number of those that come before an answer's own.

    Spared for each delta: a timer of its own, and a resumption of what was not paused.
    """

    _heads = 0
    _is_resting = False
    _heard_at = 0.0
    on_change: Callable[[], None] | None = None
    """Called after something came in, and at the connection's end."""

    def feed_data(self, data: Any, size: int = 0) -> None:
        self._heads = self._heads + 1 if data[0].code < 200 else 0
        if self._heads <= MOST_EARLY_HEADS:
            super().feed_data(data, size)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            self.set_exception(BadHttpMessage("one head after the other"))

    def rest(self) -> None:
        """Read no more before the others had their turn."""
        if self.transport is not None and not self._is_resting:
            self._is_resting = True
            self.transport.pause_reading()
            self._loop.call_soon(self._rested)

    def _rested(self) -> None:
        self._is_resting = False
        if self.transport is not None and not self._reading_paused:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.on_change is not None:
            self.on_change()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.on_change is not None:
            self.on_change()

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _reschedule_timeout(self) -> None:
        self._heard_at = self._loop.time()
        if self._read_timeout and self._read_timeout_handle is None:
            self._read_timeout_handle = self._loop.call_later(self._read_timeout, self._on_read_timeout)

    def _on_read_timeout(self) -> None:
        self._read_timeout_handle = None
        left_s = self._heard_at + (self._read_timeout or 0) - self._loop.time()
        if left_s > 0:
            self._read_timeout_handle = self._loop.call_later(left_s, self._on_read_timeout)
            return
        super()._on_read_timeout()
        if self.on_change is not None:
            self.on_change()


async def _beginning(response: httpx2.Response) -> bytes:
    """The first `MOST_ERROR_BYTES` of the body, or as many as came of one that breaks off."""
    said = bytearray()
    try:
        async for piece in response.aiter_raw():
            said += piece
            if len(said) >= MOST_ERROR_BYTES:
                break
    except (httpx2.TransportError, aiohttp.ClientError, OSError):
        pass
    return bytes(said[:MOST_ERROR_BYTES])


def _took_too_long(error: BaseException) -> bool:
    """Whether time ran out: the SDK's aiohttp transport calls every connection that is refused or lost a timeout, too."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    return cause is None or isinstance(cause, TimeoutError)


def _of_status(error: openai.APIStatusError) -> ProviderFailed:
    code = str(error.code or "")
    match error.status_code:
        case 401 | 403:
            return ProviderFailed(ErrorCode.PROVIDER_AUTH, transient=False)
        case 429 if code == "insufficient_quota" or error.type == "insufficient_quota":
            return ProviderFailed(ErrorCode.PROVIDER_QUOTA, transient=False)
        case 429:
            after_s = _retry_after(error.response.headers)
            return ProviderFailed(ErrorCode.PROVIDER_RATE_LIMITED, transient=True, retry_after_s=after_s)
        case 408 | 409:
            after_s = _retry_after(error.response.headers)
            return ProviderFailed(ErrorCode.PROVIDER_UNAVAILABLE, transient=True, retry_after_s=after_s)
        case 400 | 413 if code == "context_length_exceeded":
            return ProviderFailed(ErrorCode.CONTEXT_TOO_LONG, transient=False)
        case status if status >= 500:
            after_s = _retry_after(error.response.headers)
            return ProviderFailed(ErrorCode.PROVIDER_UNAVAILABLE, transient=True, retry_after_s=after_s)
        case _:
            return ProviderFailed(ErrorCode.PROVIDER_REJECTED, transient=False)


def _of_line(error: ProviderLine) -> ProviderFailed:
    if error.kind == "insufficient_quota" or error.code == "insufficient_quota":
        return ProviderFailed(ErrorCode.PROVIDER_QUOTA, transient=False)
    if error.code == "context_length_exceeded":
        return ProviderFailed(ErrorCode.CONTEXT_TOO_LONG, transient=False)
    if error.kind == "invalid_request_error":
        return ProviderFailed(ErrorCode.PROVIDER_REJECTED, transient=False)
    if error.kind.startswith("rate_limit"):
        return ProviderFailed(ErrorCode.PROVIDER_RATE_LIMITED, transient=True)
    return ProviderFailed(ErrorCode.PROVIDER_UNAVAILABLE, transient=True)


def _retry_after(headers: httpx2.Headers) -> float | None:
    """RFC 9110 section 10.2.3 in its seconds form; ``retry-after-ms`` as OpenAI sends it."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            value = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        if 0 <= value < 86_400:
            return value
    return None
