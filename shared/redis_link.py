"""One pipelined Redis connection on an event loop: what the worker appends through and the relay listens on.

redis-py spends 54-124 microseconds of CPU on a command; packed by hiredis onto a raw transport it is 9-15, and commands
sent in one turn of the loop leave in one write. Speaks RESP3, so that published messages and replies share a connection.

Nothing is ever sent twice by this class: a command whose reply is outstanding when the connection drops fails with
`LinkDown`, and its outcome is unknown.
"""

from __future__ import annotations

import asyncio
import collections
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis import connection as redis_connection

from shared.errors import Transient

Reply = Any
OnPush = Callable[[list[Any]], None]

_parse_url: Final[Callable[[str], dict[str, Any]]] = redis_connection.parse_url
_pack: Final[Callable[[Any], bytes]] = hiredis.pack_command  # its stub knows tuples of one argument only

_RECONNECT_FIRST_S: Final = 0.05
_RECONNECT_MOST_S: Final = 1.0


class LinkDown(Transient):
    """Redis cannot be reached; the outcome of what was sent is unknown."""

    code = "redis_down"


class ReplyError(Exception):
    """Redis answered with an error; the text is Redis's own and not for users."""


class _Wire(asyncio.Protocol):
    """One connection of a link. What comes late from one that was dropped must not touch the one after it."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link._connected(self, cast(asyncio.Transport, transport))  # uvloop's is one by its methods alone

    def data_received(self, data: bytes) -> None:
        self._link._received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link._disconnected(self)


class RedisLink:
    """Keeps one connection open: `start` connects and goes on reconnecting until `close`.

    All methods are to be called on the loop that `start` ran on. `on_push` gets each RESP3 push (``[b"message", channel,
    payload]``, ``[b"subscribe", channel, count]``...), `on_up` is called after each connect, `on_down` after each loss,
    `on_handed_out` after the last push or reply of what one read brought.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 2.0,
        reply_timeout_s: float = 2.0,
        on_push: OnPush | None = None,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[], None] | None = None,
        on_handed_out: Callable[[], None] | None = None,
    ) -> None:
        self._options: dict[str, Any] = _parse_url(url)
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._on_push = on_push
        self._on_up = on_up
        self._on_down = on_down
        self._on_handed_out = on_handed_out
        self._wire: _Wire | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._waiting: collections.deque[tuple[float, asyncio.Future[Reply]]] = collections.deque()
        self._ready = False
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        return self._ready

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="redis-link")

    async def wait_up(self, timeout_s: float) -> bool:
        """Whether the connection stood within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._drop()

    def send(self, *arguments: bytes | str | int) -> asyncio.Future[Reply]:
        """Pack and write one command; the future gets the reply, `ReplyError` or `LinkDown`.

        Commands are answered in the order in which they were sent. A reply that takes longer than the deadline drops the
        connection, since everything behind it waits as well.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        if self._transport is None or not self._ready:
            future.set_exception(LinkDown())
            return future
        self._write(future, arguments)
        return future

    def tell(self, *arguments: bytes | str | int) -> None:
        """Write a command that RESP3 answers by a push, or not at all (SUBSCRIBE, UNSUBSCRIBE). Lost where down."""
        if self._transport is not None and self._ready:
            self._transport.write(_pack(arguments))

    def _write(self, future: asyncio.Future[Reply], arguments: tuple[bytes | str | int, ...]) -> None:
        assert self._transport is not None
        self._waiting.append((asyncio.get_running_loop().time() + self._reply_timeout_s, future))
        self._transport.write(_pack(arguments))

    # --- what the connection tells ------------------------------------------------------------------------------

    def _connected(self, wire: _Wire, transport: asyncio.Transport) -> None:
        if wire is self._wire:
            self._transport = transport
        else:
            transport.abort()

    def _disconnected(self, wire: _Wire) -> None:
        if wire is self._wire:
            self._drop()

    def _received(self, wire: _Wire, data: bytes) -> None:
        if wire is not self._wire:
            return
        try:
            self._hand_out(data)
        finally:
            if self._on_handed_out is not None:
                self._on_handed_out()

    def _hand_out(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._next_reply()) is not False:
            if isinstance(reply, hiredis.PushNotification):
                if self._on_push is not None:
                    self._on_push(reply)
                continue
            if not self._waiting:
                self._drop()
                return
            _, future = self._waiting.popleft()
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                future.set_exception(ReplyError(str(reply)))
            else:
                future.set_result(reply)

    def _next_reply(self) -> Any:
        try:
            return self._reader.gets()
        except hiredis.ProtocolError:
            self._drop()
            return False

    # --- keeping it open ----------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        delay_s = _RECONNECT_FIRST_S
        while True:
            self._lost.clear()
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    await self._connect()
            except (OSError, TimeoutError, LinkDown, ReplyError):
                self._drop()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _RECONNECT_MOST_S)
                continue
            delay_s = _RECONNECT_FIRST_S
            self._ready = True
            self._up.set()
            if self._on_up is not None:
                self._on_up()
            await self._watch()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        wire = self._wire = _Wire(self)
        if path := self._options.get("path"):
            await loop.create_unix_connection(lambda: wire, path)
        else:
            host, port = self._options.get("host", "localhost"), self._options.get("port", 6379)
            await loop.create_connection(lambda: wire, host, port, ssl=self._ssl())
        hello: list[bytes | str | int] = ["HELLO", 3]
        if password := self._options.get("password"):
            hello += ["AUTH", self._options.get("username") or "default", password]
        await self._ask(*hello)
        if database := int(self._options.get("db", 0)):
            await self._ask("SELECT", database)

    async def _ask(self, *arguments: bytes | str | int) -> Reply:
        if self._transport is None:
            raise LinkDown
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._write(future, arguments)
        return await future

    def _ssl(self) -> ssl.SSLContext | None:
        if self._options.get("connection_class") is not redis_connection.SSLConnection:
            return None
        context = ssl.create_default_context(cafile=self._options.get("ssl_ca_certs"))
        if self._options.get("ssl_cert_reqs") in ("none", "CERT_NONE"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _watch(self) -> None:
        """Until the connection is lost; drops it when the oldest reply is overdue, and asks for one when all is quiet."""
        loop = asyncio.get_running_loop()
        tick_s = self._reply_timeout_s / 4
        quiet_ticks = 0
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(tick_s):
                    await self._lost.wait()
            except TimeoutError:
                pass
            if self._waiting:
                quiet_ticks = 0
                if self._waiting[0][0] < loop.time():
                    self._drop()
            elif self._ready:
                quiet_ticks += 1
                if quiet_ticks >= 4:
                    quiet_ticks = 0
                    self.send("PING").add_done_callback(_collect)

    def _drop(self) -> None:
        was_ready, self._ready = self._ready, False
        self._up.clear()
        self._wire = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        waiting, self._waiting = self._waiting, collections.deque()
        for _, future in waiting:
            if not future.done():
                future.set_exception(LinkDown())
        self._lost.set()
        if was_ready and self._on_down is not None:
            self._on_down()


def _collect(future: asyncio.Future[Reply]) -> None:
    """Look at the outcome, so that the loop does not report it as never retrieved."""
    if not future.cancelled():
        future.exception()
