"""Ways between two processes that break as networks do: refused, reset, silent, slow, or cut at exactly this byte.

    with FaultProxies() as proxies:
        link = proxies.link(server_url)                                  # clients connect to link.url
        lost = link.cut(up(b"INSERT INTO tool_ledger"), down(b"COMMIT"))   # the answer to a commit never comes
        lost.wait()
        link.undo()

One thread passes the bytes of any number of links. Every fault may be switched while connections are open, and tells when it
has struck, so that a test waits for it and never for a time.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Final, Literal, NamedTuple, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
Act = Literal["rst", "fin", "hold", "pass"]
Manner = Literal["rst", "fin"]

WAIT_S: Final = 40.0
_THREAD: Final = "fault proxies"
_PIECE_BYTES: Final = 1 << 16
_REMEMBERED_BYTES: Final = 1 << 12
"""What is looked for may lie so far apart over two reads."""


class Way(Enum):
    UP = "from the client to the server"
    DOWN = "from the server to the client"


class Step(NamedTuple):
    """Bytes that go one way of a connection: a string or pattern, or so many of them."""

    way: Way
    what: re.Pattern[bytes] | int


def up(what: bytes | re.Pattern[bytes] | int) -> Step:
    return Step(Way.UP, re.compile(re.escape(what)) if isinstance(what, bytes) else what)


def down(what: bytes | re.Pattern[bytes] | int) -> Step:
    return Step(Way.DOWN, re.compile(re.escape(what)) if isinstance(what, bytes) else what)


class Trap:
    """Strikes where its steps came one after the other on one connection; `struck` counts."""

    def __init__(
        self,
        link: Link,
        steps: tuple[Step, ...],
        act: Act,
        *,
        passing: bool = True,
        times: int | None = None,
        then: Callable[[], object] | None = None,
    ) -> None:
        self.steps = steps
        self.act: Act = act
        self.passing = passing
        self.struck = 0
        self._link = link
        self._times = times
        self._then = then

    def wait(self, count: int = 1, *, timeout_s: float = WAIT_S) -> None:
        """Until it has struck so often. Raises `TimeoutError`."""
        self._link.wait_until(lambda: self.struck >= count, f"the trap {self.steps} struck {count} times", timeout_s)

    def release(self) -> None:
        """No more of it; connections that it holds go on with what they were sent meanwhile."""
        self._link.run(lambda: self._link.remove(self))

    def strike(self) -> None:
        self.struck += 1
        if self._times is not None and self.struck >= self._times:
            self._link.traps.remove(self)
        if self._then is not None:
            self._then()


class _Progress:
    """How far one connection has come in a trap's steps."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._step = 0
        self._seen = b""
        self._bytes = 0

    def take(self, way: Way, piece: bytes) -> int | None:
        """After how many bytes of `piece` the trap strikes; None where it does not."""
        passed = 0
        while self._trap.steps[self._step].way is way:
            end = self._end_of_step(piece, passed)
            if end is None:
                return None
            start, passed = end
            self._step, self._seen, self._bytes = self._step + 1, b"", 0
            if self._step == len(self._trap.steps):
                self._step = 0
                return passed if self._trap.passing else start
        return None

    def _end_of_step(self, piece: bytes, passed: int) -> tuple[int, int] | None:
        """Where in `piece`, from `passed` on, the match begins and ends."""
        what = self._trap.steps[self._step].what
        if isinstance(what, int):
            at = passed + what - self._bytes
            self._bytes += len(piece) - passed
            return (at, at) if at <= len(piece) else None
        before, text = len(self._seen), self._seen + piece[passed:]
        found = what.search(text)
        if found is None:
            self._seen = text[-_REMEMBERED_BYTES:]
            return None
        return max(passed, found.start() - before + passed), found.end() - before + passed


class _Over(Exception):
    """A trap has ended the connection."""


