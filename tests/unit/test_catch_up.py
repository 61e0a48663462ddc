"""What a reader is owed, decided from the row and the log."""

from __future__ import annotations

from uuid import UUID

import pytest

from api.catch_up import Decision, Reading, Verdict, Want, compact, decide, is_current, is_done
from api.wire import pack
from shared import events
from shared.event_log import Entry, Stretch
from shared.events import Complete, Delta, EventId, Finalized, Snapshot, Status, StreamEvent
from shared.lifecycle import MessageStatus
from shared.records import ReaderRow
from shared.transcript import NOWHERE

ID = UUID(int=7)
LOG: list[StreamEvent] = [
    Status(id="1-0", message_id=str(ID), ts=1, status="thinking"),
    Delta(id="1-1", message_id=str(ID), ts=2, content="a"),
    Delta(id="1-2", message_id=str(ID), ts=3, content="b"),
    Complete(id="1-3", message_id=str(ID), ts=4, final_content="ab"),
    Finalized(id="1-4", message_id=str(ID), ts=5, status="success"),
]
ENTRIES = [Entry(EventId.parse(event.id), events.encode(event)) for event in LOG]


def row(status: str, last: str | None) -> ReaderRow:
    is_final = status not in ("pending", "building")
    return ReaderRow(
        message_id=ID,
        project_id=ID,
        status=MessageStatus(status),
        attempt=1,
        last_event_id=EventId.parse(last) if last else None,
        content="ab",
        tool_calls=(),
        ending=tuple(entry.payload for entry in ENTRIES[3:]) if is_final else (),
    )


def reading(row: ReaderRow | None, length: int, *, database_answered: bool = True) -> Reading:
    entries = ENTRIES[:length]
    return Reading(ID, row, database_answered, entries[-1].id if entries else None, Stretch.of(entries), 99)


def ids(decision: Decision) -> list[str]:
    return [events.decode(frame.payload).id for frame in decision.frames]


def at(text: str | None, *, compacted: bool = False) -> Want:
    return Want(EventId.parse(text) if text else NOWHERE, compacted)


def test_a_log_that_reaches_the_rows_last_event_tells_all() -> None:
    decision = decide(at(None), reading(row("success", "1-4"), 5), is_patient=True)
    assert ids(decision) == ["1-0", "1-2", "1-3", "1-4"]
    assert decision.verdict is Verdict.DONE


def test_a_log_beyond_an_unfinished_row_tells_all() -> None:
    decision = decide(at("1-1"), reading(row("pending", "1-1"), 5), is_patient=True)
    assert ids(decision) == ["1-2", "1-3", "1-4"]
    assert decision.verdict is Verdict.DONE


def test_a_log_short_of_a_final_row_is_waited_for_once() -> None:
    patient = decide(at("1-0"), reading(row("success", "1-4"), 3), is_patient=True)
    assert (ids(patient), patient.verdict) == (["1-2"], Verdict.LACKING)
    assert patient.position == pack(EventId(1, 2))
    impatient = decide(at("1-2"), reading(row("success", "1-4"), 3), is_patient=False)
    assert (ids(impatient), impatient.verdict) == (["1-3", "1-4"], Verdict.DONE)


@pytest.mark.parametrize("is_patient", [True, False])
def test_an_empty_log_is_not_waited_for(is_patient: bool) -> None:
    decision = decide(at(None), reading(row("success", "1-4"), 0), is_patient=is_patient)
    snapshot, finalized = (events.decode(frame.payload) for frame in decision.frames)
    assert snapshot == Snapshot(
        id="1-3", message_id=str(ID), ts=99, content="ab", status="success", tool_calls=(), reason="restored"
    )
    assert finalized == LOG[-1]
    assert decision.verdict is Verdict.DONE


def test_an_unfinished_row_speaks_for_a_lost_log_and_the_reader_goes_on_live() -> None:
    decision = decide(at("1-0"), reading(row("pending", "1-2"), 0), is_patient=True)
    assert (ids(decision), decision.verdict) == (["1-2"], Verdict.LIVE)


@pytest.mark.parametrize("after", ["1-2", "1-3", "5-0"])
def test_a_row_that_knows_no_more_than_the_reader_says_nothing(after: str) -> None:
    decision = decide(at(after), reading(row("pending", "1-2"), 0), is_patient=True)
    assert (ids(decision), decision.verdict, decision.position) == ([], Verdict.LIVE, pack(EventId.parse(after)))


