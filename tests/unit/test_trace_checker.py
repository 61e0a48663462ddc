"""The trace checker accepts what the grammar allows and refuses every way of breaking it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import events
from shared.event_log import Entry, merge
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
    Usage,
)
from shared.transcript import Transcript, fold
from tests.strategies import MESSAGE_ID, LegalLog, legal_logs
from tests.trace_checker import TraceViolation, check_trace, main


def _made(*made: StreamEvent) -> list[StreamEvent]:
    return list(made)


def _status(id_: str, status: events.AssistantActivity) -> Status:
    return Status(id=id_, message_id=MESSAGE_ID, ts=1, status=status)


def _delta(id_: str, content: str, from_: str | None = None) -> Delta:
    return Delta(id=id_, message_id=MESSAGE_ID, ts=1, content=content, from_=from_)


def _start(id_: str, call: str = "1-0-0") -> ToolStart:
    return ToolStart(id=id_, message_id=MESSAGE_ID, ts=1, name="x", tool_call_id=call, arguments={})


def _result(id_: str, call: str = "1-0-0") -> ToolResult:
    return ToolResult(id=id_, message_id=MESSAGE_ID, ts=1, name="x", tool_call_id=call, success=True)


def _complete(id_: str, content: str) -> Complete:
    return Complete(id=id_, message_id=MESSAGE_ID, ts=1, final_content=content)


def _error(id_: str, content: str | None) -> Error:
    return Error(
        id=id_, message_id=MESSAGE_ID, ts=1, error="no", code="internal", retryable=True, final_content=content
    )


def _finalized(id_: str, status: events.FinalizedStatus) -> Finalized:
    return Finalized(id=id_, message_id=MESSAGE_ID, ts=1, status=status)


def _snapshot(
    id_: str,
    content: str,
    status: events.MessageStatusName = "pending",
    reason: events.SnapshotReason = "attempt",
    calls: tuple[ToolCall, ...] = (),
) -> Snapshot:
    return Snapshot(
        id=id_, message_id=MESSAGE_ID, ts=1, content=content, status=status, tool_calls=calls, reason=reason
    )


# --- what is accepted -------------------------------------------------------------------------------------------


@given(legal_logs())
def test_every_log_of_the_grammar_is_accepted_with_its_row(log: LegalLog) -> None:
    check_trace(log.events, row=log.row)


@given(legal_logs(), st.data())
def test_every_beginning_of_a_log_is_accepted(log: LegalLog, data: st.DataObject) -> None:
    """An attempt may stop anywhere."""
    check_trace(log.events[: data.draw(st.integers(0, len(log.events)))])


@given(legal_logs(), st.data())
def test_every_rest_of_a_log_is_accepted_from_whoever_had_the_beginning(log: LegalLog, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(log.events)))
    check_trace(log.events[cut:], joined_after=log.events[cut - 1].id, row=log.row)
    check_trace(log.events[cut:], from_start=False, row=log.row if cut < len(log.events) else None)


@given(legal_logs(), st.data())
def test_a_late_reader_s_merged_replay_and_what_follows_it_is_accepted(log: LegalLog, data: st.DataObject) -> None:
    """It gets the newest attempt so far, with neighbouring deltas as one, and then every event."""
    joined = data.draw(st.integers(1, len(log.events)))
    newest = EventId.parse(log.events[joined - 1].id).attempt
    entries = [Entry(EventId.parse(event.id), events.encode(event)) for event in log.events[:joined]]
    replay = merge(entry for entry in entries if entry.id.attempt == newest)
    check_trace([*(entry.payload for entry in replay), *log.events[joined:]], row=log.row)


@given(legal_logs(), st.data())
def test_a_slow_reader_s_compacted_snapshot_is_accepted_in_place_of_what_it_folds(
    log: LegalLog, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(log.events) - 1))
    last = data.draw(st.integers(first, len(log.events) - 1))
    folded = fold(Transcript(), log.events[: last + 1])
    compacted = _snapshot(log.events[last].id, folded.content, folded.status, "compacted", folded.tool_calls)
    if any(events.is_terminal(event) or isinstance(event, Finalized) for event in log.events[first : last + 1]):
        return  # an ending is never folded away
    check_trace([*log.events[:first], compacted, *log.events[last + 1 :]], row=log.row)


@given(legal_logs())
def test_a_reader_whose_log_was_lost_gets_the_final_row_and_its_finalized(log: LegalLog) -> None:
    if log.row is None or log.row.status.value == "building":
        return
    last = EventId.parse(log.events[-1].id)
    snapshot = _snapshot(str(last.before), log.row.content, log.row.status.value, "restored", tuple(log.row.tool_calls))
    if log.row.error is None:
        check_trace([snapshot, log.events[-1]], row=log.row)
        check_trace([snapshot, log.events[-1]], row=msgspec.to_builtins(log.row))


def test_an_event_may_be_given_as_bytes_or_as_a_mapping() -> None:
    event = _status("1-0", "thinking")
    check_trace([events.encode(event)])
    check_trace([msgspec.to_builtins(event)])


def test_a_reader_who_had_everything_may_get_nothing() -> None:
    check_trace([], joined_after="1-4")


# --- what is refused --------------------------------------------------------------------------------------------

_REFUSED = {
    "the first attempt does not begin with status": (_made(_delta("1-0", "a")), 0),
    "the first event's n is not 0": (_made(_status("1-1", "thinking")), 0),
    "a later attempt begins without a snapshot": (_made(_status("2-0", "thinking")), 0),
    "a gap": (_made(_status("1-0", "thinking"), _delta("1-2", "a")), 1),
    "an event twice": (_made(_status("1-0", "thinking"), _delta("1-1", "a"), _delta("1-1", "a")), 2),
    "an event of an old attempt": (
        _made(_status("1-0", "thinking"), _snapshot("2-0", ""), _delta("1-1", "a")),
        2,
    ),
    "a merged delta that overlaps": (
        _made(_status("1-0", "thinking"), _delta("1-1", "a"), _delta("1-3", "abc", "1-1")),
        2,
    ),
    "a merged delta after a gap": (
        _made(_status("1-0", "thinking"), _delta("1-1", "a"), _delta("1-4", "cd", "1-3")),
        2,
    ),
    "a merged delta over two attempts": (_made(_status("2-0", "thinking"), _delta("2-3", "a", "1-1")), 0),
    "thinking twice": (_made(_status("1-0", "thinking"), _status("1-1", "thinking")), 1),
    "a status of tools without a call": (_made(_status("1-0", "thinking"), _status("1-1", "tool_calling")), 1),
    "a result without a call": (_made(_status("1-0", "thinking"), _result("1-1")), 1),
    "a result of another call": (
        _made(_status("1-0", "thinking"), _start("1-1"), _status("1-2", "tool_calling"), _result("1-3", "other")),
        3,
    ),
    "a delta inside a call": (_made(_status("1-0", "thinking"), _start("1-1"), _delta("1-2", "a")), 2),
    "an end inside a call": (
        _made(_status("1-0", "thinking"), _start("1-1"), _finalized("1-2", "cancelled")),
        2,
    ),
    "a call that was made before": (
        _made(
            _status("1-0", "thinking"),
            _start("1-1"),
            _status("1-2", "tool_calling"),
            _result("1-3"),
            _start("1-4"),
        ),
        4,
    ),
    "success without complete": (_made(_status("1-0", "thinking"), _finalized("1-1", "success")), 1),
    "error without an error": (_made(_status("1-0", "thinking"), _finalized("1-1", "error")), 1),
    "building without its status": (_made(_status("1-0", "thinking"), _finalized("1-1", "building")), 1),
    "a delta after complete": (
        _made(_status("1-0", "thinking"), _delta("1-1", "a"), _complete("1-2", "a"), _delta("1-3", "b")),
        3,
    ),
    "error after complete": (
        _made(_status("1-0", "thinking"), _delta("1-1", "a"), _complete("1-2", "a"), _error("1-3", "a")),
        3,
    ),
    "complete with other text": (
        _made(_status("1-0", "thinking"), _delta("1-1", "a"), _complete("1-2", "b")),
        2,
    ),
    "complete with no text": (_made(_status("1-0", "thinking"), _complete("1-1", "")), 1),
    "an error with other text": (_made(_status("1-0", "thinking"), _delta("1-1", "a"), _error("1-2", "")), 2),
    "something after the end": (
        _made(_status("1-0", "thinking"), _finalized("1-1", "cancelled"), _delta("1-2", "a")),
        2,
    ),
    "the end twice": (
        _made(_status("1-0", "thinking"), _finalized("1-1", "cancelled"), _finalized("1-2", "cancelled")),
        2,
    ),
    "a snapshot of the relay after the end": (
        _made(
            _status("1-0", "thinking"),
            _finalized("1-1", "cancelled"),
            _snapshot("1-2", "", "cancelled", "compacted"),
        ),
        2,
    ),
    "something after a build was handed over": (
        _made(
            _status("1-0", "thinking"), _status("1-1", "building"), _finalized("1-2", "building"), _delta("1-3", "a")
        ),
        3,
    ),
    "an attempt's text without its status": (_made(_snapshot("2-0", "a"), _delta("2-1", "b")), 1),
    "a complete right after an attempt's snapshot": (_made(_snapshot("2-0", "a"), _complete("2-1", "a")), 1),
    "an attempt's snapshot in its middle": (
        _made(_snapshot("2-0", "a"), _status("2-1", "thinking"), _snapshot("2-2", "a")),
        2,
    ),
    "two rounds' texts without a blank line": (
        _made(_snapshot("2-0", "a"), _status("2-1", "thinking"), _delta("2-2", "b")),
        2,
    ),
    "an empty delta": (_made(_status("1-0", "thinking"), _delta("1-1", "")), 1),
    "text in a build": (
        _made(_snapshot("2-0", "a", "building"), _status("2-1", "building"), _delta("2-2", "b")),
        2,
    ),
    "going on after a final row": (
        _made(_snapshot("2-3", "a", "error", "restored"), _delta("2-4", "b")),
        1,
    ),
    "another end than the final row's": (
        _made(_snapshot("2-3", "a", "error", "restored"), _finalized("2-4", "success")),
        1,
    ),
    "another message's event": (
        _made(_status("1-0", "thinking"), Delta(id="1-1", message_id="another", ts=1, content="a")),
        1,
    ),
}


@pytest.mark.parametrize(("recording", "index"), _REFUSED.values(), ids=_REFUSED.keys())
def test_a_recording_is_refused_that_has(recording: list[StreamEvent], index: int) -> None:
    """Each is refused at the event that breaks it, and is legal up to there."""
    check_trace(recording[:index])
    with pytest.raises(TraceViolation) as refused:
        check_trace(recording)
    assert refused.value.index == index


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(TraceViolation, match="not an event"):
        check_trace([b'{"type":"delta"}'])


def test_a_rest_must_follow_on_the_event_after_which_the_reader_joined() -> None:
    with pytest.raises(TraceViolation, match="a gap"):
        check_trace([_delta("1-5", "a")], joined_after="1-3")
    with pytest.raises(TraceViolation, match="not above"):
        check_trace([_delta("1-3", "a")], joined_after="1-3")
    with pytest.raises(TraceViolation, match="without a snapshot"):
        check_trace([_status("2-0", "thinking")], joined_after="1-3")


_Mutation = Callable[[list[StreamEvent], random.Random], list[StreamEvent] | None]


def _drop(log: list[StreamEvent], seeded: random.Random) -> list[StreamEvent] | None:
    """Any event but the last, and but one that a snapshot follows: that one makes good for it."""
    places = [place for place in range(len(log) - 1) if not isinstance(log[place + 1], Snapshot)]
    if not places:
        return None
    place = seeded.choice(places)
    return log[:place] + log[place + 1 :]


def _repeat(log: list[StreamEvent], seeded: random.Random) -> list[StreamEvent]:
    place = seeded.randrange(len(log))
    return [*log[: place + 1], log[place], *log[place + 1 :]]


def _swap(log: list[StreamEvent], seeded: random.Random) -> list[StreamEvent] | None:
    if len(log) < 2:
        return None
    place = seeded.randrange(len(log) - 1)
    return [*log[:place], log[place + 1], log[place], *log[place + 2 :]]


def _other_attempt(log: list[StreamEvent], seeded: random.Random) -> list[StreamEvent] | None:
    places = [place for place, event in enumerate(log) if not isinstance(event, Snapshot)]
    if not places:
        return None
    place = seeded.choice(places)
    at = EventId.parse(log[place].id)
    moved = msgspec.structs.replace(log[place], id=f"{at.attempt + seeded.choice([1, 2])}-{at.n}")
    return [*log[:place], moved, *log[place + 1 :]]


def _no_snapshot(log: list[StreamEvent], seeded: random.Random) -> list[StreamEvent] | None:
    """The snapshot is left away, and so that nobody sees it by its number, the attempt is numbered anew."""
    places = [place for place, event in enumerate(log) if isinstance(event, Snapshot)]
    if not places:
        return None
    place = seeded.choice(places)
    attempt = EventId.parse(log[place].id).attempt
    if place + 1 == len(log) or EventId.parse(log[place + 1].id).attempt != attempt:
        return None
    if place == 0 and isinstance(log[1], Status):
        return None
    return [
        *log[:place],
        *(
            msgspec.structs.replace(event, id=str(EventId(attempt, at.n - 1))) if at.attempt == attempt else event
            for event in log[place + 1 :]
            for at in [EventId.parse(event.id)]
        ),
    ]


@pytest.mark.parametrize("mutate", [_drop, _repeat, _swap, _other_attempt, _no_snapshot])
@given(log=legal_logs(), seed=st.integers(0, 2**32))
@settings(suppress_health_check=[HealthCheck.differing_executors])
def test_a_legal_log_is_refused_once_it_is_broken_by(mutate: _Mutation, log: LegalLog, seed: int) -> None:
    broken = mutate(list(log.events), random.Random(seed))
    if broken is None:
        return
    with pytest.raises(TraceViolation):
        check_trace(broken)


# --- the row ----------------------------------------------------------------------------------------------------


@given(legal_logs())
def test_a_row_that_says_something_else_is_refused(log: LegalLog) -> None:
    """Status, content, tool calls, usage, timing, attempt: each is compared."""
    if log.row is None:
        return
    changes = {
        "status": "building" if log.row.status.value != "building" else "success",
        "content": log.row.content + "!",
        "toolCalls": [
            *msgspec.to_builtins(log.row.tool_calls),
            {"toolCallId": "one more", "name": "x", "arguments": {}, "state": "succeeded"},
        ],
        "usage": msgspec.to_builtins(Usage(prompt_tokens=-1, completion_tokens=0, total_tokens=0)),
        "timing": {"queuedMs": -1, "firstTokenMs": 0, "totalMs": 0},
        "attempt": log.row.attempt + 1,
        "id": "0198c2a4-6f3e-7c11-9b1a-000000000000",
    }
    for field, value in changes.items():
        with pytest.raises(TraceViolation):
            check_trace(log.events, row={**msgspec.to_builtins(log.row), field: value})


@given(legal_logs())
def test_a_final_row_s_recording_must_come_to_its_end(log: LegalLog) -> None:
    if log.row is None or log.row.status.value == "building":
        return
    with pytest.raises(TraceViolation, match="does not come to the end"):
        check_trace(log.events[:-1], row=log.row)


def test_a_recording_in_a_file_is_checked_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 and a word where it is legal, 1 and the place where it is not."""
    recording = tmp_path / "recording.jsonl"
    lines = [events.encode(event).decode() for event in (_status("1-0", "thinking"), _delta("1-1", "a"))]
    recording.write_text("\n".join(lines) + "\n")
    assert main([str(recording)]) == 0
    assert "2 events: a legal recording" in capsys.readouterr().out
    assert main([str(recording), "--joined-after", "1-0"]) == 1
    recording.write_text(lines[0] + "\n" + lines[1].replace("1-1", "1-2"))
    assert main([str(recording)]) == 1
    assert "event 1: a gap: 1-2 follows 1-0" in capsys.readouterr().out
