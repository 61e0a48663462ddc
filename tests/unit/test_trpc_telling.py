"""What a tRPC client is told of a message: the seven events, ended by the first `finalized`, and always the right text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.close_codes import CloseCode
from api.protocols.trpc.envelopes import Envelope, Transformer
from api.protocols.trpc.telling import SocketTelling, StreamTelling
from api.wire import Frame
from shared import events
from shared.event_log import Entry
from shared.events import Delta, EventId, Finalized, Snapshot, Status, StreamEvent
from shared.transcript import Transcript, fold
from tests.strategies import MESSAGE_ID, LegalLog, legal_logs

SEVEN = {"status", "delta", "tool_start", "tool_result", "complete", "error", "finalized"}
PATH = "chat.streamResponse"
TYPES = Path(__file__).parents[2] / "api" / "static" / "clients" / "trpc.d.ts"

Told = list[dict[str, Any]]


def frame_of(event: StreamEvent) -> Frame:
    return Frame.of(Entry(EventId.parse(event.id), events.encode(event)))


def told(log: Iterable[StreamEvent], transformer: Transformer | None = None) -> Told:
    """The frames' results of one subscription to these events."""
    telling = SocketTelling(Envelope(7, transformer or Transformer(None)), PATH)
    results: Told = []
    for event in log:
        if telling.is_over():
            break
        for unit in telling.tell(frame_of(event)):
            frame = json.loads(unit)
            assert list(frame) == ["id", "result"]
            assert frame["id"] == 7
            results.append(frame["result"])
    return results


def shown(results: Sequence[dict[str, Any]], text: str = "") -> tuple[str, str | None]:
    """The text and the final status that an old client shows, which had shown `text`."""
    status = None
    for result in results:
        event = result["data"]["data"]
        match event["type"]:
            case "delta":
                text += event["content"]
            case "complete":
                text = event["finalContent"]
            case "error":
                text = event.get("finalContent", text)
            case "finalized":
                status = event["status"]
    return text, status


def until_finalized(log: Sequence[StreamEvent]) -> list[StreamEvent]:
    end = next((index for index, event in enumerate(log) if isinstance(event, Finalized)), len(log))
    return list(log[: end + 1])


@given(legal_logs())
def test_old_clients_show_the_text_of_the_fold(log: LegalLog) -> None:
    """Of every legal log, up to the first `finalized`; only the seven types, each under its event's id, in order."""
    results = told(log.events)
    subject = until_finalized(log.events)
    last = subject[-1] if subject else None
    status = last.status if isinstance(last, Finalized) else None
    expected = "error" if status == "cancelled" else status
    assert shown(results) == (fold(Transcript(), subject).content, expected)
    ids = [EventId.parse(result["id"]) for result in results]
    assert ids == sorted(ids)
    for result in results:
        assert result["type"] == "data"
        assert result["id"] == result["data"]["id"] == result["data"]["data"]["id"]
        assert result["data"]["data"]["type"] in SEVEN
        assert result["data"]["data"].get("status") not in ("cancelled", "pending")


@given(legal_logs(), st.data())
def test_who_resumes_after_any_event_shows_the_same(log: LegalLog, data: st.DataObject) -> None:
    """Also between the two events that tell of a cancellation."""
    results = told(log.events)
    if not results:
        return
    cut = data.draw(st.integers(0, len(results) - 1))
    had, position = results[: cut + 1], EventId.parse(results[cut]["id"])
    rest = told(event for event in until_finalized(log.events) if EventId.parse(event.id) > position)
    text, status = shown(had)
    resumed_text, resumed_status = shown(rest, text)
    assert (resumed_text, resumed_status or status) == shown(results)


