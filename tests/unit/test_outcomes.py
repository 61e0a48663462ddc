"""Every way to end a message: its status and kind, and events that a reader may be sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Delta, Error, EventId, Finalized, Snapshot, Status, StreamEvent, Timing, Usage
from shared.lifecycle import FINAL, MOVES, ErrorCode, MessageKind, MessageStatus
from shared.outcomes import (
    Cancelled,
    Failed,
    HandedOver,
    Outcome,
    Succeeded,
    closing_events,
    ending_events,
    kind_of,
    status_of,
)
from shared.transcript import Transcript, fold
from tests.strategies import MESSAGE_ID, some_text, timings, usages
from tests.trace_checker import check_trace

_codes = st.sampled_from(list(ErrorCode))
_JOB = "0198c2a4-6f3e-7c11-9b1a-000000000001"


def _outcomes(text: str) -> st.SearchStrategy[Outcome]:
    return st.one_of(
        st.just(Succeeded(content=text)),
        st.builds(Failed, content=st.just(text), code=_codes),
        st.just(Cancelled(content=text)),
        st.just(HandedOver(content=text, job_id=_JOB)),
    )


@given(some_text.flatmap(_outcomes), st.none() | usages, st.none() | timings)
def test_every_ending_of_a_turn_is_a_legal_log_that_folds_to_what_was_committed(
    outcome: Outcome, usage: Usage | None, timing: Timing | None
) -> None:
    turn: list[StreamEvent] = [
        Status(id="1-0", message_id=MESSAGE_ID, ts=1, status="thinking"),
        Delta(id="1-1", message_id=MESSAGE_ID, ts=1, content=outcome.content),
    ]
    ending = ending_events(outcome, message_id=MESSAGE_ID, first=EventId(1, 2), ts=2, usage=usage, timing=timing)
    check_trace([*turn, *ending])
    folded = fold(Transcript(), [*turn, *ending])
    assert folded.content == outcome.content
    assert folded.status == status_of(outcome).value
    last = ending[-1]
    assert isinstance(last, Finalized)
    assert (last.usage, last.timing) == (usage, timing)
    assert last.job_id == (_JOB if isinstance(outcome, HandedOver) else None)


@given(
    some_text,
    _codes,
    st.booleans(),
    st.sampled_from(["pending", "building"]),
    st.integers(1, 9),
)
def test_a_closing_is_an_attempt_of_its_own(text: str, code: ErrorCode, cancelled: bool, status: str, n: int) -> None:
    outcome = Cancelled(content=text) if cancelled else Failed(content=text, code=code)
    snapshot = Snapshot(
        id=f"{n}-0",
        message_id=MESSAGE_ID,
        ts=1,
        content=text,
        status="pending" if status == "pending" else "building",
        tool_calls=(),
        reason="attempt",
    )
    closing = closing_events(snapshot, outcome, usage=None, timing=None)
    check_trace(closing)
    assert fold(Transcript(), closing).content == text
    assert fold(Transcript(), closing).status == status_of(outcome).value


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_failure_tells_its_code_in_words_and_whether_to_try_again(code: ErrorCode) -> None:
    error, finalized = ending_events(
        Failed(content="so far", code=code), message_id=MESSAGE_ID, first=EventId(3, 7), ts=1, usage=None, timing=None
    )
    assert (error.id, finalized.id) == ("3-7", "3-8")
    assert isinstance(error, Error)
    assert (error.error, error.code, error.retryable) == (code.detail, code.value, code.retryable)
    assert error.final_content == "so far"


@given(some_text.flatmap(_outcomes))
def test_every_outcome_is_a_legal_move_from_pending(outcome: Outcome) -> None:
    assert status_of(outcome) in MOVES[MessageStatus.PENDING]


@given(some_text.flatmap(_outcomes))
def test_a_final_message_is_a_placeholder_no_more(outcome: Outcome) -> None:
    if status_of(outcome) in FINAL:
        assert kind_of(outcome) not in (MessageKind.STATUS, MessageKind.MESSAGE)


def test_a_message_cancelled_before_any_text_stays_a_placeholder() -> None:
    assert kind_of(Cancelled(content="")) is MessageKind.STATUS
    assert kind_of(Succeeded(content="done", kind=MessageKind.TOOL_RESULT)) is MessageKind.TOOL_RESULT
