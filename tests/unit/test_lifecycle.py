"""The life of a message as tables."""

from __future__ import annotations

from typing import get_args

import pytest

from shared import events
from shared.lifecycle import FINAL, MOVES, UNFINISHED, ErrorCode, JobStatus, MessageStatus


def test_every_status_is_either_final_or_unfinished() -> None:
    assert set(MessageStatus) == FINAL | UNFINISHED
    assert not FINAL & UNFINISHED


def test_every_status_has_its_moves_and_none_leads_to_itself() -> None:
    assert set(MOVES) == set(MessageStatus)
    assert all(status not in moves for status, moves in MOVES.items())


def test_every_status_can_be_reached_from_pending() -> None:
    reached, border = {MessageStatus.PENDING}, {MessageStatus.PENDING}
    while border:
        border = {after for status in border for after in MOVES[status]} - reached
        reached |= border
    assert reached == set(MessageStatus)


def test_what_is_unfinished_can_end_in_every_way() -> None:
    assert all(MOVES[status] >= FINAL for status in UNFINISHED)


def test_what_is_final_is_left_only_by_a_retry() -> None:
    assert all(MOVES[status] <= UNFINISHED for status in FINAL)


def test_the_wire_has_the_same_statuses() -> None:
    assert set(get_args(events.MessageStatusName)) == {status.value for status in MessageStatus}
    assert set(get_args(events.FinalizedStatus)) == {status.value for status in MessageStatus} - {"pending"}
    assert {status.value for status in JobStatus} == {status.value for status in MessageStatus}


def test_the_error_codes_are_the_contract_s() -> None:
    names = (
        "provider_unavailable provider_rate_limited provider_quota provider_auth provider_rejected provider_timeout "
        "stream_broken stream_incomplete length content_filter refusal empty_answer context_too_long "
        "too_many_rounds deadline worker_lost build_failed internal"
    )
    assert {code.value for code in ErrorCode} == set(names.split(" "))


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_has_words_that_are_safe_to_show(code: ErrorCode) -> None:
    assert code.detail.endswith(".")
    assert "_" not in code.detail
    assert isinstance(code.retryable, bool)


def test_asking_again_unchanged_helps_against_nothing_permanent() -> None:
    assert {code for code in ErrorCode if not code.retryable} == {
        ErrorCode.PROVIDER_QUOTA,
        ErrorCode.PROVIDER_AUTH,
        ErrorCode.PROVIDER_REJECTED,
        ErrorCode.CONTENT_FILTER,
        ErrorCode.REFUSAL,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.TOO_MANY_ROUNDS,
    }
