"""A provider that means harm: an HTTP server on a plain socket, each of whose answers is whatever bytes an attack writes.

A request belongs to the attack whose name its newest user message begins with; every other one is answered politely, so that
a neighbour on the same worker can be looked at meanwhile.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
"""The body ends with the connection."""
DONE: Final = b"data: [DONE]\n\n"
POLITE: Final = "A word to the neighbour."


class Asked(msgspec.Struct, frozen=True):
    """A request as it came."""

    head: str
    body: dict[str, Any]

    @property
    def newest(self) -> str:
        """The newest user message."""
        return next((str(one["content"]) for one in reversed(self.body["messages"]) if one["role"] == "user"), "")


Send = Callable[[bytes], None]
Attack = Callable[[Send, Asked], None]
"""Writes an answer with what it is given, until that raises `OSError`: the worker has closed the connection."""


def chunk(delta: object = None, *, finish: object = None, **fields: object) -> bytes:
    """One line of a stream."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices, **fields}).encode() + b"\n\n"


def polite(send: Send, asked: Asked) -> None:
    send(HEAD + chunk({"content": POLITE}) + chunk(finish="stop") + DONE)


def raw(*pieces: bytes) -> Attack:
    """Exactly these bytes, and the connection's end."""

    def attack(send: Send, asked: Asked) -> None:
        for piece in pieces:
            send(piece)

    return attack


def answer(*lines: bytes) -> Attack:
    """A stream of these lines that ends by itself."""
    return raw(HEAD, *lines, DONE)


def calls(*lines: bytes) -> Attack:
    """These lines in the first round, which ends as one with calls; then a polite answer."""
    first = answer(*lines, chunk(finish="tool_calls"))
    return lambda send, asked: (polite if asked.body["messages"][-1]["role"] == "tool" else first)(send, asked)


def endless(piece: bytes, *, before: bytes = HEAD) -> Attack:
    """The same again and again, as fast as it is taken."""

    def attack(send: Send, asked: Asked) -> None:
        send(before)
        many = piece * max(1, 65_536 // len(piece))
        while True:
            send(many)

    return attack


def trickle(before: bytes, piece: bytes) -> Attack:
    """The same again and again, with a moment between."""

    def attack(send: Send, asked: Asked) -> None:
        send(before)
        pause = threading.Event()
        while not pause.wait(0.02):
            send(piece)

    return attack


class HostileModel:
    """`attacks` by their names. To be closed, when every connection is over."""

    def __init__(self, attacks: Mapping[str, Attack]) -> None:
        self._attacks = attacks
        self.asked: list[Asked] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._begun = {name: threading.Event() for name in attacks}
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="hostile model")]
        self._threads[0].start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/v1"

    @property
    def connections(self) -> int:
        """That were ever opened."""
        return len(self._connections)

    def wait_begun(self, name: str, timeout_s: float) -> None:
        """Until the attack has something to write to."""
        assert self._begun[name].wait(timeout_s), "it was never asked"

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="hostile model's answer")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        """One request a connection: no answer of an attack can spoil a later one."""
        with connection, suppress(OSError):
            asked = _read(connection)
            if asked is None:
                return
            self.asked.append(asked)
            name = next((name for name in self._attacks if asked.newest.startswith(f"{name}\n")), None)
            if name is None:
                polite(connection.sendall, asked)
                return
            self._begun[name].set()
            self._attacks[name](connection.sendall, asked)


def _read(connection: socket.socket) -> Asked | None:
    """A request with its body; None where the client left before it was whole."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        if not (data := connection.recv(65_536)):
            return None
        raw += data
    head, _, body = raw.partition(b"\r\n\r\n")
    told = head.decode("latin-1")
    lengths = [line.split(":")[1] for line in told.lower().split("\r\n") if line.startswith("content-length:")]
    while len(body) < int(lengths[0]):
        if not (data := connection.recv(65_536)):
            return None
        body += data
    return Asked(told, msgspec.json.decode(body))


@contextmanager
def running(attacks: Mapping[str, Attack]) -> Iterator[HostileModel]:
    model = HostileModel(attacks)
    try:
        yield model
    finally:
        model.close()
