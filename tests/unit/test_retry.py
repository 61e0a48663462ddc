"""Pauses between two tries of the provider."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from worker.retry import pauses

FIRST_S = st.floats(0.001, 5)


@given(FIRST_S, st.floats(0.001, 100), st.integers(1, 40))
def test_pauses_grow_by_two_with_a_bounded_jitter_up_to_the_longest(first_s: float, most_s: float, count: int) -> None:
    """The nth pause lies between first · 2^n and one first more, and none is above the longest; they never end."""
    for n, pause_s in enumerate(itertools.islice(pauses(first_s=first_s, most_s=most_s), count)):
        assert min(first_s * 2**n, most_s) <= pause_s <= min(first_s * 2**n + first_s, most_s)


@given(FIRST_S)
def test_two_that_failed_together_do_not_come_back_together(first_s: float) -> None:
    """The jitter is drawn anew each time."""
    drawn = {next(pauses(first_s=first_s, most_s=1000)) for _ in range(20)}
    assert len(drawn) > 1


def test_without_a_first_pause_there_is_none() -> None:
    assert list(itertools.islice(pauses(first_s=0, most_s=20), 5)) == [0] * 5
