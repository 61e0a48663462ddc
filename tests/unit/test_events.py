"""The codec of the StreamEvent union, and the splitting of long text."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared import events
from shared.events import MAX_DELTA_BYTES, Delta, EventId, Finalized, Status, StreamEvent
from tests.strategies import any_event, json_values

_DELTA = Delta(id="3-14", message_id="m", ts=7, content="é")


@given(any_event)
def test_every_event_decodes_to_what_was_encoded(event: StreamEvent) -> None:
    assert events.decode(events.encode(event)) == event
    assert events.decode(events.encode(event).decode()) == event


@given(any_event)
def test_the_same_event_always_gives_the_same_bytes(event: StreamEvent) -> None:
    """A repeated append is told by its bytes."""
    again = events.decode(events.encode(event))
    assert events.encode(again) == events.encode(event)


@given(any_event)
def test_an_encoded_event_is_one_line_that_begins_with_type_and_id(event: StreamEvent) -> None:
    payload = events.encode(event)
    assert b"\n" not in payload
    kind = msgspec.json.decode(payload)["type"]
    assert payload.startswith(f'{{"type":"{kind}","id":"{event.id}","messageId":"'.encode())


@given(any_event)
def test_peek_reads_from_the_bytes_what_decode_would(event: StreamEvent) -> None:
    kind, id_ = events.peek(events.encode(event))
    assert kind == msgspec.json.decode(events.encode(event))["type"]
    assert id_ == EventId.parse(event.id)


@given(any_event)
def test_the_wire_is_camel_case(event: StreamEvent) -> None:
    fields = set(msgspec.json.decode(events.encode(event)))
    assert {"type", "id", "messageId", "ts"} <= fields
    assert not any("_" in field for field in fields)


@given(any_event, json_values)
def test_a_field_that_nobody_knows_is_passed_over(event: StreamEvent, value: object) -> None:
    wire = msgspec.json.decode(events.encode(event))
    assert events.decode(msgspec.json.encode({**wire, "ofALaterVersion": value, "projectId": "p"})) == event


def test_optional_fields_that_are_not_there_are_not_sent() -> None:
    assert events.encode(_DELTA) == '{"type":"delta","id":"3-14","messageId":"m","ts":7,"content":"é"}'.encode()
    finalized = Finalized(id="1-0", message_id="m", ts=7, status="cancelled")
    assert events.encode(finalized) == b'{"type":"finalized","id":"1-0","messageId":"m","ts":7,"status":"cancelled"}'


def test_a_merged_delta_tells_where_it_begins_under_the_name_from() -> None:
    merged = msgspec.structs.replace(_DELTA, from_="3-9")
    assert msgspec.json.decode(events.encode(merged))["from"] == "3-9"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b'{"type":"delta"}',
        b'{"type":"done","id":"1-0","messageId":"m","ts":1}',
        b'{"type":"status","id":"1-0","messageId":"m","ts":1,"status":"sleeping"}',
        b'{"type":"delta","id":"1-0","messageId":"m","ts":"1","content":"a"}',
        b'{"type":"delta","id":"1-0","messageId":"m","ts":1,"content":null}',
    ],
)
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        events.decode(payload)


@pytest.mark.parametrize(
    "payload",
    [b"", b'{"id":"1-0","type":"delta"}', b'{"type": "delta","id":"1-0"}', b'{"type":"delta","id":"1"}', b"\x00"],
)
def test_peek_refuses_bytes_that_encode_did_not_make(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not an encoded event"):
        events.peek(payload)


def test_only_a_finalized_that_is_not_building_ends_a_stream() -> None:
    for status in ("success", "error", "cancelled"):
        event = Finalized(id="1-0", message_id="m", ts=1, status=status)
        assert events.is_terminal(event)
        assert events.is_terminal_payload("finalized", events.encode(event))
    building = Finalized(id="1-0", message_id="m", ts=1, status="building")
    assert not events.is_terminal(building)
    assert not events.is_terminal_payload("finalized", events.encode(building))
    assert not events.is_terminal(_DELTA)
    assert not events.is_terminal_payload("delta", events.encode(_DELTA))


# --- long text --------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


@given(_TEXT, st.integers(4, 60))
@example("😀" * 10, 4)
@example("aé€😀" * 9, 5)
def test_split_text_joins_back_and_never_cuts_a_character(text: str, max_bytes: int) -> None:
    pieces = list(events.split_text(text, max_bytes))
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= max_bytes for piece in pieces)


@given(_TEXT, st.integers(4, 60))
def test_split_text_makes_no_more_pieces_than_it_must(text: str, max_bytes: int) -> None:
    """A piece takes the next character in if it has the room."""
    pieces = list(events.split_text(text, max_bytes))
    for piece, following in itertools.pairwise(pieces):
        assert len(piece.encode()) + len(following[0].encode()) > max_bytes


def test_a_long_text_is_split_at_8_kib() -> None:
    text = "é" * 100_000
    pieces = list(events.split_text(text))
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= MAX_DELTA_BYTES == 8192


def test_empty_text_makes_no_delta() -> None:
    assert list(events.split_text("")) == []


# --- arguments --------------------------------------------------------------------------------------------------


@given(json_values)
def test_arguments_are_shown_as_the_json_that_the_model_wrote(value: object) -> None:
    assert events.shown_arguments(msgspec.json.encode(value).decode()) == value


@pytest.mark.parametrize(
    "raw",
    ["", "{", '{"a":', "not JSON", "[" * 5000, "[" * 900 + "]" * 900, '{"a":1,"a":2}', '{"a":"\\u0000"}'],
    ids=lambda raw: raw[:12] or "empty",
)
def test_arguments_that_are_not_accepted_are_shown_as_they_came(raw: str) -> None:
    assert events.shown_arguments(raw) == raw


def test_an_activity_is_one_of_three() -> None:
    assert events.decode(b'{"type":"status","id":"1-0","messageId":"m","ts":1,"status":"building"}') == Status(
        id="1-0", message_id="m", ts=1, status="building"
    )


def test_no_delta_is_large_as_json_even_where_every_character_is_escaped() -> None:
    """A payload of 16 KiB would escape the server's output buffer limit."""
    for text in ("\x01" * 50_000, '"\\' * 20_000, "\n" * 30_000, "é😀" * 9_000, "plain " * 5_000):
        pieces = list(events.split_for_deltas(text))
        assert "".join(pieces) == text
        assert max(len(msgspec.json.encode(piece)) for piece in pieces) < 15 * 1024