def test_a_client_that_is_cut_off_within_a_cancellation_gets_all_of_it_again() -> None:
    """The `error` has the id before the end's, so that who has it alone is still owed the end; and keeps the text."""
    base = {"message_id": MESSAGE_ID, "ts": 1}
    log: list[StreamEvent] = [
        Status(id="1-0", status="thinking", **base),  # type: ignore[arg-type]
        Delta(id="1-1", content="Half", **base),  # type: ignore[arg-type]
        Finalized(id="1-2", status="cancelled", **base),  # type: ignore[arg-type]
    ]
    results = told(log)
    assert [(result["id"], result["data"]["data"]["type"]) for result in results[2:]] == [
        ("1-1", "error"),
        ("1-2", "finalized"),
    ]
    assert shown(results) == ("Half", "error")
    again = told(event for event in log if EventId.parse(event.id) > EventId.parse(results[2]["id"]))
    assert shown(again, "Half") == ("Half", "error")


@given(legal_logs())
def test_what_needs_no_change_is_passed_on_to_the_byte(log: LegalLog) -> None:
    for event in until_finalized(log.events):
        if isinstance(event, Snapshot) or (isinstance(event, Finalized) and event.status == "cancelled"):
            continue
        [unit] = SocketTelling(Envelope("a", Transformer(None)), PATH).tell(frame_of(event))
        assert events.encode(event) in unit


@given(legal_logs())
def test_superjson_wraps_the_values_and_nothing_else(log: LegalLog) -> None:
    plain, wrapped = told(log.events), told(log.events, Transformer("superjson"))
    assert [{**result, "data": {"json": result["data"]}} for result in plain] == wrapped


@given(legal_logs())
def test_an_event_stream_tells_what_a_socket_tells(log: LegalLog) -> None:
    telling = StreamTelling(Transformer(None), PATH, reconnect_after_ms=1)
    blocks: list[tuple[str, Any]] = []
    for event in until_finalized(log.events):
        for unit in telling.tell(frame_of(event)):
            data, event_id, *ends = unit.decode().split("\n")
            assert ends == ["", ""]
            blocks.append((event_id.removeprefix("id: "), json.loads(data.removeprefix("data: "))))
    assert blocks == [(result["id"], result["data"]["data"]) for result in told(log.events)]


@pytest.mark.parametrize("code", CloseCode)
def test_only_an_end_that_is_one_tells_a_stream_s_client_to_stay_away(code: CloseCode) -> None:
    """An EventSource that is not told so comes back, after its last event."""
    units = StreamTelling(Transformer(None), PATH, reconnect_after_ms=1).end(code)
    names = [re.match(rb"event: ([a-z-]+)\n", unit)[1].decode() for unit in units]  # type: ignore[index]
    expected = {CloseCode.FINISHED: ["return"], CloseCode.WITHDRAWN: ["serialized-error"]}
    assert names == expected.get(code, [])


def test_an_access_that_is_withdrawn_ends_one_subscription_as_forbidden() -> None:
    [unit] = SocketTelling(Envelope(3, Transformer(None)), PATH).end(CloseCode.WITHDRAWN)
    frame = json.loads(unit)
    assert frame["id"] == 3
    assert frame["error"]["code"] == -32003
    assert frame["error"]["data"] == {"code": "FORBIDDEN", "httpStatus": 403, "path": PATH}


# --- the published types ----------------------------------------------------------------------------------------


def test_the_published_types_have_the_fields_of_the_events() -> None:
    """Every event but `snapshot`, its fields, and which of them may be missing."""
    source = TYPES.read_text()
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(StreamEvent)}
    del kinds["snapshot"]
    found = dict(
        re.findall(r"export interface \w+Event extends BaseEvent \{\n  type: \"(\w+)\";\n(.*?)\n\}", source, re.DOTALL)
    )
    base = set(re.findall(r"^  (\w+): ", re.search(r"interface BaseEvent \{\n(.*?)\n\}", source, re.DOTALL)[1], re.M))  # type: ignore[index]
    assert set(found) == set(kinds) == SEVEN
    for tag, kind in kinds.items():
        declared = {name: bool(optional) for name, optional in re.findall(r"^  (\w+)(\??):", found[tag], re.M)}
        fields = {
            field.encode_name: not field.required
            for field in msgspec.structs.fields(kind)
            if field.encode_name not in base
        }
        declared.pop("arguments", None), fields.pop("arguments", None)  # of any type, which TypeScript calls optional
        assert declared == fields, tag
