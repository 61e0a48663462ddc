"""What `chatrelay tail` makes of what it hears: the channels are public, and it writes on whatever is said there."""

from __future__ import annotations

import io
import uuid

import pytest

from ops.tail_lines import Plain

ID = uuid.UUID(int=7)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"odd","timing":"soon"}',
        b'{"type":"odd","timing":{"firstTokenMs":null,"totalMs":[]}}',
        b'{"type":"odd","ts":1000000000000000000000}',
        b'{"type":"odd","ts":-1000000000000000}',
        b'{"type":"odd","status":{"a":1},"code":["b"],"messageId":3}',
    ],
)
def test_a_line_that_is_none_of_ours_is_written_as_far_as_it_goes(payload: bytes) -> None:
    """On one line, so that those after it are shown."""
    out = io.StringIO()
    printer = Plain(out, color=False, inline=False)
    printer.line(payload)
    printer.event(ID, payload, text=True)
    printer.flush()
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["odd", "odd"]


@pytest.mark.parametrize("payload", [b'["1-0"]', b'{"id":"1-0"', b'{"id":"1-0","content":3}'])
def test_an_event_that_cannot_be_read_ends_nothing(payload: bytes) -> None:
    out = io.StringIO()
    printer = Plain(out, color=False, inline=False)
    printer.event(ID, payload, text=True)
    printer.delta(ID, payload)
    printer.end_text(ID)
    printer.flush()
    assert out.getvalue().endswith("\n")
