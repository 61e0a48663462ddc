"""What is heard on a socket: the same as RFC 6455 says, whatever is sent and wherever the network cuts it."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from api import wire
from api.close_codes import CloseCode
from api.inbound import Answer, Closed, Inbound, Misbehaved, Text
from tests.fuzz.frames import CLOSE, CONTINUATION, TEXT, Frame, Heard, conversations, read
from tests.fuzzing import cases

_PLENTY = 1_000_000


def heard(data: bytes, cuts: list[int]) -> list[Heard]:
    """By our own side of a socket, in the oracle's words. It says nothing of a pong."""
    inbound = Inbound(max_bytes=_PLENTY, max_frames_per_s=_PLENTY, meaning=Text)
    found: list[Heard] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        for said in inbound.feed(data[start:end], 100.0):
            match said:
                case Text(text):
                    found.append(("binary", None) if text is None else ("text", text))
                case Answer(answer):
                    assert answer == wire.pong_frame(answer[2:])
                    found.append(("ping", answer[2:]))
                case Misbehaved(code):
                    found.append(("not text" if code is CloseCode.INVALID_TEXT else "not protocol", None))
                    return found
                case Closed(answer):
                    found.append(("close", int.from_bytes(answer[2:4], "big") if len(answer) > 2 else None))
                    return found
                case _:
                    raise AssertionError(said)
    return found


def by_wsproto(data: bytes) -> list[Heard]:
    """By the library alone, all at once."""
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(data)
    found: list[Heard] = []
    parts: list[str] = []
    for event in connection.events():
        match event:
            case TextMessage():
                parts.append(event.data)
                if event.message_finished:
                    found.append(("text", "".join(parts)))
                    parts.clear()
            case BytesMessage():
                if event.message_finished:
                    found.append(("binary", None))
            case Ping():
                found.append(("ping", bytes(event.payload)))
            case Pong() | CloseConnection():
                pass
    return found


@cases(300)
@given(conversations, st.lists(st.integers(0, 2_000), max_size=12))
@example([Frame(TEXT, b"\xf0\x9f", fin=False), Frame(CONTINUATION, b"\x98\x80")], [3])
@example([Frame(TEXT, b"\xed\xa0\x80")], [])
@example([Frame(TEXT, b"\xed\xa0", fin=False)], [])
@example([Frame(TEXT, b"x" * 126, length="64 bits")], [])
@example([Frame(CLOSE, (1005).to_bytes(2, "big"))], [1])
@example([Frame(CLOSE, b"\x03")], [])
def test_what_is_heard_is_what_the_rfc_says_wherever_it_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(frame.encode() for frame in frames)
    expected = [one for one in read(frames) if one[0] != "pong"]
    assert heard(data, cuts) == expected
    assert by_wsproto(data) == [one for one in expected if one[0] in ("text", "binary", "ping")]


@cases(200)
@given(conversations, st.integers(0, 10_000), st.lists(st.integers(0, 2_000), max_size=6), st.binary(max_size=40))
def test_what_breaks_off_or_is_no_frame_at_all_changes_nothing_of_what_was_heard_before(
    frames: list[Frame], end: int, cuts: list[int], noise: bytes
) -> None:
    """A cut conversation is heard as far as its whole frames go; noise behind it is heard as something, or as its end."""
    data = b"".join(frame.encode() for frame in frames)
    expected = [one for one in read(frames) if one[0] != "pong"]
    part = heard(data[: end % (len(data) + 1)], cuts)
    assert part[:-1] == expected[: max(0, len(part) - 1)]
    assert not part or part[-1] in expected or part[-1][0].startswith("not ")
    assert heard(data + noise, cuts)[: len(expected)] == expected
