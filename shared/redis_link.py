"""One pipelined Redis connection on an event loop: what the worker appends through and the relay listens on.

Where Sentinels know the server, each connect asks them for the master anew, and so follows a failover.

redis-py spends 54-124 microseconds of CPU on a command; packed by hiredis onto a raw transport it is 9-15, and commands
sent in one turn of the loop, or within `gather_s`, leave in one write. Speaks RESP3, so that published messages and replies
share a connection.

Nothing is ever sent twice by this class: a command whose reply is outstanding when the connection drops fails with
`LinkDown`, and its outcome is unknown.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import logging
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from shared import redis_address
from shared.errors import Transient

_log = logging.getLogger(__name__)

Reply = Any
OnPush = Callable[[list[Any]], None]
OnReply = Callable[[Reply], None]
"""Gets a command's reply, or a `ReplyError` or a `LinkDown` in its place."""

_pack: Final[Callable[[Any], bytes]] = hiredis.pack_command  # its stub knows tuples of one argument only

_RECONNECT_FIRST_S: Final = 0.05
_RECONNECT_MOST_S: Final = 1.0
_BUSY_S: Final = 0.1
_BUSY_COMMANDS: Final = 100
"""More in `_BUSY_S` are many."""
_SENTINEL_S: Final = 1.0
"""How long a Sentinel has to answer; the others' answers are enough."""


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

    `gather_s`: while more than a thousand commands a second are sent, they wait for one another so long, which spares both
    sides most of their system calls. Otherwise each leaves at once.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 2.0,
        reply_timeout_s: float = 2.0,
        gather_s: float = 0.0,
        on_push: OnPush | None = None,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[], None] | None = None,
        on_handed_out: Callable[[], None] | None = None,
    ) -> None:
        self._address = redis_address.parse(url)
        self._tls = self._address.tls_context()
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._gather_s = gather_s
        self._gathered: list[bytes] = []
        self._is_busy = False
        self._counted, self._counting_until = 0, 0.0
        self._on_push = on_push
        self._on_up = on_up
        self._on_down = on_down
        self._on_handed_out = on_handed_out
        self._wire: _Wire | None = None
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._waiting: collections.deque[tuple[float, OnReply]] = collections.deque()
        self._ready = False
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def is_up(self) -> bool:
        return self._ready

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._loop = asyncio.get_running_loop()
        self._keeper = self._loop.create_task(self._keep(), name="redis-link")

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
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.ask(functools.partial(_resolve, future), arguments)
        return future

    def ask(self, on_reply: OnReply, command: tuple[bytes | str | int, ...]) -> None:
        """As `send`, for what is sent ten thousand times a second: `on_reply` is called as the reply is read, or at once
        where the connection is down, and no future or turn of the loop is spent on it."""
        if self._transport is None or not self._ready:
            _tell(on_reply, LinkDown())
            return
        packed, now = _pack(command), self._loop.time()
        self._waiting.append((now + self._reply_timeout_s, on_reply))
        self._pass_on(packed, now)

    def tell(self, *arguments: bytes | str | int) -> None:
        """Write a command that RESP3 answers by a push, or not at all (SUBSCRIBE, UNSUBSCRIBE). Lost where down."""
        if self._transport is not None and self._ready:
            self._pass_on(_pack(arguments), self._loop.time())

    def _pass_on(self, command: bytes, now: float) -> None:
        """Write the command now, or with others in a moment."""
        self._counted += 1
        if now >= self._counting_until:
            # (a count that a pause made longer than two periods says nothing)
            self._is_busy = (
                self._gather_s > 0 and self._counted > _BUSY_COMMANDS and now < self._counting_until + _BUSY_S
            )
            self._counted, self._counting_until = 0, now + _BUSY_S
        if self._gathered:
            self._gathered.append(command)
        elif self._is_busy:
            self._gathered.append(command)
            self._loop.call_later(self._gather_s, self._write_gathered)
        else:
            assert self._transport is not None
            self._transport.write(command)

    def _write_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered and self._transport is not None:  # else they were dropped meanwhile
            self._transport.write(b"".join(gathered))

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
            _, on_reply = self._waiting.popleft()
            if isinstance(reply, hiredis.ReplyError):
                _tell(on_reply, ReplyError(str(reply)))
                if str(reply).startswith("READONLY"):  # no master any more: its name may lead to another one by now
                    self._drop()
                    return
            else:
                _tell(on_reply, reply)

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
                host, port = await self._where()
                async with asyncio.timeout(self._connect_timeout_s):
                    await self._connect(host, port)
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

    async def _where(self) -> tuple[str, int]:
        """The server's host and port; behind Sentinels, the master that most of those that answer name. Raises `LinkDown`."""
        if not self._address.sentinels:
            return self._address.host, self._address.port
        asked = [self._ask_sentinel(host, port) for host, port in self._address.sentinels]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        masters = collections.Counter(answer for answer in answers if isinstance(answer, tuple))
        if not masters:
            raise LinkDown
        return masters.most_common(1)[0][0]

    async def _ask_sentinel(self, host: str, port: int) -> tuple[str, int]:
        """The master that one Sentinel names."""
        login = self._address.sentinel_login
        commands: list[tuple[str, ...]] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service)]
        if "password" in login:
            commands.insert(0, ("AUTH", login.get("username", "default"), login["password"]))
        async with asyncio.timeout(_SENTINEL_S):
            reading, writing = await asyncio.open_connection(host, port, ssl=self._tls)
            try:
                writing.write(b"".join(map(_pack, commands)))
                reader = hiredis.Reader()
                replies: list[Reply] = []
                while len(replies) < len(commands):
                    while (reply := reader.gets()) is False:
                        if not (data := await reading.read(4096)):
                            raise LinkDown
                        reader.feed(data)
                    replies.append(reply)
            finally:
                writing.transport.abort()
        match replies[-1]:
            case [bytes() as master, bytes() as its_port]:
                return master.decode(), int(its_port)
        raise LinkDown  # it knows no such service, or wants a password

    async def _connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        wire = self._wire = _Wire(self)
        await loop.create_connection(lambda: wire, host, port, ssl=self._tls)
        hello: list[bytes | str | int] = ["HELLO", 3]
        if self._address.password:
            hello += ["AUTH", self._address.username or "default", self._address.password]
        await self._ask(*hello)
        if self._address.sentinels and (await self._ask("ROLE"))[0] != b"master":
            raise LinkDown  # the Sentinels have not agreed yet
        if self._address.db:
            await self._ask("SELECT", self._address.db)

    async def _ask(self, *arguments: bytes | str | int) -> Reply:
        if self._transport is None:
            raise LinkDown
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting.append((self._loop.time() + self._reply_timeout_s, functools.partial(_resolve, future)))
        self._transport.write(_pack(arguments))
        return await future

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
        self._gathered.clear()
        self._is_busy = False
        if transport is not None:
            transport.abort()
        self._lost.set()
        waiting, self._waiting = self._waiting, collections.deque()
        for _, on_reply in waiting:
            _tell(on_reply, LinkDown())
        if was_ready and self._on_down is not None:
            self._on_down()


def _tell(on_reply: OnReply, reply: Reply) -> None:
    """What one does with its reply keeps nobody from theirs."""
    try:
        on_reply(reply)
    except Exception:
        _log.exception("a reply could not be handled")


def _resolve(future: asyncio.Future[Reply], reply: Reply) -> None:
    if future.done():
        return  # whoever waited went away
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _collect(future: asyncio.Future[Reply]) -> None:
    """Look at the outcome, so that the loop does not report it as never retrieved."""
    if not future.cancelled():
        future.exception()
