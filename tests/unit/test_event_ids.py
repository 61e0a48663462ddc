"""Event ids: ``<attempt>-<n>``, ordered as the pairs of their numbers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import EventId
from tests.strategies import event_ids


@given(event_ids)
def test_an_id_parses_to_what_was_written(id_: EventId) -> None:
    assert EventId.parse(str(id_)) == id_


@given(event_ids, event_ids)
def test_ids_are_ordered_by_attempt_and_then_by_number(left: EventId, right: EventId) -> None:
    assert (left < right) == ((left.attempt, left.n) < (right.attempt, right.n))


def test_numbers_are_compared_as_numbers() -> None:
    written = ["1-0", "1-9", "1-10", "2-0", "2-1", "10-0"]
    ids = [EventId.parse(text) for text in written]
    assert all(a < b for a, b in itertools.pairwise(ids))


@given(event_ids)
def test_next_is_the_following_number_of_the_same_attempt(id_: EventId) -> None:
    assert id_ < id_.next
    assert id_.next == EventId(id_.attempt, id_.n + 1)
    assert id_.next.before == id_


@given(event_ids, event_ids)
def test_nothing_lies_between_an_id_and_the_one_before_it(id_: EventId, other: EventId) -> None:
    assert id_.before < id_
    assert not id_.before < other < id_


@given(event_ids)
def test_what_is_before_a_later_attempt_s_first_event_can_be_written_and_read(id_: EventId) -> None:
    """It goes over the wire as the position of a snapshot."""
    before = EventId(id_.attempt + 1, 0).before
    assert EventId.parse(str(before)) == before
    assert before.attempt == id_.attempt


@pytest.mark.parametrize(
    "text",
    ["", "-", "1", "1-", "-1", "0-0", "01-0", "1-00", "1-01", "+1-0", "1--1", " 1-0", "1-0 ", "1-0\n", "1-0-0", "a-b",
     "1.0-0", "1-0;", "١-0", "1-" + "9" * 40, "9" * 40 + "-0"],
)  # fmt: skip
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="<attempt>-<n>"):
        EventId.parse(text)


@given(st.text(max_size=8))
def test_text_is_an_id_only_as_it_would_be_written(text: str) -> None:
    try:
        parsed = EventId.parse(text)
    except ValueError:
        return
    assert str(parsed) == text
