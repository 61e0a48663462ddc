"""What clients of OpenAI's protocols are told of a message: whatever happens, they come to show its text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import catch_up
from api.close_codes import CloseCode
from api.protocols.openai import numbers, objects
from api.protocols.openai.numbers import Told
from api.protocols.openai.telling import ChunkTelling, ResponseTelling
from api.wire import Frame
from shared import event_log, events
from shared.event_log import Entry
from shared.events import (
    Complete,
    Delta,
    Error,
    EventId,
    Finalized,
    Snapshot,
    Status,
    StreamEvent,
    ToolCall,
    ToolResult,
    ToolStart,
)
from shared.lifecycle import MessageKind, MessageStatus, Role
from shared.records import Message
from shared.transcript import Transcript, fold
from tests.strategies import MESSAGE_ID, LegalLog, legal_logs

Json = dict[str, Any]

ROW = Message(
    id=UUID(MESSAGE_ID),
    project_id=UUID(int=1),
    role=Role.ASSISTANT,
    author=None,
    kind=MessageKind.STATUS,
    status=MessageStatus.PENDING,
    content="",
    error=None,
    attempt=0,
    job_id=None,
    tool_calls=[],
    model="scripted",
    usage=None,
    timing=None,
    reply_to=UUID(int=2),
    queue_number=1,
    created_at=datetime.fromtimestamp(1_763_800_000, UTC),
    updated_at=datetime.fromtimestamp(1_763_800_000, UTC),
)
BASE: Json = {"message_id": MESSAGE_ID, "ts": 1}


# --- a client -----------------------------------------------------------------------------------------------------


class Client:
    """Appends deltas, and takes what is done as it is done: as every client of the Responses protocol does."""

    def __init__(self) -> None:
        self.number = -1
        self.appended = ""
        """The deltas, one behind the other."""
        self.text = ""
        self.items: dict[int, Json] = {}
        self.response: Json | None = None
        self.had: list[Json] = []

    @property
    def is_done(self) -> bool:
        return self.response is not None

    def take(self, block: bytes) -> None:
        """One event; its rules are those that the SDKs hold a stream to."""
        event = parsed(block)
        assert event["sequence_number"] > self.number, "numbers rise"
        assert event["sequence_number"] <= numbers.LARGEST
        self.number = event["sequence_number"]
        self.had.append(event)
        index: int = event.get("output_index", -1)
        match event["type"]:
            case "response.output_item.added":
                assert index == len(self.items), "an index comes once, and in order"
                self.items[index] = event["item"]
            case "response.output_text.delta":
                assert index in self.items
                self.appended += event["delta"]
                self.text += event["delta"]
            case "response.output_text.done":
                self.text = event["text"]
            case "response.function_call_arguments.delta":
                self.items[index]["arguments"] += event["delta"]
            case "response.function_call_arguments.done":
                assert self.items[index]["arguments"] == event["arguments"]
            case "response.output_item.done":
                assert self.items[index]["id"] == event["item"]["id"]
                self.items[index] = event["item"]
            case "response.completed" | "response.failed" | "response.incomplete":
                self.response = event["response"]


def parsed(block: bytes) -> Json:
    name, data, *rest = block.decode().split("\n")
    assert rest == ["", ""]
    event: Json = json.loads(data.removeprefix("data: "))
    assert name == f"event: {event['type']}"
    return event


def frame_of(event: StreamEvent) -> Frame:
    return Frame.of(Entry(EventId.parse(event.id), events.encode(event)))


def entry_of(event: StreamEvent) -> Entry:
    return Entry(EventId.parse(event.id), events.encode(event))


def attempt_of(event: StreamEvent) -> int:
    return EventId.parse(event.id).attempt


def resumed(number: int, log: Sequence[StreamEvent], *, has_log: bool = True) -> ResponseTelling:
    """As the call makes it, of a message whose log is this."""
    if number < 0:
        return ResponseTelling(ROW)
    newest = max((attempt_of(event) for event in log), default=0)
    told = numbers.read(number)
    told = told._replace(line=numbers.attempt_of(told.line, newest))
    text = fold(Transcript(), (event for event in log if attempt_of(event) == told.line)).content
    known = has_log and len(text) >= told.chars
    shown = "" if not told.chars else text[: told.chars] if known else None
    return ResponseTelling(ROW, told=told, shown=shown)


def joined(log: Sequence[StreamEvent], *, compacted: bool) -> list[Frame]:
    """What the relay sends first to who joins behind this log: its newest attempt, merged or as one snapshot."""
    if not log:
        return []
    entries = [entry_of(event) for event in log if attempt_of(event) == attempt_of(log[-1])]
    shown = catch_up.compact(UUID(MESSAGE_ID), entries, EventId(0, 0)) if compacted else event_log.merge(entries)
    return [Frame.of(entry) for entry in shown]


def told_all(log: Iterable[StreamEvent], telling: ResponseTelling | None = None) -> list[bytes]:
    telling = telling or ResponseTelling(ROW)
    blocks = [*telling.begin()]
    for event in log:
        if telling.is_over():
            break
        blocks += telling.tell(frame_of(event))
    return blocks


def to_the_end(log: Sequence[StreamEvent]) -> list[StreamEvent]:
    """The log as far as its first end, where it has one."""
    ended = next((index for index, event in enumerate(log) if events.is_terminal(event)), len(log) - 1)
    return list(log[: ended + 1])


# --- the law --------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(legal_logs(), st.data())
def test_whatever_happens_a_client_comes_to_show_the_text_of_the_fold(log: LegalLog, data: st.DataObject) -> None:
    """It is cut off behind any event of ours or of its own, comes back to a process that knows nothing of it, is told
    snapshots in place of events; the message begins anew, its log is lost. No event comes twice, numbers rise, and where the
    log is there what was appended was a beginning of the text whenever it grew."""
    story = to_the_end(log.events)
    client = Client()
    telling = ResponseTelling(ROW)
    blocks = [*telling.begin()]
    at = 0
    has_log = data.draw(st.booleans(), label="the log stays")
    while True:
        cut = data.draw(st.none() | st.integers(0, len(blocks)), label="cut")
        for block in blocks if cut is None else blocks[:cut]:
            before = client.appended
            client.take(block)
            if has_log and client.appended != before:
                text = fold(Transcript(), story[:at]).content
                assert text.startswith(client.appended), "a character was lost, doubled or wrong"
        if client.is_done or (cut is None and at == len(story)):
            break
        if cut is not None:
            at = data.draw(st.integers(at, len(story)), label="comes back behind")
            telling = resumed(client.number, story[:at], has_log=has_log)
            blocks = [*telling.begin()]
            for frame in joined(story[:at], compacted=data.draw(st.booleans(), label="compacted")):
                if not telling.is_over():
                    blocks += telling.tell(frame)
            continue
        blocks = [*telling.tell(frame_of(story[at]))]
        at += 1
    if not events.is_terminal(story[-1]):
        return
    final = fold(Transcript(), story)
    assert client.response is not None
    assert client.text == final.content
    assert output_text(client.response) == final.content
    made = [call for call in final.tool_calls if call.state != "started"]
    assert [item["call_id"] for item in client.response["output"] if item["type"] == "function_call"] == [
        call.tool_call_id for call in made
    ]
    expected = {"success": {"completed"}, "cancelled": {"cancelled"}, "error": {"failed", "incomplete"}}
    assert client.response["status"] in expected[final.status]


def output_text(response: Json) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


@given(legal_logs(), st.data())
def test_an_event_has_one_number_and_one_content_whoever_is_told(log: LegalLog, data: st.DataObject) -> None:
    """Who joins an attempt late, merged or not, is told the same text up to the same numbers."""
    story = to_the_end(log.events)
    attempt = [event for event in story if attempt_of(event) == attempt_of(story[-1])]
    at = data.draw(st.integers(0, len(attempt)))
    first, second = Client(), Client()
    for block in told_all(attempt):
        first.take(block)
    telling = ResponseTelling(ROW)
    blocks = [*telling.begin()]
    frames = [*joined(attempt[:at], compacted=False), *map(frame_of, attempt[at:])]
    for frame in frames:
        blocks += telling.tell(frame)
    for block in blocks:
        second.take(block)

    def texts(client: Client) -> dict[int, str]:
        told, text = {}, ""
        for event in client.had:
            if event["type"] == "response.output_text.delta":
                text += event["delta"]
                told[event["sequence_number"]] = text
        return told

    one, other = texts(first), texts(second)
    assert all(one[number] == other[number] for number in one.keys() & other.keys())
    assert first.appended == second.appended

    def rest(client: Client) -> list[Json]:
        return [event for event in client.had if event["type"] != "response.output_text.delta"]

    assert rest(first) == rest(second)


@given(legal_logs(), st.data())
def test_a_final_row_tells_what_its_events_would_have_told(log: LegalLog, data: st.DataObject) -> None:
    """Behind any number: with the log of a message gone, the row alone says the rest."""
    if log.row is None or not events.is_terminal(log.events[-1]):
        return
    attempt = [event for event in log.events if attempt_of(event) == attempt_of(log.events[-1])]
    blocks = told_all(attempt, ResponseTelling(log.row))
    cut = data.draw(st.integers(0, len(blocks)))
    client = Client()
    for block in blocks[:cut]:
        client.take(block)
    told = numbers.read(client.number) if cut else numbers.NOTHING
    told = told._replace(line=numbers.attempt_of(told.line, log.row.attempt))
    telling = ResponseTelling(log.row, told=told, shown=log.row.content[: told.chars])
    for block in [*telling.begin(), *telling.tell_row(log.row)]:
        client.take(block)
    assert telling.is_over()
    assert client.response == json.loads(msgspec.json.encode(objects.of_row(log.row)))
    assert client.text == log.row.content


# --- numbers ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, numbers.MOST_STEPS), st.integers(0, numbers.MOST_CHARS), st.integers(0, 2**20))
def test_a_number_says_what_was_told(steps: int, chars: int, line: int) -> None:
    number = numbers.of_body(steps, chars, line)
    assert number <= numbers.LARGEST
    told = numbers.read(number)
    assert told == Told(numbers.OPENING_EVENTS, steps, chars, line % 16, 0)
    assert numbers.attempt_of(told.line, line) == line
    assert numbers.of_opening(numbers.OPENING_EVENTS - 1) < number < numbers.of_end(0)


@given(st.integers(0, numbers.LARGEST))
def test_every_number_says_something(number: int) -> None:
    told = numbers.read(number)
    assert 0 <= told.steps <= numbers.MOST_STEPS + 1
    assert 0 <= told.chars <= numbers.MOST_CHARS
    ResponseTelling(ROW, told=told, shown=None if told.chars else "").tell(
        frame_of(Status(id="1-0", status="thinking", **BASE))
    )


# --- stories ----------------------------------------------------------------------------------------------------------


def deltas(blocks: Iterable[bytes]) -> list[str]:
    told = map(parsed, blocks)
    return [event["delta"] for event in told if event["type"] == "response.output_text.delta"]


def begun_anew(second: str) -> list[StreamEvent]:
    """An answer whose worker died with text shown, in no stored round; the next one says `second`."""
    return [
        Status(id="1-0", status="thinking", **BASE),
        Delta(id="1-1", content="It was a dark", **BASE),
        Delta(id="1-2", content=" and st", **BASE),
        Snapshot(id="2-0", content="", status="pending", tool_calls=(), reason="attempt", **BASE),
        Status(id="2-1", status="thinking", **BASE),
        *(Delta(id=f"2-{n}", content=piece, **BASE) for n, piece in enumerate(pieces(second), 2)),
        Complete(id="2-90", final_content=second, **BASE),
        Finalized(id="2-91", status="success", **BASE),
    ]


def pieces(text: str, size: int = 4) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def test_an_answer_that_begins_anew_with_the_same_words_goes_on_where_it_was() -> None:
    """Nothing is told until the text is beyond what was shown; then its rest alone."""
    told = deltas(told_all(begun_anew("It was a dark and stormy night.")))
    assert told[:2] == ["It was a dark", " and st"]
    assert "".join(told) == "It was a dark and stormy night."


def test_an_answer_that_begins_anew_with_other_words_is_told_whole_at_its_end() -> None:
    blocks = told_all(begun_anew("It was a bright morning, and it stayed so."))
    assert deltas(blocks) == ["It was a dark", " and st"]
    *_, text_done, part_done, item_done, completed = map(parsed, blocks)
    assert text_done["text"] == part_done["part"]["text"] == "It was a bright morning, and it stayed so."
    assert item_done["item"]["content"][0]["text"] == text_done["text"]
    assert output_text(completed["response"]) == text_done["text"]


@pytest.mark.parametrize("second", ["It was a dark and stormy night.", "It was a bright morning, and it stayed so."])
@pytest.mark.parametrize("has_log", [True, False])
def test_who_comes_back_to_another_attempt_is_told_what_fits_to_what_was_shown(second: str, has_log: bool) -> None:
    """By the log, where it still has the attempt that was shown; without it the end tells the text."""
    log = begun_anew(second)
    client = Client()
    for block in told_all(log[:3]):
        client.take(block)
    for block in told_all([*log[3:]], resumed(client.number, log, has_log=has_log)):
        client.take(block)
    assert client.text == second
    whole = has_log and second.startswith("It was a dark and st")
    assert client.appended == (second if whole else "It was a dark and st")


@pytest.mark.parametrize("is_there", [True, False], ids=["still there", "lost"])
def test_who_comes_back_after_a_renewal_is_told_the_rest(is_there: bool) -> None:
    """Redis was emptied: the same worker goes on with all text so far, and no log of the attempt before is needed."""
    log: list[StreamEvent] = [
        Status(id="1-0", status="thinking", **BASE),
        Delta(id="1-1", content="Half", **BASE),
        Snapshot(id="2-0", content="Half and", status="pending", tool_calls=(), reason="restored", **BASE),
        Delta(id="2-1", content=" half.", **BASE),
        Complete(id="2-2", final_content="Half and half.", **BASE),
        Finalized(id="2-3", status="success", **BASE),
    ]
    client = Client()
    for block in told_all(log[:2]):
        client.take(block)
    for block in told_all(log[2:], resumed(client.number, log, has_log=is_there)):
        client.take(block)
    assert client.appended == client.text == "Half and half."


def test_stored_rounds_go_on_in_the_next_attempt_though_the_log_is_lost() -> None:
    call = ToolCall(tool_call_id="c1", name="applyJsonPatch", arguments={"b": 1, "a": 2}, state="succeeded")
    log: list[StreamEvent] = [
        Status(id="1-0", status="thinking", **BASE),
        Delta(id="1-1", content="I paint it.", **BASE),
        ToolStart(id="1-2", name=call.name, tool_call_id="c1", arguments=call.arguments, **BASE),
        ToolResult(id="1-3", name=call.name, tool_call_id="c1", success=True, final_content="Painted.", **BASE),
        Snapshot(
            id="2-0",
            content="I paint it.",
            status="pending",
            tool_calls=(msgspec.structs.replace(call, final_content="Painted."),),
            reason="attempt",
            **BASE,
        ),
        Delta(id="2-1", content="\n\nDone.", **BASE),
        Complete(id="2-2", final_content="I paint it.\n\nDone.", **BASE),
        Finalized(id="2-3", status="success", **BASE),
    ]
    client = Client()
    for block in told_all(log[:3]):
        client.take(block)
    assert client.items[1] == {
        "type": "function_call",
        "id": "fc_c1",
        "call_id": "c1",
        "name": "applyJsonPatch",
        "arguments": '{"a":2,"b":1}',
        "status": "completed",
    }
    for block in told_all(log[4:], resumed(client.number, log, has_log=False)):
        client.take(block)
    assert client.appended == "I paint it.\n\nDone."
    assert json.loads(client.items[2]["output"]) == {"success": True, "finalContent": "Painted."}
    assert client.response is not None
    assert client.response["output"] == [client.items[index] for index in range(3)]


def test_a_text_beyond_what_numbers_can_say_is_told_whole_at_its_end() -> None:
    text = "x" * (numbers.MOST_CHARS + 100)
    log: list[StreamEvent] = [
        Status(id="1-0", status="thinking", **BASE),
        Delta(id="1-1", content=text[:-50], **BASE),
        Delta(id="1-2", content=text[-50:], **BASE),
        Complete(id="1-3", final_content=text, **BASE),
        Finalized(id="1-4", status="success", **BASE),
    ]
    client = Client()
    for block in told_all(log):
        client.take(block)
    assert len(client.appended) == numbers.MOST_CHARS
    assert client.text == text


def test_calls_beyond_what_numbers_can_say_are_told_at_the_end() -> None:
    log: list[StreamEvent] = [Status(id="1-0", status="thinking", **BASE)]
    for index in range(50):
        ids: Json = {"name": "x", "tool_call_id": f"c{index}"}
        log.append(ToolStart(id=f"1-{2 * index + 1}", arguments={}, **ids, **BASE))
        log.append(ToolResult(id=f"1-{2 * index + 2}", success=True, **ids, **BASE))
    log += [Complete(id="1-101", final_content="Done.", **BASE), Finalized(id="1-102", status="success", **BASE)]
    client = Client()
    for block in told_all(log):
        client.take(block)
    assert len(client.items) == 1 + 2 * 42
    assert client.response is not None
    assert len(client.response["output"]) == 1 + 2 * 50


@pytest.mark.parametrize(
    ("code", "status", "kind", "detail"),
    [
        ("length", "incomplete", "response.incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", "response.incomplete", {"reason": "content_filter"}),
        ("provider_rate_limited", "failed", "response.failed", {"code": "rate_limit_exceeded"}),
        ("provider_unavailable", "failed", "response.failed", {"code": "server_error"}),
        ("of another version", "failed", "response.failed", {"code": "server_error"}),
        (None, "cancelled", "response.incomplete", None),
    ],
)
def test_an_answer_that_fails_says_so_and_keeps_its_text(
    code: str | None, status: str, kind: str, detail: Json | None
) -> None:
    log: list[StreamEvent] = [
        Status(id="1-0", status="thinking", **BASE),
        Delta(id="1-1", content="As far as this", **BASE),
    ]
    if code is not None:
        log.append(Error(id="1-2", error="Words.", code=code, retryable=False, final_content="As far as this", **BASE))
    log.append(Finalized(id="1-3", status="cancelled" if code is None else "error", **BASE))
    client = Client()
    for block in told_all(log):
        client.take(block)
    assert client.had[-1]["type"] == kind
    assert client.response is not None
    assert client.response["status"] == status
    assert client.text == output_text(client.response) == "As far as this"
    shown = client.response["incomplete_details"] or client.response["error"]
    assert detail is None if shown is None else detail is not None and detail.items() <= shown.items()


@pytest.mark.parametrize("code", CloseCode)
def test_only_a_withdrawal_is_told_beside_the_messages_own_end(code: CloseCode) -> None:
    """All other ends leave the last event out, so that a client comes back."""
    blocks = ResponseTelling(ROW).end(code)
    assert [parsed(block)["type"] for block in blocks] == (["error"] if code is CloseCode.WITHDRAWN else [])


# --- completions ------------------------------------------------------------------------------------------------------


def chunks(log: Iterable[StreamEvent], *, include_usage: bool = False) -> tuple[str, str | None, Json | None]:
    """Text, finish reason and error that a client of completions has from these events."""
    telling = ChunkTelling(ROW, include_usage=include_usage)
    blocks = [*telling.begin()]
    for event in log:
        if not telling.is_over():
            blocks += telling.tell(frame_of(event))
    text, reason, error = "", None, None
    for index, block in enumerate(blocks):
        data = block.decode().removeprefix("data: ").removesuffix("\n\n")
        if data == "[DONE]":
            assert index == len(blocks) - 1
            continue
        chunk = json.loads(data)
        error = chunk.get("error")
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content", "")
            reason = choice["finish_reason"]
    return text, reason, error


@settings(max_examples=300)
@given(legal_logs())
def test_a_completion_is_the_text_of_the_fold_or_an_error(log: LegalLog) -> None:
    """There is no way to take a chunk back: a text that turns out to be another is no completion."""
    story = to_the_end(log.events)
    text, reason, error = chunks(story)
    if reason is not None:
        assert events.is_terminal(story[-1])
        assert text == fold(Transcript(), story).content
        assert error is None
    elif events.is_terminal(story[-1]):
        assert error is not None


def test_a_completion_that_begins_anew_with_the_same_words_goes_on() -> None:
    assert chunks(begun_anew("It was a dark and stormy night.")) == ("It was a dark and stormy night.", "stop", None)


@pytest.mark.parametrize("second", ["It was a bright morning, and it stayed so.", "It was"])
def test_a_completion_that_begins_anew_with_other_words_is_an_error(second: str) -> None:
    text, reason, error = chunks(begun_anew(second))
    assert (text, reason) == ("It was a dark and st", None)
    assert error is not None
    assert error["code"] == "answer_begun_anew"


@pytest.mark.parametrize("code", [CloseCode.WITHDRAWN, CloseCode.RESTART, CloseCode.BROKEN, CloseCode.FINISHED])
def test_a_completion_that_is_cut_off_is_an_error(code: CloseCode) -> None:
    """A client would take the end of the stream for the end of the text."""
    telling = ChunkTelling(ROW, include_usage=False)
    telling.tell(frame_of(Delta(id="1-1", content="Half", **BASE)))
    [block] = telling.end(code)
    assert "error" in json.loads(block.removeprefix(b"data: "))