def beheaded(row: ReaderRow | None, first: int, *, database_answered: bool = True) -> Reading:
    return reading(row, len(ENTRIES), database_answered=database_answered)._replace(entries=Stretch.of(ENTRIES[first:]))


def test_a_final_row_speaks_for_a_log_whose_beginning_was_trimmed() -> None:
    decision = decide(at(None), beheaded(row("success", "1-4"), 2), is_patient=True)
    assert (ids(decision), decision.verdict) == (["1-3", "1-4"], Verdict.DONE)
    assert isinstance(events.decode(decision.frames[0].payload), Snapshot)


def test_of_a_log_whose_beginning_was_trimmed_nobody_is_shown_half_a_text() -> None:
    for known in (None, "1-1"):
        waits = decide(at("1-1"), beheaded(row("pending", known), 3), is_patient=True)
        assert (ids(waits), waits.position, waits.verdict) == ([], pack(EventId(1, 1)), Verdict.LIVE)
    unknown = decide(at(None), beheaded(None, 3, database_answered=False), is_patient=True)
    assert (ids(unknown), unknown.verdict) == ([], Verdict.LIVE)
    compacted = decide(at("1-1", compacted=True), beheaded(row("pending", None), 2), is_patient=True)
    assert (ids(compacted), compacted.verdict) == ([], Verdict.LIVE)


def test_who_had_what_was_trimmed_is_told_the_rest() -> None:
    decision = decide(at("1-1"), beheaded(row("success", "1-4"), 2), is_patient=True)
    assert (ids(decision), decision.verdict) == (["1-2", "1-3", "1-4"], Verdict.DONE)


def test_a_message_without_an_event_yet_is_live() -> None:
    decision = decide(at(None), reading(row("pending", None), 0), is_patient=True)
    assert (ids(decision), decision.verdict) == ([], Verdict.LIVE)


def test_without_the_database_the_log_decides_alone() -> None:
    decision = decide(at("1-3"), reading(None, 5, database_answered=False), is_patient=True)
    assert (ids(decision), decision.verdict) == (["1-4"], Verdict.DONE)


def test_without_either_nothing_is_decided() -> None:
    decision = decide(at("1-3"), reading(None, 0, database_answered=False), is_patient=True)
    assert (ids(decision), decision.verdict) == ([], Verdict.LIVE)


def test_a_message_that_is_gone_is_gone() -> None:
    assert decide(at(None), reading(None, 5), is_patient=True).verdict is Verdict.GONE


def test_an_end_that_was_retried_is_passed_over() -> None:
    decision = decide(at("1-2"), reading(row("pending", "1-4"), 5), is_patient=True)
    assert (ids(decision), decision.verdict, decision.position) == (["1-3"], Verdict.LIVE, pack(EventId(1, 4)))
    assert is_current(EventId(1, 4), reading(row("pending", "1-4"), 5))


def test_a_reader_at_or_past_the_end_is_done() -> None:
    final = row("success", "1-4")
    assert not is_done(final, None)
    assert not is_done(final, EventId(1, 3))
    assert is_done(final, EventId(1, 4))
    assert is_done(final, EventId(2, 0))
    assert not is_done(row("building", "1-4"), EventId(1, 4))
    assert decide(at("1-4"), reading(final, 0), is_patient=True) == Decision((), pack(EventId(1, 4)), Verdict.DONE)


def test_a_compacted_attempt_is_a_snapshot_and_its_end() -> None:
    shown = [events.decode(entry.payload) for entry in compact(ID, ENTRIES, EventId(1, 0))]
    assert shown == [
        Snapshot(id="1-3", message_id=str(ID), ts=4, content="ab", status="pending", tool_calls=(), reason="compacted"),
        LOG[-1],
    ]


@pytest.mark.parametrize(("after", "left"), [("1-3", ["1-4"]), ("1-4", [])])
def test_compacting_repeats_nothing(after: str, left: list[str]) -> None:
    assert [str(entry.id) for entry in compact(ID, ENTRIES, EventId.parse(after))] == left
    assert compact(ID, [], EventId.parse(after)) == []


def test_a_reader_is_current_only_where_nobody_knows_more() -> None:
    assert is_current(EventId(1, 2), reading(row("pending", "1-1"), 3))
    assert not is_current(EventId(1, 1), reading(row("pending", "1-1"), 3))
    assert not is_current(EventId(1, 1), reading(row("pending", "1-2"), 0))
    assert not is_current(EventId(1, 4), reading(row("success", "1-4"), 5))
    assert not is_current(EventId(1, 4), reading(None, 0))
    assert is_current(EventId(1, 4), reading(None, 0, database_answered=False))
