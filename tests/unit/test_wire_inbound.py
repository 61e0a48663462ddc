"""What a client's bytes mean, wherever they are cut."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from api.close_codes import CloseCode
from api.inbound import Answer, Cancel, Closed, FrameBudget, Inbound, Misbehaved, Said, Text


def spoken(*texts: str) -> bytes:
    client = Connection(ConnectionType.CLIENT)
    return b"".join(client.send(TextMessage(data=text)) for text in texts)


def heard(data: bytes, cuts: list[int] | None = None, now_s: float = 100.0) -> list[Said]:
    inbound = Inbound(max_bytes=1000, max_frames_per_s=20)
    said: list[Said] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or ()), len(data)]
    for start, end in itertools.pairwise(edges):
        said += inbound.feed(data[start:end], now_s)
        if said and isinstance(said[-1], Misbehaved | Closed):
            break
    return said


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_frames_mean_the_same_however_they_are_cut(cuts: list[int]) -> None:
    data = spoken('{"type":"ping"}', '{"type":"cancel"}', "nonsense, é \U0001f600", '{"type":"x"}')
    said = heard(data, cuts)
    assert [type(one) for one in said] == [Answer, Cancel, Answer, Answer]


@given(st.binary(max_size=400))
def test_no_bytes_at_all_do_harm(data: bytes) -> None:
    for one in heard(data):
        assert isinstance(one, Answer | Cancel | Misbehaved | Closed)


@given(st.text(max_size=200))
def test_no_text_at_all_does_harm(text: str) -> None:
    (said,) = heard(spoken(text))
    assert isinstance(said, Answer | Cancel)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '"ping"',
        '{"type":"ping"',
        '{"type":"ping","type":"cancel"}',
        '{"type":"cancel","messageID":"0198c2a4-6f3e-7c11-9b1a-5d0c3c1f2e77"}',
        '{"type":"cancel","messageId":"0198c2a4"}',
        '{"type":"cancel","messageId":NaN}',
        '{"type":"cancel","messageId":[[[[[]]]]]}',
        '{"type":"ping\\u0000"}',
        '{"type":"\\ud800"}',
        '{"type":"cancel"' + " " * 1000 + "}",
    ],
)
def test_what_is_not_quite_a_frame_is_answered_with_an_error_and_does_nothing(text: str) -> None:
    """A key twice, a field that nobody knows, a wrong id: a cancel of something else is not what was meant."""
    inbound = Inbound(max_bytes=64 * 1024, max_frames_per_s=20)
    (said,) = inbound.feed(spoken(text), 100.0)
    assert isinstance(said, Answer)
    assert b'"code":"bad_frame"' in said.data


def test_a_budget_is_a_seconds() -> None:
    budget = FrameBudget(3)
    assert [budget.spend(10.0 + n / 10) for n in range(5)] == [True, True, True, False, False]
    assert budget.spend(11.0)


@pytest.mark.parametrize(("chars", "is_flood"), [("x" * 1000, False), ("x" * 1001, True), ("é" * 501, True)])
def test_a_messages_size_is_counted_in_bytes(chars: str, is_flood: bool) -> None:
    (said,) = heard(spoken(chars))
    assert (said == Misbehaved(CloseCode.FLOOD)) is is_flood


def test_a_message_in_the_smallest_pieces_takes_no_more_memory_than_it_has_bytes() -> None:
    """Two bytes at a time, and never finished; kept as strings they would take thirty times as much."""
    inbound = Inbound(max_bytes=64 * 1024, max_frames_per_s=20)
    assert list(inbound.feed(b"\x01\xfe" + (60_000).to_bytes(2, "big") + b"\0\0\0\0", 0.0)) == []
    gc.collect()
    tracemalloc.start()
    for number in range(30_000):
        assert list(inbound.feed(b"xy", number / 1000)) == []
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 3 * 60_000


def test_more_pieces_a_second_than_a_network_makes_are_a_flood() -> None:
    inbound = Inbound(max_bytes=64 * 1024, max_frames_per_s=20)
    opening = b"\x01\xfe" + (60_000).to_bytes(2, "big") + b"\0\0\0\0"
    said = [one for piece in [opening, *[b"x"] * 5000] for one in inbound.feed(piece, 7.0)]
    assert Misbehaved(CloseCode.FLOOD) in said
    inbound = Inbound(max_bytes=64 * 1024, max_frames_per_s=20, meaning=Text)
    for _ in range(20):
        frame = b"\x81\xfe" + (64_000).to_bytes(2, "big") + b"\0\0\0\0" + b"x" * 64_000
        said = [one for at in range(0, len(frame), 1460) for one in inbound.feed(frame[at : at + 1460], 7.0)]
        assert said == [Text("x" * 64_000)]


def test_a_large_message_counts_as_many() -> None:
    """It is read on the loop that serves all sockets: of the largest, one a second."""

    def said(megabytes: int) -> list[Said]:
        inbound = Inbound(max_bytes=1024 * 1024, max_frames_per_s=20, meaning=lambda text: Text("read"))
        frame = b"\x81\xff" + (1_000_000).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 1_000_000
        return [one for _ in range(megabytes) for one in inbound.feed(frame, 7.0)]

    assert said(1) == [Text("read")]
    assert said(2) == [Text("read"), Misbehaved(CloseCode.FLOOD)]


def test_after_a_flood_nothing_is_heard() -> None:
    said = heard(spoken(*['{"type":"cancel"}'] * 30))
    assert said == [Cancel(None)] * 20 + [Misbehaved(CloseCode.FLOOD)]


def test_a_close_is_answered_with_its_code() -> None:
    client = Connection(ConnectionType.CLIENT)
    assert heard(client.send(CloseConnection(code=4321, reason="bye"))) == [Closed(b"\x88\x02\x10\xe1")]
    assert heard(b"\x88\x80abcd") == [Closed(b"\x88\x00")]
