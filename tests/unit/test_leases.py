"""One held message: until when it may be written, and who asked it to end."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from shared.records import Lease
from worker.leases import Hold, Stop


def hold(*, lasts_s: float = 60) -> Hold:
    lease = Lease(message_id=uuid.uuid4(), project_id=uuid.uuid4(), owner="worker-1", attempt=1, run=1)
    return Hold(lease, time.monotonic() + lasts_s)


def test_a_hold_is_valid_until_its_lease_runs_out() -> None:
    """By this process's clock, which was read before the renewal was sent."""
    assert hold(lasts_s=60).is_valid()
    assert not hold(lasts_s=0).is_valid()


def test_a_hold_that_was_lost_is_not_valid_whatever_its_clock_says() -> None:
    held = hold()
    held.ask_to_stop(Stop.LOST)
    assert not held.is_valid()


@pytest.mark.parametrize("reason", [Stop.DRAIN, Stop.CANCEL])
def test_a_hold_that_is_asked_to_end_may_still_be_written(reason: Stop) -> None:
    """What was streamed is settled before the message is handed back or ended."""
    held = hold()
    held.ask_to_stop(reason)
    assert held.is_valid()


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in Stop for b in Stop])
def test_of_two_reasons_to_stop_the_higher_one_wins(first: Stop, second: Stop) -> None:
    """Whoever comes first: what was lost can't be cancelled, and what was cancelled isn't handed back."""
    held = hold()
    told: list[Stop | None] = []
    held.when_stopped(lambda: told.append(held.stop_reason))
    held.ask_to_stop(first)
    held.ask_to_stop(second)
    assert held.stop_reason is max(first, second, key=lambda reason: reason.value)
    assert told == ([first, second] if second.value > first.value else [first])


def test_who_listens_late_hears_of_a_stop_at_once() -> None:
    """A cancel between two rounds stops the next one."""
    held = hold()
    held.ask_to_stop(Stop.CANCEL)
    told: list[str] = []
    held.when_stopped(lambda: told.append("stop"))
    assert told == ["stop"]


def test_who_stopped_listening_hears_nothing() -> None:
    held = hold()
    told: list[str] = []
    held.when_stopped(lambda: told.append("stop"))
    held.when_stopped(None)
    held.ask_to_stop(Stop.CANCEL)
    assert told == []


def test_a_pause_ends_when_the_turn_should() -> None:
    held = hold()
    paused = threading.Thread(target=held.pause, args=(3600,))
    paused.start()
    held.ask_to_stop(Stop.DRAIN)
    paused.join(timeout=30)
    assert not paused.is_alive()
