"""How often: limits a minute, counted for all API processes together in Redis, and by each alone while Redis is away.

The windows in Redis are those of `limits` (a sliding window, approximated by two counters). To ask for each request would
cost a round trip each, so a process takes a twentieth of the limit at a time, and the first such part of a minute on credit:
who stays below it costs Redis nothing. So a limit may be exceeded by a twentieth for each process; not again and again, since
who was refused has had that.

Nothing is refused or slow because Redis is away: it is asked with a deadline of `ASK_S`, and after a failure by one request
every `AWAY_S`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Protocol

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from shared import event_log, keys

ASK_S: Final = 0.05
AWAY_S: Final = 5.0
WINDOW_S: Final = 60.0
_PARTS: Final = 20
MOST_KNOWN: Final = 50_000
"""Users or addresses that are counted at a time; of more, those whose minute began first are forgotten."""
MOST_GOOD: Final = 10_000
"""Tokens that are remembered as good."""

_log = logging.getLogger(__name__)


class Rate(StrEnum):
    """What is counted, each for somebody."""

    USER = "user"
    ADDRESS = "address"
    BAD_TOKENS = "bad_tokens"


class Shared(Protocol):
    """The count of all processes."""

    def take(self, rate: Rate, key: str, amount: int, most: int) -> float:
        """Count `amount` more: 0, or, where that would be more than `most` a minute, after how many seconds to come back.

        Raises anything where it is away.
        """
        ...


class InRedis:
    """`Shared`, in keys that begin with `keys.RATES`. Connects at first use."""

    def __init__(self, redis_url: str, *, deadline_s: float = ASK_S) -> None:
        self._client = event_log.connect(redis_url, timeout_s=deadline_s)
        storage = RedisStorage("redis://", connection_pool=self._client.connection_pool, key_prefix=keys.RATES)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    def take(self, rate: Rate, key: str, amount: int, most: int) -> float:
        item = RateLimitItemPerMinute(most, namespace=rate.value)
        if self._limiter.hit(item, key, cost=amount):
            return 0.0
        reset_at_s = self._limiter.get_window_stats(item, key).reset_time
        return min(WINDOW_S, max(1.0, reset_at_s - time.time()))


class _Count:
    """Of one user or address, in this process and minute."""

    __slots__ = ("ends_at_s", "granted", "is_asking", "is_refused", "used")

    def __init__(self, ends_at_s: float, granted: int) -> None:
        self.ends_at_s = ends_at_s
        self.granted = granted
        self.used = 0
        self.is_asking = False
        self.is_refused = False


class Rates:
    """May be used from any thread."""

    def __init__(
        self,
        most: Mapping[Rate, int],
        shared: Shared | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most` a minute, 0 for no limit. Without `shared` each process counts alone."""
        self._most = {rate: count for rate, count in most.items() if count}
        self._shared = shared
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[Rate, dict[str, _Count]] = {rate: {} for rate in self._most}
        self._good: dict[bytes, float] = {}
        self._ask_again_at_s: float | None = None
        """None: it answered last time."""

    def spend(self, rate: Rate, key: str) -> float:
        """Count one more of `key`'s: 0, or after how many seconds to come back."""
        most = self._most.get(rate)
        if most is None:
            return 0.0
        now_s = self._clock()
        part = max(1, most // _PARTS)
        with self._lock:
            count = self._count(rate, key, now_s, part)
            if count.is_refused:
                return count.ends_at_s - now_s
            count.used += 1
            if count.used <= count.granted or count.is_asking:
                return 0.0
            count.is_asking = True
            asked_for = 2 * part if count.granted == part else part
        wait_s = self._ask(rate, key, asked_for, count, most, now_s)
        with self._lock:
            count.is_asking = False
            if wait_s > 0:
                count.is_refused = True
                count.ends_at_s = min(count.ends_at_s, now_s + wait_s)
                return count.ends_at_s - now_s
            count.granted = min(most, max(count.granted + part, count.used))
        return 0.0

    def wait_s(self, rate: Rate, key: str) -> float:
        """As `spend`, and counts nothing."""
        count = self._counts[rate].get(key) if rate in self._most else None
        if count is None or not count.is_refused:
            return 0.0
        return max(0.0, count.ends_at_s - self._clock())

    def remember_good(self, token_sha256: bytes) -> None:
        """Whoever has this token is not refused for what others at the same address try."""
        now_s = self._clock()
        with self._lock:
            self._good.pop(token_sha256, None)
            self._good[token_sha256] = now_s
            if len(self._good) > MOST_GOOD:
                del self._good[next(iter(self._good))]

    def was_good(self, token_sha256: bytes) -> bool:
        """Whether it was in the last few minutes."""
        seen_at_s = self._good.get(token_sha256)
        return seen_at_s is not None and self._clock() - seen_at_s < 5 * WINDOW_S

    def _count(self, rate: Rate, key: str, now_s: float, part: int) -> _Count:
        counts = self._counts[rate]
        count = counts.get(key)
        if count is None or now_s >= count.ends_at_s:
            credit = 0 if count is not None and count.is_refused else part  # who was refused has had this minute's
            counts.pop(key, None)
            count = counts[key] = _Count(now_s + WINDOW_S, credit)
            if len(counts) > MOST_KNOWN:
                del counts[next(iter(counts))]
        return count

    def _ask(self, rate: Rate, key: str, amount: int, count: _Count, most: int, now_s: float) -> float:
        if self._shared is not None and self._may_ask(now_s):
            try:
                wait_s = self._shared.take(rate, key, amount, most)
            except Exception as error:  # whatever is wrong there, requests are served
                self._ask_again_at_s = self._clock() + AWAY_S
                _log.warning("limits are counted by this process alone: %s", type(error).__name__)
            else:
                self._ask_again_at_s = None
                return wait_s
        return count.ends_at_s - now_s if count.used > most else 0.0

    def _may_ask(self, now_s: float) -> bool:
        with self._lock:
            if self._ask_again_at_s is None:
                return True
            if now_s < self._ask_again_at_s:
                return False
            self._ask_again_at_s = now_s + AWAY_S  # one finds out; the others go on
            return True
