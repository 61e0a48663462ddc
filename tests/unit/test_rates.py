"""Limits a minute: what a process counts by itself, and what it asks of all."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api import rates
from api.rates import AWAY_S, WINDOW_S, Rate, Rates


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Counted:
    """A count of all processes, as the seam asks for it, without a window."""

    taken: Counter[tuple[Rate, str]] = field(default_factory=Counter)
    asked: int = 0
    is_away: bool = False

    def take(self, rate: Rate, key: str, amount: int, most: int) -> float:
        self.asked += 1
        if self.is_away:
            raise ConnectionError
        if self.taken[rate, key] + amount > most:
            return 7.0
        self.taken[rate, key] += amount
        return 0.0


def allowed(found: Rates, count: int, key: str = "anna", rate: Rate = Rate.USER) -> int:
    """How many of `count` requests are let through."""
    return sum(found.spend(rate, key) == 0 for _ in range(count))


@pytest.mark.parametrize("most", [1, 5, 20, 99, 1000])
@pytest.mark.parametrize("is_shared", [True, False])
def test_as_many_as_the_limit_says_are_let_through_or_nearly(most: int, is_shared: bool) -> None:
    """No more; of those that are counted together, up to two twentieths may be lost."""
    found = Rates({Rate.USER: most}, Counted() if is_shared else None, Clock())
    let_through = allowed(found, 3 * most)
    assert let_through <= most
    assert let_through >= (most - 2 * max(1, most // 20) if is_shared else most - max(1, most // 20))
    assert let_through >= 1


@pytest.mark.parametrize("most", [20, 120])
def test_who_goes_on_and_on_gets_no_more_than_the_limit_a_minute(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the windows of `limits`, minute after minute; the first minute of all is that of an approximation."""
    clock = Clock(1_700_000_000.0)
    monkeypatch.setattr(time, "time", clock)  # theirs is the machine's
    limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    class Windows:
        def take(self, rate: Rate, key: str, amount: int, most: int) -> float:
            item = RateLimitItemPerMinute(most)
            if limiter.hit(item, key, cost=amount):
                return 0.0
            return min(WINDOW_S, max(1.0, limiter.get_window_stats(item, key).reset_time - clock()))

    found = Rates({Rate.USER: most}, Windows(), clock)
    minutes = []
    for _ in range(5):
        let_through = 0
        for _ in range(6 * most):
            let_through += found.spend(Rate.USER, "anna") == 0
            clock.now_s += 60 / (6 * most)
        minutes.append(let_through)
    assert all(let_through <= most * 21 // 20 for let_through in minutes[1:]), minutes


def test_each_has_a_limit_of_its_own_and_a_limit_of_0_is_none() -> None:
    found = Rates({Rate.USER: 10, Rate.ADDRESS: 0}, None, Clock())
    assert allowed(found, 50, "anna") == allowed(found, 50, "ben") == 10
    assert allowed(found, 50, "anywhere", Rate.ADDRESS) == 50
    assert found.wait_s(Rate.ADDRESS, "anywhere") == found.wait_s(Rate.BAD_TOKENS, "anywhere") == 0


def test_who_is_refused_is_told_when_to_come_back_and_then_let_in() -> None:
    clock = Clock()
    found = Rates({Rate.USER: 10}, None, clock)
    allowed(found, 10)
    clock.now_s += 20
    assert found.spend(Rate.USER, "anna") == WINDOW_S - 20
    assert found.wait_s(Rate.USER, "anna") == WINDOW_S - 20
    assert found.wait_s(Rate.USER, "ben") == 0
    clock.now_s += WINDOW_S - 20
    assert found.wait_s(Rate.USER, "anna") == 0
    assert allowed(found, 50) == 10


def test_processes_share_a_limit_but_for_a_twentieth_each() -> None:
    shared = Counted()
    processes = [Rates({Rate.USER: 1000}, shared, Clock()) for _ in range(4)]
    let_through = sum(process.spend(Rate.USER, "anna") == 0 for _ in range(1000) for process in processes)
    assert 900 <= let_through <= 1000 + 4 * 50


def test_who_stays_below_a_twentieth_costs_the_others_count_nothing() -> None:
    shared = Counted()
    found = Rates({Rate.USER: 1000}, shared, Clock())
    assert allowed(found, 50) == 50
    assert shared.asked == 0
    assert allowed(found, 500) == 500
    assert shared.asked <= 11
    assert shared.taken[Rate.USER, "anna"] >= 550


def test_without_the_others_count_a_process_counts_alone_and_asks_again_after_a_while() -> None:
    clock, shared = Clock(), Counted(is_away=True)
    found = Rates({Rate.USER: 100}, shared, clock)
    assert allowed(found, 500) == 100
    assert shared.asked == 1
    assert allowed(found, 50, "ben") == 50
    assert shared.asked == 1
    clock.now_s += AWAY_S
    assert allowed(found, 50, "cleo") == 50
    assert shared.asked == 2
    shared.is_away = False
    clock.now_s += AWAY_S
    assert allowed(found, 50, "dora") == 50
    assert shared.taken[Rate.USER, "dora"] > 0


def test_a_refusal_of_the_others_count_is_remembered_for_as_long_as_it_says() -> None:
    clock, shared = Clock(), Counted()
    shared.taken[Rate.USER, "anna"] = 100
    found = Rates({Rate.USER: 100}, shared, clock)
    assert allowed(found, 100) == 5
    assert found.spend(Rate.USER, "anna") == 7.0
    asked = shared.asked
    allowed(found, 1000)
    assert shared.asked == asked


def test_while_one_asks_nobody_waits_for_the_answer() -> None:
    asked, answered = threading.Event(), threading.Event()

    class Slow:
        def take(self, rate: Rate, key: str, amount: int, most: int) -> float:
            asked.set()
            assert answered.wait(30)
            return 0.0

    found = Rates({Rate.USER: 100}, Slow(), Clock())
    allowed(found, 5)
    asking = threading.Thread(target=found.spend, args=(Rate.USER, "anna"))
    asking.start()
    assert asked.wait(30)
    assert allowed(found, 20) == 20
    answered.set()
    asking.join()


def test_so_many_addresses_are_counted_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker with a network of his own takes no more memory than that."""
    monkeypatch.setattr(rates, "MOST_KNOWN", 100)
    monkeypatch.setattr(rates, "MOST_GOOD", 100)
    found = Rates({Rate.ADDRESS: 1}, None, Clock())
    for number in range(1000):
        assert found.spend(Rate.ADDRESS, str(number)) == 0
        found.remember_good(number.to_bytes(32, "big"))
    assert found.spend(Rate.ADDRESS, "999") > 0
    assert found.spend(Rate.ADDRESS, "0") == 0
    assert len(found._counts[Rate.ADDRESS]) == len(found._good) == 100


def test_a_token_is_known_as_good_for_a_while() -> None:
    clock = Clock()
    found = Rates({}, None, clock)
    assert not found.was_good(b"x")
    found.remember_good(b"x")
    assert found.was_good(b"x")
    clock.now_s += 6 * WINDOW_S
    assert not found.was_good(b"x")
