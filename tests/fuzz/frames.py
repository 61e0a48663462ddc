"""WebSocket frames, valid and not, and a reader of them written from RFC 6455's text alone, as plain as can be."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
Heard: TypeAlias = tuple[str, object]
"""``("text", str)``, ``("binary", None)``, ``("ping", bytes)``, ``("pong", None)``, ``("close", code or None)``, and what
ends the connection: ``("not text", None)``, ``("not protocol", None)``."""


class Frame(NamedTuple):
    """One frame as a client sends it; each field may be wrong."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    mask: bytes | None = b"\x01\x02\x03\x04"
    length: str = "shortest"

    def __repr__(self) -> str:
        return (
            f"Frame({self.opcode}, {self.payload[:40]!r}… {len(self.payload)}, {self.fin}, {self.rsv}, {self.length!r})"
        )

    def encode(self) -> bytes:
        size = len(self.payload)
        masked = 0x80 if self.mask is not None else 0
        head = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        if self.length == "64 bits" or size > 0xFFFF:
            head += bytes([masked | 127]) + size.to_bytes(8, "big")
        elif self.length == "16 bits" or size > 125:
            head += bytes([masked | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([masked | size])
        if self.mask is None:
            return head + self.payload
        over = (self.mask * (size // 4 + 1))[:size]
        masked_payload = int.from_bytes(self.payload, "big") ^ int.from_bytes(over, "big")
        return head + self.mask + masked_payload.to_bytes(size, "big")


def read(frames: list[Frame]) -> list[Heard]:
    """What a server hears, up to what ends the connection."""
    heard: list[Heard] = []
    message: tuple[int, bytes] | None = None
    for frame in frames:
        problem = _problem(frame, is_inside=message is not None)
        if problem is not None:
            return [*heard, (problem, None)]
        if frame.opcode == PING:
            heard.append(("ping", frame.payload))
        elif frame.opcode == PONG:
            heard.append(("pong", None))
        elif frame.opcode == CLOSE:
            code = int.from_bytes(frame.payload[:2], "big") if frame.payload else None
            return [*heard, ("close", code)]
        else:
            kind, before = (frame.opcode, b"") if message is None else message
            message = kind, before + frame.payload
            if kind == TEXT and not _may_be_text(message[1], whole=frame.fin):
                return [*heard, ("not text", None)]
            if frame.fin:
                heard.append(("text", message[1].decode()) if kind == TEXT else ("binary", None))
                message = None
    return heard


def _problem(frame: Frame, *, is_inside: bool) -> str | None:
    """What RFC 6455, sections 5.2 to 5.5 and 7.4, has against a frame of a client's."""
    size = len(frame.payload)
    if frame.rsv or frame.opcode in (*range(3, 8), *range(11, 16)) or frame.mask is None:
        return "not protocol"
    if (frame.length == "16 bits" and size < 126) or (frame.length == "64 bits" and size < 0x10000):
        return "not protocol"
    if frame.opcode >= 8 and (not frame.fin or size > 125):
        return "not protocol"
    if (frame.opcode in (TEXT, BINARY) and is_inside) or (frame.opcode == CONTINUATION and not is_inside):
        return "not protocol"
    if frame.opcode == CLOSE and size:
        code = int.from_bytes(frame.payload[:2], "big")
        if size == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1013 or 3000 <= code <= 4999):
            return "not protocol"
        if not _may_be_text(frame.payload[2:], whole=True):
            return "not text"
    return None


def _may_be_text(payload: bytes, *, whole: bool) -> bool:
    """Whether it is UTF-8, or as far as one can tell the beginning of some."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(payload, whole)
    except UnicodeDecodeError:
        return False
    return True


_any_text = st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass"))
_payloads = st.one_of(
    _any_text,
    st.binary(max_size=30),
    st.sampled_from([b'{"type":"ping"}', b'{"type":"cancel"}', b"", b"x" * 125, b"x" * 126, b"\xf0\x9f\x98\x80" * 40]),
    st.binary(min_size=126, max_size=140),
    st.just(b"y" * 0x10001),
)
_CODES = [999, 1000, 1001, 1004, 1005, 1006, 1007, 1011, 1013, 1015, 1016, 2999, 3000, 4999, 5000, 65535]
_closings = st.one_of(
    st.binary(max_size=3),
    st.builds(lambda code, reason: code.to_bytes(2, "big") + reason, st.sampled_from(_CODES), _any_text | st.just(b"")),
)
_always, _never, _shortest = st.just(True), st.just(0), st.just("shortest")
_masks: st.SearchStrategy[bytes | None] = st.binary(min_size=4, max_size=4)


def _frames(
    opcodes: Sequence[int],
    payloads: st.SearchStrategy[bytes],
    *,
    fins: st.SearchStrategy[bool] = _always,
    rsvs: st.SearchStrategy[int] = _never,
    masks: st.SearchStrategy[bytes | None] = _masks,
    lengths: st.SearchStrategy[str] = _shortest,
) -> st.SearchStrategy[Frame]:
    return st.tuples(st.sampled_from(opcodes), payloads, fins, rsvs, masks, lengths).map(Frame._make)


_sound = st.one_of(
    _frames([TEXT, BINARY, CONTINUATION], _payloads, fins=st.booleans()),
    _frames([TEXT, CONTINUATION], st.text(max_size=9).map(str.encode), fins=st.booleans()),
    _frames([PING, PONG], st.binary(max_size=125)),
)
_odd = st.one_of(
    _frames([CLOSE], _closings),
    _frames(
        range(16),
        _payloads,
        fins=st.booleans(),
        rsvs=st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
        masks=st.none() | _masks,
        lengths=st.sampled_from(["shortest", "shortest", "16 bits", "64 bits"]),
    ),
)
conversations = st.builds(
    lambda sound, odd: [*sound, *odd], st.lists(_sound, max_size=8), st.lists(_odd, max_size=2)
) | st.lists(_sound | _odd, max_size=10)
"""Mostly what a client may send, and something that it may not."""
