"""A model that costs next to nothing: streams of chat completions at a chosen pace, each chunk in a write of its own.

A plain epoll loop that sends what it encoded once. A stream's next chunk is due by a clock of its own, to some tens of
microseconds, so that chunks of several streams do not come in bunches that a real provider would not make.

Requests:
    serve    {}                          → the port of 127.0.0.1 on which it answers `POST …/chat/completions`
    set      {per_s: [least, most], deltas, text, is_open}
             for the streams that begin from now on: their paces (spread evenly), and after how many deltas they end (null:
             never; 0: at once). Where it is not open, they send nothing behind their first chunk until `resume`
    resume   {}                          → lets go what waits, each stream at a moment of its own
    pause    {}
    finish   {}                          → ends every stream properly, after one more delta: none is empty
    counts   {}                          → {streams, begun, deltas, first_s, last_s}; `begun` counts since `set`, and the last
             two are when the first and the last of those began, on one clock
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import re
import select
import socket
import sys
import time
from typing import Any, Final

from benchmarks.measuring import allow_many_files
from benchmarks.programs.answering import Answers, Requests, reply
from dev.scripted_model.wire import DONE, ChunkEncoder, Usage

_READ_BYTES: Final = 256 * 1024
_SLEEP_MOST_S: Final = 0.002
"""As far as a chunk is due within it, the loop sleeps to the very moment: epoll counts in milliseconds."""
_LOOK_S: Final = 0.0005
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_SEED: Final = 11
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """One connection, and the answer that is on its way over it."""

    __slots__ = ("asked", "due_s", "interval_s", "is_active", "left", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked = b""
        self.unsent = b""
        self.is_active = False
        self.interval_s = 0.0
        self.left: int | None = None
        self.due_s = 0.0


class Model:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._requests = Requests()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self._streams: dict[int, Stream] = {}
        self._due: list[tuple[float, int, Stream]] = []
        self._numbers = itertools.count()
        self._random = random.Random(_SEED)
        self._deltas_sent = 0
        self._begun = 0
        self._first_s = self._last_s = 0.0
        self._per_s = (20.0, 50.0)
        self._deltas: int | None = None
        self._is_open = True
        self._encode(" the")
        self._answers: Answers = {
            "serve": lambda: self._listener.getsockname()[1],
            "set": self._set,
            "resume": self._resume,
            "pause": self._pause,
            "finish": self._finish_all,
            "counts": self._counts,
        }

    def _encode(self, text: str) -> None:
        encoder = ChunkEncoder(completion_id="chatcmpl-bench", created_s=1, model="bench", with_usage=True)
        usage = Usage(prompt_tokens=10, completion_tokens=10, total_tokens=20)
        self._first = _HEAD + _chunk(encoder.role(with_text=True))
        self._delta = _chunk(encoder.text(text))
        self._end = _chunk(encoder.finish("stop")) + _chunk(encoder.usage(usage)) + _chunk(DONE) + b"0\r\n\r\n"

    # --- requests ------------------------------------------------------------------------------------------------

    def _set(
        self, *, per_s: tuple[float, float], deltas: int | None = None, text: str = " the", is_open: bool = True
    ) -> None:
        self._per_s, self._deltas, self._is_open = per_s, deltas, is_open
        self._begun, self._first_s, self._last_s = 0, 0.0, 0.0
        self._encode(text)

    def _resume(self) -> None:
        self._is_open = True
        now_s = time.perf_counter()
        for stream in self._streams.values():
            if stream.is_active:
                self._schedule(stream, now_s + self._random.random() * stream.interval_s)

    def _pause(self) -> None:
        self._is_open = False
        self._due.clear()

    def _finish_all(self) -> None:
        self._due.clear()
        for stream in list(self._streams.values()):
            if stream.is_active:
                self._deltas_sent += 1
                self._send(stream, self._delta)
                self._finish(stream)

    def _counts(self) -> dict[str, Any]:
        active = sum(stream.is_active for stream in self._streams.values())
        return {
            "streams": active,
            "begun": self._begun,
            "deltas": self._deltas_sent,
            "first_s": self._first_s,
            "last_s": self._last_s,
        }

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        stdin, listener = sys.stdin.fileno(), self._listener.fileno()
        self._epoll.register(stdin, select.EPOLLIN)
        self._epoll.register(listener, select.EPOLLIN)
        looked_at_s = 0.0
        while not self._requests.are_over:
            now_s = time.perf_counter()
            while self._due and self._due[0][0] <= now_s:
                self._send_delta(heapq.heappop(self._due)[2])
            until_s = self._due[0][0] - time.perf_counter() if self._due else None
            if until_s is not None and until_s < _SLEEP_MOST_S:
                if until_s > 0:
                    time.sleep(until_s)
                if now_s - looked_at_s < _LOOK_S:
                    continue
                until_s = 0.0
            looked_at_s = now_s
            timeout_s = -1.0 if until_s is None else max(0.0, until_s - _SLEEP_MOST_S / 2)
            for descriptor, happened in self._epoll.poll(timeout_s, 256):
                if descriptor == stdin:
                    for do, request in self._requests.read():
                        reply(do, request, self._answers)
                elif descriptor == listener:
                    self._accept()
                else:
                    self._serve(self._streams[descriptor], happened)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams[sock.fileno()] = Stream(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _serve(self, stream: Stream, happened: int) -> None:
        if happened & select.EPOLLOUT:
            self._epoll.modify(stream.sock.fileno(), select.EPOLLIN)
            self._send(stream, b"")
        if not happened & ~select.EPOLLOUT:
            return
        try:
            data = os.read(stream.sock.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget(stream)
            return
        stream.asked += data
        head, found, body = stream.asked.partition(b"\r\n\r\n")
        if found and (match := _LENGTH.search(head + b"\r\n")) is not None and len(body) >= int(match[1]):
            stream.asked = body[int(match[1]) :]
            self._begin(stream)

    def _begin(self, stream: Stream) -> None:
        least, most = self._per_s
        # so that few streams have as wide a range of paces as many
        share = (self._begun * 0.618034) % 1.0
        self._begun += 1
        self._last_s = time.perf_counter()
        self._first_s = self._first_s or self._last_s
        stream.interval_s = 1.0 / (least + (most - least) * share)
        stream.left = self._deltas
        stream.is_active = True
        if stream.left == 0:
            self._send(stream, self._first + self._end)
            stream.is_active = False
            return
        self._send(stream, self._first)
        if self._is_open:
            self._schedule(stream, time.perf_counter())

    def _schedule(self, stream: Stream, due_s: float) -> None:
        stream.due_s = due_s
        heapq.heappush(self._due, (due_s, next(self._numbers), stream))

    def _send_delta(self, stream: Stream) -> None:
        if not stream.is_active:
            return
        self._deltas_sent += 1
        self._send(stream, self._delta)
        if stream.left is not None:
            stream.left -= 1
            if stream.left == 0:
                self._finish(stream)
                return
        if stream.is_active:
            self._schedule(stream, stream.due_s + stream.interval_s)

    def _finish(self, stream: Stream) -> None:
        stream.is_active = False
        self._send(stream, self._end)

    def _send(self, stream: Stream, data: bytes) -> None:
        if stream.unsent:
            data = stream.unsent + data
        try:
            sent = os.write(stream.sock.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._forget(stream)
            return
        stream.unsent = data[sent:]
        if stream.unsent:
            self._epoll.modify(stream.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _forget(self, stream: Stream) -> None:
        descriptor = stream.sock.fileno()
        if self._streams.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            stream.sock.close()
        stream.is_active = False


if __name__ == "__main__":
    allow_many_files()
    Model().run()
