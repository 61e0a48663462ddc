"""Publishes the events of many messages at a steady rate, each event in a write of its own.

As a worker does (`append`: the log's script), or by plain PUBLISH of the same bytes. Blocking, on one connection: each
event's moment comes by itself, so that nothing is batched that a worker would not have batched.

Requests:
    begin    {url, how: append | publish, messages: [id, …]}     each message's status(thinking), event 0 of attempt 1
    publish  {each, per_s, text}   so many deltas on every message, at a rate for each; answered when all are acknowledged
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis

from benchmarks.programs.answering import serve
from shared import events, keys
from shared.event_log import RETENTION_S

_SCRIPT: Final = (resources.files("shared") / "append_event.lua").read_text()
_SLEEP_LEAST_S: Final = 0.00005
_TIMEOUT_S: Final = 20.0


class Publisher:
    def __init__(self) -> None:
        self._sock: socket.socket | None = None
        self._parser = hiredis.Reader()
        self._messages: list[str] = []
        self._next: dict[str, int] = {}
        self._sha = b""
        self._owed = 0
        self._appends = True

    def begin(self, *, url: str, how: str, messages: list[str]) -> None:
        if self._sock is not None:
            self._sock.close()
        where = urlsplit(url)
        self._sock = socket.create_connection((where.hostname or "localhost", where.port or 6379), timeout=_TIMEOUT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = hiredis.Reader()
        self._appends = how == "append"
        self._messages = messages
        self._next = dict.fromkeys(messages, 0)
        self._ask("SELECT", where.path.strip("/") or "0")
        self._sha = self._ask("SCRIPT", "LOAD", _SCRIPT)
        for message_id in messages:
            self._send(message_id, events.Status, {"status": "thinking"})
        self._collect()

    def publish(self, *, each: int, per_s: float, text: str) -> dict[str, Any]:
        """How late the last event was, in seconds: a publisher that cannot keep up says so."""
        interval_s = 1.0 / (per_s * len(self._messages))
        due_s = time.perf_counter() + 0.01
        late_s = 0.0
        for message_id in self._in_turn(each):
            late_s = self._wait(due_s)
            self._send(message_id, events.Delta, {"content": text})
            if self._owed >= 64:
                self._collect(wait=False)
            due_s += interval_s
        self._collect()
        return {"late_s": late_s}

    def _in_turn(self, each: int) -> Iterator[str]:
        for _ in range(each):
            yield from self._messages

    def _wait(self, due_s: float) -> float:
        while (left_s := due_s - time.perf_counter()) > _SLEEP_LEAST_S:
            time.sleep(left_s - _SLEEP_LEAST_S / 2)
        return max(0.0, -left_s)

    def _send(self, message_id: str, kind: type[events.StreamEvent], fields: dict[str, Any]) -> None:
        n = self._next[message_id]
        self._next[message_id] = n + 1
        event_id = f"1-{n}"
        event = kind(id=event_id, message_id=message_id, ts=time.time_ns() // 1_000_000, **fields)
        channel, payload = keys.message_channel(message_id), events.encode(event)
        command: tuple[bytes | str | int, ...]
        if self._appends:  # as the script's head says
            command = ("EVALSHA", self._sha, 1, keys.log(message_id), RETENTION_S, channel, 1, event_id, payload)
        else:
            command = ("PUBLISH", channel, payload)
        self._write(command)
        self._owed += 1

    def _write(self, command: tuple[bytes | str | int, ...]) -> None:
        assert self._sock is not None
        self._sock.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub is too narrow

    def _ask(self, *command: bytes | str | int) -> Any:
        self._write(command)
        return self._reply()

    def _reply(self) -> Any:
        assert self._sock is not None
        while (answer := self._parser.gets()) is False:
            data = self._sock.recv(64 * 1024)
            if not data:
                raise ConnectionError("Redis closed the connection")
            self._parser.feed(data)
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    def _collect(self, *, wait: bool = True) -> None:
        """Look at the answers that are there, or at all that are owed."""
        assert self._sock is not None
        if not wait:
            try:
                self._parser.feed(self._sock.recv(64 * 1024, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return
        while self._owed and (answer := self._reply() if wait else self._parser.gets()) is not False:
            if isinstance(answer, hiredis.ReplyError):
                raise answer
            if self._appends and answer[0] != b"ok":
                raise RuntimeError(f"an append was answered {answer!r}")
            self._owed -= 1


if __name__ == "__main__":
    publisher = Publisher()
    serve({"begin": publisher.begin, "publish": publisher.publish})
