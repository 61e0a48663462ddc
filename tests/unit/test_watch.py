"""A worker is deaf where bells wait, it has room, and it answers none for a while. Anything else is no deafness."""

from __future__ import annotations

import pytest

from worker.watch import Hearing


def looks(*at: tuple[float, int, int, bool], deaf_s: float = 30) -> list[bool]:
    """What a worker is told at each look: (seconds, answered, waiting, has room)."""
    hearing = Hearing(deaf_s=deaf_s)
    return [
        hearing.is_deaf(now_s, answered=answered, waiting=waiting, has_room=has_room)
        for now_s, answered, waiting, has_room in at
    ]


def test_bells_that_wait_for_long_for_a_worker_with_room_make_it_deaf() -> None:
    assert looks((0, 0, 1, True), (15, 0, 2, True), (29, 0, 2, True), (30, 0, 2, True)) == [False, False, False, True]


@pytest.mark.parametrize(
    "between",
    [(15, 1, 1, True), (15, 0, 0, True), (15, 0, 1, False)],
    ids=["it answered one", "none waited", "it had no room"],
)
def test_the_time_begins_anew_after(between: tuple[float, int, int, bool]) -> None:
    answered = between[1]
    after = [(16, answered, 1, True), (45, answered, 1, True), (46, answered, 1, True)]
    assert looks((0, 0, 1, True), between, *after) == [False, False, False, False, True]
