"""The bytes that readers get."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from api import wire
from shared.events import EventId

IDS = st.builds(EventId, st.integers(1, 9_999_999_999), st.integers(0, 9_999_999_999))


@given(IDS, IDS)
def test_packed_ids_keep_their_order_and_come_back(a: EventId, b: EventId) -> None:
    assert (wire.pack(a) < wire.pack(b)) == (a < b)
    assert wire.unpack(wire.pack(a)) == a


@given(IDS)
def test_the_next_id_of_an_attempt_is_one_more(a: EventId) -> None:
    assert wire.pack(a.next) == wire.pack(a) + 1
    assert wire.opens_attempt(wire.pack(a)) == (a.n == 0)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_a_text_frame_is_one_message_of_any_size(size: int) -> None:
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(wire.text_frame(b"x" * size))
    (message,) = connection.events()
    assert message == TextMessage(data="x" * size, frame_finished=True, message_finished=True)


def test_an_event_is_a_block_of_an_event_stream_in_one_chunk() -> None:
    frame = wire.Frame("delta", wire.pack(EventId(1, 7)), b'{"a":1}')
    assert frame.sse() == b'id: 1-7\ndata: {"a":1}\n\n'
    assert frame.chunk() == b'17\r\nid: 1-7\ndata: {"a":1}\n\n\r\n'


def test_the_bytes_of_a_frame_are_built_once() -> None:
    frame = wire.Frame("delta", wire.pack(EventId(1, 7)), b'{"a":1}')
    assert frame.text() is frame.text()
    assert frame.chunk() is frame.chunk()


@pytest.mark.parametrize(
    ("data", "is_pong"),
    [
        (b"\x8a\x80abcd", True),
        (b"\x8a\x82abcdxy", True),
        (b"\x8a\x82abcdx", False),
        (b"\x8a\x80abcd\x8a\x80abcd", False),
        (b"\x8a\x00", False),
        (b"\x81\x80abcd", False),
        (b"", False),
    ],
)
def test_a_lone_pong_is_told_from_anything_else(data: bytes, is_pong: bool) -> None:
    assert wire.is_lone_pong(data) is is_pong


def test_headers_cannot_break_out_of_the_head() -> None:
    for header in (("X-Evil", "a\r\nb: c"), ("X\nEvil", "a"), ("X", "a\0")):
        with pytest.raises(ValueError, match="line break"):
            wire.event_stream_head([header], chunked=True)


def test_headers_of_the_caller_do_not_replace_the_streams_own() -> None:
    head = wire.event_stream_head([("content-length", "0"), ("Cache-Control", "public"), ("X-A", "b")], chunked=False)
    assert head.endswith(b"\r\nConnection: close\r\nX-A: b\r\n\r\n")
    assert b"public" not in head
    assert b"ength" not in head


def test_a_stream_that_may_break_off_is_not_announced_to_end_with_its_connection() -> None:
    """Node's `fetch` would take the break for the end; nor is another request to come on that connection."""
    plain, breaking = (wire.event_stream_head([], chunked=True, breaks_off=breaks) for breaks in (False, True))
    assert b"\r\nConnection: close\r\n" in plain
    assert b"close" not in breaking
    assert b"\r\nKeep-Alive: timeout=0\r\n" in breaking
