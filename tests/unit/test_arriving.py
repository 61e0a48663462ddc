"""Whether a request has come whole is known however its bytes come."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.arriving import HEAD_BYTES, Arriving, Progress

_MOST: Final = 1000
_HEAD: Final = b"POST / HTTP/1.1\r\nHost: x\r\n"


def arriving() -> Arriving:
    return Arriving(most_body_bytes=_MOST)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """With a body of a length, in chunks, or none."""
    body = draw(st.binary(max_size=200))
    kind = draw(st.sampled_from(["length", "chunks", "none"]))
    if kind == "length":
        return _HEAD + b"content-LENGTH:\t%d \r\n\r\n" % len(body) + body
    if kind == "none":
        return _HEAD + b"\r\n"
    chunks, rest = b"", body
    while rest:
        size = draw(st.integers(1, len(rest)))
        mark = draw(st.sampled_from([b"", b";a=b", b' ; q="x"']))
        chunks += b"%x%b\r\n%b\r\n" % (size, mark, rest[:size])
        rest = rest[size:]
    trailers = draw(st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]))
    return _HEAD + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"


@given(requests(), st.lists(st.integers(0, 600), max_size=8), st.binary(max_size=20))
def test_a_request_is_whole_with_its_last_byte_and_not_before(request: bytes, cuts: list[int], behind: bytes) -> None:
    found = arriving()
    marks = sorted({cut for cut in cuts if cut < len(request)} | {len(request) - 1})
    for start, end in zip([0, *marks], marks, strict=False):
        assert found.feed(request[start:end]) in (Progress.HEAD, Progress.BODY)
    assert found.feed(request[-1:] + behind) is Progress.WHOLE
    assert bytes(found.data) == request + behind


@given(st.binary(max_size=300), st.lists(st.binary(max_size=30), max_size=5))
@example(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", [b"\r\n", b"\0", b"5\r", b"x"])
def test_no_bytes_at_all_do_harm(data: bytes, more: list[bytes]) -> None:
    found = arriving()
    for piece in (data, *more):
        found.feed(piece)
    assert bytes(found.data) == data + b"".join(more)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 1001\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ],
)
def test_a_body_that_will_be_refused_is_not_waited_for(framing: bytes) -> None:
    """Too large, or framed in a way that two servers could read differently."""
    found = arriving()
    assert found.feed(_HEAD + framing + b"Expect: 100-continue\r\n\r\n") is Progress.WHOLE
    assert not found.wants_continue


def test_chunks_without_an_end_are_waited_for_up_to_the_limit() -> None:
    found = arriving()
    assert found.feed(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n") is Progress.BODY
    fed = 0
    while found.feed(b"64\r\n" + b"x" * 100 + b"\r\n") is Progress.BODY:
        fed += 100
    assert _MOST < fed < 10 * _MOST


@pytest.mark.parametrize("size", [1, 1000, HEAD_BYTES])
def test_a_head_without_an_end_is_told(size: int) -> None:
    found = arriving()
    for _ in range(0, HEAD_BYTES - size, size):
        assert found.feed(b"x" * size) is Progress.HEAD
    assert found.feed(b"x" * size) is Progress.ENDLESS_HEAD
