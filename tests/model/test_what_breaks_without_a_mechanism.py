"""What each mechanism is for: left out, the model finds the shortest way to a broken promise, and the test prints it.

Some of them break nothing when they alone are missing, since another one stands behind each; these tests say which, and
that both together break something.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from tests.model import promises
from tests.model.search import ALL, Trace, explore
from tests.model.state import Bounds, Fault, Mechanisms, Story


class Case(NamedTuple):
    promise: str
    fault: Fault | None
    """None: it breaks without any."""
    story: Story = Story.TOOL


_BREAKS: Final = {
    "sweeper": Case(promises.STUCK, Fault.KILL),
    "swept_endings": Case(promises.STUCK, Fault.KILL),
    "row_as_last_resort": Case(promises.STUCK, Fault.WIPE),
    "sql_fence": Case(promises.ATTEMPT_GOES_BACK, Fault.PAUSE),
    "tool_transaction": Case(promises.EFFECT_TWICE, Fault.KILL),
    "gap_filling": Case(promises.GAP, Fault.LOST_MESSAGE),
    "idle_check": Case(promises.STUCK, Fault.LOST_MESSAGE),
    "snapshot": Case(promises.OTHER_TEXT, Fault.KILL),
    "id_fence": Case(promises.LOG_GOES_BACK, Fault.PAUSE),
    "stored_ending": Case(promises.LET_GO, None),
    "lease_check": Case(promises.EXPIRED_APPENDS, Fault.PAUSE),
}
"""Without it, that fault alone breaks that promise."""


def _trace(bounds: Bounds, *left_out: str, tolerated: tuple[str, ...] = ()) -> Trace | None:
    result = explore(bounds, ALL.without(*left_out), tolerated=tolerated)
    print(f"without {', '.join(left_out) or 'nothing'}: {result}")
    if result.trace is not None:
        print(result.trace)
    return result.trace


@pytest.mark.parametrize("mechanism", list(_BREAKS))
def test_one_fault_or_none_breaks_a_promise_without(mechanism: str) -> None:
    """And none with it."""
    promise, fault, story = _BREAKS[mechanism]
    kinds: frozenset[Fault] = frozenset() if fault is None else frozenset({fault})
    bounds = Bounds(story=story, faults=len(kinds), kinds=kinds)
    trace = _trace(bounds, mechanism)
    assert trace is not None
    assert trace.promise == promise
    assert {label.fault for label, _ in trace.steps} - {None} == bounds.kinds
    assert _trace(bounds) is None


def test_every_mechanism_is_left_out_somewhere() -> None:
    assert {*_BREAKS, "subscribe_first", "repeatable_finalize", "lost_check", "whole_beginning"} == set(
        Mechanisms._fields
    )


def test_a_subscription_that_comes_after_the_read_costs_time_and_the_idle_check_mends_it() -> None:
    """What is published between the two is found at the next check; without a check it is lost, with no fault at all."""
    assert _trace(Bounds(faults=1), "subscribe_first") is None
    assert _trace(Bounds(faults=0), "idle_check") is None
    trace = _trace(Bounds(faults=0), "subscribe_first", "idle_check")
    assert trace is not None
    assert trace.promise == promises.STUCK


def test_a_log_that_takes_events_without_those_before_them_costs_time_since_no_reader_believes_its_beginning() -> None:
    """Either check alone keeps a reader from half a text; with the first one, its worker knows too and begins anew."""
    wipe = Bounds(faults=1, kinds=frozenset({Fault.WIPE}))
    assert _trace(wipe, "lost_check") is None
    assert _trace(wipe, "whole_beginning") is None
    trace = _trace(wipe, "lost_check", "whole_beginning")
    assert trace is not None
    assert trace.promise == promises.GAP


def test_an_end_whose_commit_cannot_be_repeated_is_told_by_the_sweeper() -> None:
    """Its committer takes the repetition's refusal for a newer attempt and says nothing: the end is late, no more.

    A heartbeat between the two says the same, so that the repetition helps where it comes before the next one.
    """
    replies = frozenset({Fault.LOST_REPLY})
    assert _trace(Bounds(faults=1), "repeatable_finalize") is None
    prompt = Bounds(faults=1, kinds=replies, has_heartbeat=False)
    assert _trace(prompt, "swept_endings") is None
    trace = _trace(prompt, "repeatable_finalize", "swept_endings")
    assert trace is not None
    assert trace.promise == promises.STUCK


def test_a_worker_that_does_not_look_at_its_lease_breaks_that_promise_alone() -> None:
    """What it appends before the next attempt begins is taken back by that attempt's snapshot; later it is refused."""
    tolerated = (promises.EXPIRED_APPENDS,)
    for story in (Story.TEXT, Story.TOOL):
        assert _trace(Bounds(story=story, faults=1), "lease_check", tolerated=tolerated) is None
    twice = Bounds(story=Story.TEXT, faults=2, kinds=frozenset({Fault.PAUSE, Fault.WIPE}))
    assert _trace(twice, "lease_check", tolerated=tolerated) is None
