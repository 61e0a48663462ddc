"""Bytes that a reader is sent: WebSocket frames (RFC 6455) and Server-Sent Events in HTTP chunks. Pure.

A `Frame` is one event. Its bytes are built once for each kind of reader and written to all of that kind. Frames of the
server are neither masked nor compressed: no memory is kept between two of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from shared import events
from shared.event_log import Entry
from shared.events import EventId

_ATTEMPT_SHIFT: Final = 34
_N_MASK: Final = (1 << _ATTEMPT_SHIFT) - 1

PING: Final = b"\x89\x00"
_MOST_CONTROL_BYTES: Final = 125

LAST_CHUNK: Final = b"0\r\n\r\n"
HEARTBEAT: Final = b": ping\n\n"


def pack(event_id: EventId) -> int:
    """An event id as one number: the same order, and the next id of an attempt is one more."""
    return event_id.attempt << _ATTEMPT_SHIFT | event_id.n


def unpack(position: int) -> EventId:
    return EventId(position >> _ATTEMPT_SHIFT, position & _N_MASK)


def opens_attempt(position: int) -> bool:
    return not position & _N_MASK


class Frame:
    """One event on its way to readers. `position` is its packed id, 0 where it has none; `kind` its type."""

    __slots__ = ("_chunk", "_plain_chunk", "_sse", "_text", "kind", "payload", "position")

    def __init__(self, kind: str, position: int, payload: bytes) -> None:
        self.kind = kind
        self.position = position
        self.payload = payload
        self._text: bytes | None = None
        self._sse: bytes | None = None
        self._chunk: bytes | None = None
        self._plain_chunk: bytes | None = None

    @classmethod
    def of(cls, entry: Entry) -> Frame:
        return cls(entry.kind, pack(entry.id), entry.payload)

    @property
    def is_terminal(self) -> bool:
        return events.is_terminal_payload(self.kind, self.payload)

    def text(self) -> bytes:
        """A WebSocket text frame."""
        if self._text is None:
            self._text = text_frame(self.payload)
        return self._text

    def sse(self) -> bytes:
        """A Server-Sent Event."""
        if self._sse is None:
            self._sse = b"id: %b\ndata: %b\n\n" % (str(unpack(self.position)).encode(), self.payload)
        return self._sse

    def chunk(self) -> bytes:
        """A Server-Sent Event as one HTTP chunk."""
        if self._chunk is None:
            self._chunk = chunk(self.sse())
        return self._chunk

    def plain_chunk(self) -> bytes:
        """As `chunk`, without an `id`: for a stream of many messages, whose ids an EventSource could not resume by."""
        if self._plain_chunk is None:
            self._plain_chunk = chunk(plain_sse(self.payload))
        return self._plain_chunk


def retry(after_ms: int) -> bytes:
    """Tells an EventSource after how long to come back."""
    return b"retry: %d\n\n" % after_ms


def plain_sse(payload: bytes) -> bytes:
    """A Server-Sent Event without an `id`."""
    return b"data: %b\n\n" % payload


def text_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def close_frame(code: int | None, reason: str = "") -> bytes:
    """`code` None answers a close that came without one. `reason` is ASCII and shorter than 124 bytes."""
    if code is None:
        return b"\x88\x00"
    payload = struct.pack("!H", code) + reason.encode("ascii")
    assert len(payload) <= _MOST_CONTROL_BYTES
    return b"\x88%c%b" % (len(payload), payload)


def pong_frame(payload: bytes) -> bytes:
    """`payload` is a ping's: at most 125 bytes."""
    return b"\x8a%c%b" % (len(payload), payload)


def is_lone_pong(data: bytes) -> bool:
    """Whether `data` is one whole pong of a client and nothing else."""
    return len(data) >= 6 and data[0] == 0x8A and data[1] & 0x80 != 0 and len(data) == 6 + (data[1] & 0x7F)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole_answer(
    status: int, headers: Iterable[tuple[str, str]], body: bytes, *, media_type: str = "application/json"
) -> bytes:
    """An HTTP answer after which the connection ends. `headers` are the caller's own, in Latin-1."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {media_type}",
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return _head(lines, headers) + body


def event_stream_head(headers: Iterable[tuple[str, str]], *, chunked: bool, breaks_off: bool = False) -> bytes:
    """The head of a 200 answer that is a stream of events. `headers` are the caller's own, in Latin-1.

    `breaks_off`: the client must notice where the last chunk is lacking. Node's `fetch` (undici) takes that for the end
    after ``Connection: close``. So the connection is closed all the same, and said to be good for no other request.
    """
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/event-stream; charset=utf-8",
        "Cache-Control: no-store",
        "X-Accel-Buffering: no",
        *(("Connection: keep-alive", "Keep-Alive: timeout=0") if breaks_off else ("Connection: close",)),
    ]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return _head(lines, headers)


def _head(lines: list[str], headers: Iterable[tuple[str, str]]) -> bytes:
    own = {line.partition(":")[0].lower() for line in lines} | {"content-length", "transfer-encoding"}
    for name, value in headers:
        if any(character in name + value for character in "\r\n\0"):
            raise ValueError("a header holds a line break")
        if name.lower() not in own:
            lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