class _Connection:
    """One client and the server behind, until either ends or a fault does it."""

    def __init__(self, link: Link, client: asyncio.StreamWriter) -> None:
        self._link = link
        self._writers = [client]
        self._progress: dict[Trap, _Progress] = {}
        self.held_by: Trap | None = None
        self.lost_bytes = False
        """Whether bytes of it were swallowed: what came after them would be nonsense."""

    async def run(self, reader: asyncio.StreamReader, target: tuple[str, int]) -> None:
        client = self._writers[0]
        try:
            answers, server = await asyncio.open_connection(*target)
        except OSError:
            self.reset()
            return
        self._writers.append(server)
        ways = [
            asyncio.ensure_future(self._pass(Way.UP, reader, server)),
            asyncio.ensure_future(self._pass(Way.DOWN, answers, client)),
        ]
        try:
            await asyncio.gather(*ways)
            for writer in self._writers:
                writer.close()
        except OSError:  # one side is gone: the other is told so
            self.reset()
        except _Over:
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            piece = await reader.read(_PIECE_BYTES)
            if (slow_s := self._link.latency_s[way]) > 0:
                await asyncio.sleep(slow_s)
            await self._link.changed_until(lambda: self.held_by is None and way not in self._link.withheld)
            if way in self._link.swallowed:
                self.lost_bytes = True
                if piece:
                    continue
                await asyncio.Event().wait()  # its end is not told either; whoever undoes the fault resets it
            await self._send(way, piece, writer)
            if not piece:
                return

    async def _send(self, way: Way, piece: bytes, writer: asyncio.StreamWriter) -> None:
        struck = [
            (at, trap)
            for trap in self._link.traps
            if (at := self._progress.setdefault(trap, _Progress(trap)).take(way, piece)) is not None
        ]
        sent = 0
        for at, trap in sorted(struck, key=lambda one: one[0]):
            if trap.act != "pass":
                writer.write(piece[sent:at])
                sent = at
                await writer.drain()
            self._link.strike(trap)
            if trap.act == "hold":
                self.held_by = trap
                await self._link.changed_until(lambda: self.held_by is None)
            elif trap.act != "pass":
                self._end(trap.act)
        writer.write(piece[sent:])
        await writer.drain()
        if not piece:
            writer.write_eof()

    def _end(self, manner: Manner) -> NoReturn:
        if manner == "rst":
            self.reset()
        else:
            for writer in self._writers:
                writer.close()
        raise _Over

    def reset(self) -> None:
        for writer in self._writers:
            peer = writer.get_extra_info("socket")
            if peer is not None and not writer.transport.is_closing():
                # SO_LINGER of 0 s: what is not sent yet is thrown away and the peer is sent RST
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Link:
    """A way to `target`. Its methods may be called from any thread; a fault is in force when they return."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: tuple[str, int]) -> None:
        self._loop = loop
        self._target = target
        # bound and never listening: while the link refuses, its port is still nobody else's
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._condition = threading.Condition()
        self._changed = asyncio.Event()
        self.opened = 0
        self.traps: list[Trap] = []
        self.latency_s = dict.fromkeys(Way, 0.0)
        self.swallowed: frozenset[Way] = frozenset()
        self.withheld: frozenset[Way] = frozenset()
        asyncio.run_coroutine_threadsafe(self._listen(), loop).result()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    # --- faults -----------------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """New connections are refused; open ones go on."""

        def close() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None

        self.run(close)

    def reset(self) -> int:
        """Every open connection is reset; how many there were."""

        def reset() -> int:
            for connection in self._connections.values():
                connection.reset()
            return len(self._connections)

        return self.run(reset)

    def blackhole(self, *ways: Way, late: bool = False) -> None:
        """Bytes that go these ways (both, where none is named) vanish, and ends of connections too.

        `late`: they are kept, and come when the fault is undone, as after an outage of a network; else connections that have
        lost bytes are reset then.
        """

        def begin() -> None:
            if late:
                self.withheld |= frozenset(ways or Way)
            else:
                self.swallowed |= frozenset(ways or Way)

        self.run(begin)

    def slow(self, seconds: float, *ways: Way) -> None:
        """Each piece of bytes takes so much longer."""
        self.run(lambda: self.latency_s.update(dict.fromkeys(ways or Way, seconds)))

    def cut(
        self,
        *steps: Step,
        manner: Manner = "rst",
        passing: bool = False,
        times: int | None = 1,
        then: Callable[[], object] | None = None,
    ) -> Trap:
        """Ends a connection where `steps` came on it; the last one's bytes are passed before only where `passing`.

        ``rst`` resets both sides, ``fin`` closes them as programs do. `times` None: every connection until it is undone.
        `then` is called when it has struck, on the links' thread, and may set the next one.
        """
        return self._set(Trap(self, steps, manner, passing=passing, times=times, then=then))

    def hold(self, *steps: Step, passing: bool = False, times: int | None = 1) -> Trap:
        """As `cut`, and the connection stands still there, both ways, until the trap is released or undone."""
        return self._set(Trap(self, steps, "hold", passing=passing, times=times))

    def watch(self, *steps: Step) -> Trap:
        """As `cut`, and nothing happens but that it is counted."""
        return self._set(Trap(self, steps, "pass"))

    def undo(self) -> None:
        """Everything passes again. What is held goes on; connections that lost bytes are reset."""

        async def undo() -> None:
            self.traps.clear()
            self.latency_s = dict.fromkeys(Way, 0.0)
            self.swallowed = self.withheld = frozenset()
            for connection in self._connections.values():
                connection.held_by = None
                if connection.lost_bytes:
                    connection.reset()
            self._tell()
            await self._listen()

        asyncio.run_coroutine_threadsafe(undo(), self._loop).result()

    def _set(self, trap: Trap) -> Trap:
        self.run(lambda: self.traps.append(trap))
        return trap

    # --- what happens on it ----------------------------------------------------------------------------------------

    def wait_opened(self, count: int, *, timeout_s: float = WAIT_S) -> None:
        """Until so many connections came, of all that ever came. Raises `TimeoutError`."""
        self.wait_until(lambda: self.opened >= count, f"{count} connections came", timeout_s)

    def wait_until(self, is_so: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        with self._condition:
            if not self._condition.wait_for(is_so, timeout_s):
                raise TimeoutError(f"not within {timeout_s:g} s: {what}")

    # --- on the loop's thread --------------------------------------------------------------------------------------

    def run(self, act: Callable[[], T]) -> T:
        """`act` on the loop's thread, from any thread; also from this one."""
        if threading.current_thread().name == _THREAD:
            return act()

        async def call() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def strike(self, trap: Trap) -> None:
        with self._condition:
            trap.strike()
        self._tell()

    def remove(self, trap: Trap) -> None:
        if trap in self.traps:
            self.traps.remove(trap)
        for connection in self._connections.values():
            if connection.held_by is trap:
                connection.held_by = None
        self._tell()

    async def changed_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        with self._condition:
            self._condition.notify_all()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, sock=_bound(self.port))

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        task = asyncio.ensure_future(connection.run(reader, self._target))
        self._connections[task] = connection
        task.add_done_callback(self._ended)
        self.opened += 1
        self._tell()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._tell()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reserved.close()
        for task, connection in list(self._connections.items()):
            task.cancel()
            connection.reset()
        await asyncio.gather(*self._connections, return_exceptions=True)


class FaultProxies:
    """The links, and the thread that passes their bytes."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._links: list[Link] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name=_THREAD)

    def link(self, url: str) -> Link:
        """A new way to the server at the address `url`."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        link = Link(self._loop, (parts.hostname, parts.port))
        self._links.append(link)
        return link

    def undo(self) -> None:
        """Every link passes everything again."""
        for link in self._links:
            link.undo()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for link in self._links:
            asyncio.run_coroutine_threadsafe(link.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def through(link: Link, url: str) -> str:
    """The address `url` by way of the link."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{link.port}")).geturl()


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
