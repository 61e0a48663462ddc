"""Readers by the thousand in one process: WebSockets of messages, raw subscribers of Redis channels, and hubs.

A plain epoll loop, since an event loop's transports would cost more than what they are to measure: a delivered event takes
one read(2) and a match of the event's first bytes. Each reader checks what it is told: nothing twice, nothing left out but
what a merged delta stands for. The first reader keeps all that it was told.

Requests:
    open    {kind: socket | redis | hub | sse | sse-get, host, port, token?, wanted: [[path or channel, readers], …],
             body?, content_type?}
            `redis`: a connection for each reader; `hub`: one for all of them, as the relay has; `sse`: Server-Sent Events
            in answer to a POST of `body`, or to a GET (`sse-get`), which are counted and no more
    until   {events, timeout_s}   waits until all readers together were told so many events since `open`
    counts  {}
    kept    {}                    what the first reader was told, as text
    close   {}                    leaves, and forgets the counts
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import time
from collections import deque
from typing import Any, Final

import hiredis

from benchmarks.measuring import allow_many_files
from benchmarks.programs.answering import Requests, reply, say

_READ_BYTES: Final = 256 * 1024
_HANDSHAKES_AT_ONCE: Final = 64
_MOST_PROBLEMS: Final = 20
_EVENT: Final = re.compile(rb'\{"type":"[a-z_]+","id":"([0-9]+)-([0-9]+)"')
_FROM: Final = re.compile(rb'"from":"[0-9]+-([0-9]+)"')
_SNAPSHOT: Final = b'{"type":"snapshot"'
_DATA: Final = b"data: "
_KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
_TEXT, _CLOSE, _PING = 0x81, 0x88, 0x89


class Reader:
    """One connection, and where it stands."""

    __slots__ = ("_all", "attempt", "is_open", "keeps", "n", "name", "sock")

    def __init__(self, readers: Readers, sock: socket.socket, name: str) -> None:
        self._all = readers
        self.sock = sock
        self.name = name
        self.attempt = 0
        self.n = -1
        self.is_open = False
        self.keeps = False

    def feed(self, data: bytes) -> None:
        raise NotImplementedError

    def opened(self) -> None:
        self.is_open = True
        self._all.opened()

    def take(self, data: bytes, start: int, end: int) -> None:
        """One event, the bytes from `start` to `end`."""
        everyone = self._all
        everyone.frames += 1
        if self.keeps:
            everyone.kept.append(data[start:end])
        if (match := _EVENT.match(data, start)) is None:
            return  # an error frame, or what belongs to a project
        attempt, n = int(match[1]), int(match[2])
        if attempt == self.attempt and n == self.n + 1:
            everyone.events += 1
        else:
            self._leap(attempt, n, data[start:end])
        self.attempt, self.n = attempt, n

    def _leap(self, attempt: int, n: int, payload: bytes) -> None:
        everyone = self._all
        if payload.startswith(_SNAPSHOT):
            everyone.events += 1
        elif attempt == self.attempt and (match := _FROM.search(payload)) is not None and int(match[1]) == self.n + 1:
            everyone.events += n - self.n
        elif attempt > self.attempt and n == 0:
            everyone.events += 1
        else:
            everyone.problem(f"{self.name} has {self.attempt}-{self.n} and is told {payload[:80]!r}")


class SocketReader(Reader):
    """A WebSocket. The server's frames are neither masked nor in pieces."""

    __slots__ = ("_rest",)

    def __init__(self, readers: Readers, sock: socket.socket, name: str, *, host: str, token: str | None) -> None:
        super().__init__(readers, sock, name)
        self._rest = b""
        authorization = "" if token is None else f"Authorization: Bearer {token}\r\n"
        sock.sendall(
            f"GET {name} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{authorization}"
            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def feed(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, size = 0, len(data)
        if not self.is_open:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101 "):
                raise ConnectionError(f"{self.name} was refused: {data[:300]!r}")
            self.opened()
        while at + 2 <= size:
            length, start = data[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif length == 127:
                length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            end = start + length
            if end > size or start > size:
                break
            if data[at] == _TEXT:
                self.take(data, start, end)
            elif data[at] == _PING:
                self.sock.send(b"\x8a%c\0\0\0\0%b" % (0x80 | length, data[start:end]))
            elif data[at] == _CLOSE:
                self._all.closes += 1
            at = end
        if at < size:
            self._rest = data[at:]


class RedisReader(Reader):
    """A raw subscriber: no client library but the parser in C."""

    __slots__ = ("_parser",)

    def __init__(self, readers: Readers, sock: socket.socket, name: str) -> None:
        super().__init__(readers, sock, name)
        self._parser = hiredis.Reader()
        sock.sendall(hiredis.pack_command(("SUBSCRIBE", name)))  # type: ignore[arg-type]  # its stub is too narrow

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)
        while (push := self._parser.gets()) is not False:
            assert isinstance(push, list)
            if push[0] == b"message":
                self.take(push[2], 0, len(push[2]))
            else:
                self.opened()


class SseReader(Reader):
    """An event a `data:` line. Its events have no ids that would be known here."""

    __slots__ = ("_tail",)

    def __init__(
        self,
        readers: Readers,
        sock: socket.socket,
        name: str,
        *,
        host: str,
        method: str,
        body: str = "",
        content_type: str | None = None,
    ) -> None:
        super().__init__(readers, sock, name)
        self._tail = b""
        kind = "" if content_type is None else f"Content-Type: {content_type}\r\n"
        sock.sendall(
            f"{method} {name} HTTP/1.1\r\nHost: {host}\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def feed(self, data: bytes) -> None:
        if not self.is_open:
            if not data.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(f"{self.name} was refused: {data[:300]!r}")
            self.opened()
        count = (self._tail + data).count(_DATA)
        self._all.events += count
        self._all.frames += count
        self._tail = data[-len(_DATA) + 1 :]


class Hub(Reader):
    """One connection that has subscribed to every channel, each with readers that cost nothing more."""

    __slots__ = ("_parser", "_readers", "_unconfirmed")

    def __init__(self, readers: Readers, sock: socket.socket, wanted: list[tuple[str, int]]) -> None:
        super().__init__(readers, sock, "hub")
        self._parser = hiredis.Reader()
        self._readers = {name.encode(): [Reader(readers, sock, name) for _ in range(count)] for name, count in wanted}
        self._unconfirmed = len(self._readers)
        sock.sendall(hiredis.pack_command(("SUBSCRIBE", *self._readers)))  # type: ignore[arg-type]  # its stub is too narrow

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)
        while (push := self._parser.gets()) is not False:
            assert isinstance(push, list)
            if push[0] == b"message":
                for reader in self._readers[push[1]]:
                    reader.take(push[2], 0, len(push[2]))
                continue
            self._unconfirmed -= 1
            if not self._unconfirmed:
                self.opened()


class Readers:
    """All of them, on one loop with the requests."""

    def __init__(self) -> None:
        self.events = 0
        self.frames = 0
        self.bytes = 0
        self.closes = 0
        self.kept: list[bytes] = []
        self.problems: list[str] = []
        self._readers: dict[int, Reader] = {}
        self._to_open: deque[tuple[str, dict[str, Any]]] = deque()
        self._opening = 0
        self._wanted_events: int | None = None
        self._until_s = 0.0
        self._epoll = select.epoll()
        self._requests = Requests()
        self._answers = {"counts": self._counts, "kept": self._kept, "close": self._close}

    def problem(self, text: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)

    def run(self) -> None:
        stdin = sys.stdin.fileno()
        self._epoll.register(stdin, select.EPOLLIN)
        while not self._requests.are_over:
            timeout_s = -1.0 if self._wanted_events is None else max(0.0, self._until_s - time.monotonic())
            ready = self._epoll.poll(timeout_s, 256)
            for descriptor, _ in ready:
                if descriptor == stdin:
                    for do, request in self._requests.read():
                        self._hear(do, request)
                else:
                    self._read(descriptor)
            self._tell_whether_enough(time_is_up=not ready)

    # --- requests ------------------------------------------------------------------------------------------------

    def _hear(self, do: str, request: dict[str, Any]) -> None:
        if do == "open":
            wanted = request.pop("wanted")
            if request["kind"] == "hub":
                self._to_open.append(("hub", {**request, "wanted": wanted}))
            else:
                self._to_open.extend((name, request) for name, count in wanted for _ in range(count))
            self._open_more()
        elif do == "until":
            self._wanted_events = request["events"]
            self._until_s = time.monotonic() + request["timeout_s"]
        else:
            reply(do, request, self._answers)

    def _open_more(self) -> None:
        while self._to_open and self._opening < _HANDSHAKES_AT_ONCE:
            name, where = self._to_open.popleft()
            sock = socket.create_connection((where["host"], where["port"]))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader: Reader
            if where["kind"] == "socket":
                reader = SocketReader(self, sock, name, host=where["host"], token=where.get("token"))
            elif where["kind"] == "redis":
                reader = RedisReader(self, sock, name)
            elif where["kind"] == "sse":
                body, kind = where.get("body", ""), where.get("content_type")
                reader = SseReader(self, sock, name, host=where["host"], method="POST", body=body, content_type=kind)
            elif where["kind"] == "sse-get":
                reader = SseReader(self, sock, name, host=where["host"], method="GET")
            else:
                reader = Hub(self, sock, where["wanted"])
            reader.keeps = not self._readers
            self._opening += 1
            self._readers[sock.fileno()] = reader
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def opened(self) -> None:
        self._opening -= 1
        self._open_more()
        if not self._opening and not self._to_open:
            say(answer=len(self._readers))

    def _read(self, descriptor: int) -> None:
        reader = self._readers[descriptor]
        try:
            data = os.read(descriptor, _READ_BYTES)
            self.bytes += len(data)
            if not data:
                raise ConnectionError("closed by the server")
            reader.feed(data)
        except OSError as error:
            self._epoll.unregister(descriptor)
            if not reader.is_open:
                say(failed=f"{reader.name}: {error}")
            elif not self.closes:
                self.problem(f"{reader.name}: {error}")

    def _tell_whether_enough(self, *, time_is_up: bool) -> None:
        if self._wanted_events is not None and (time_is_up or self.events >= self._wanted_events):
            if self.events < self._wanted_events:
                self.problem(f"{self.events} events of {self._wanted_events} came in time")
            self._wanted_events = None
            say(answer=self._counts())

    def _counts(self) -> dict[str, Any]:
        return {
            "readers": len(self._readers),
            "events": self.events,
            "frames": self.frames,
            "bytes": self.bytes,
            "closes": self.closes,
            "problems": self.problems,
        }

    def _kept(self) -> list[str]:
        return [payload.decode() for payload in self.kept]

    def _close(self) -> None:
        for descriptor, reader in self._readers.items():
            try:
                self._epoll.unregister(descriptor)
            except (OSError, ValueError):
                pass  # the server closed it
            reader.sock.close()
        self._readers.clear()
        self.kept.clear()
        self.problems.clear()
        self.events = self.frames = self.bytes = self.closes = 0


if __name__ == "__main__":
    allow_many_files()
    Readers().run()
