"""The identity provider's keys, as this process knows them, and when they are asked for again.

The provider is asked by one thread at a time, and at most once in `AGAIN_S`, whoever comes with whatever key's name: what
a stranger sends makes no load for it. Keys are read anew when they are `FRESH_S` old, while requests go on with those that
there are; where the provider does not answer, they are good for `MOST_AGE_S`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Final

from jwt import PyJWK

from api.identity import JwtRefused, KeySet, UnreadableKeys, read_keys
from api.refusals import IdentityUnavailable

AGAIN_S: Final = 10.0
FRESH_S: Final = 300.0
"""So much later, and the time of a fetch, a key that the provider took back opens nothing."""
MOST_AGE_S: Final = 86_400.0
WAIT_S: Final = 5.0
"""How long a request waits for a key that is being asked for."""

_log = logging.getLogger(__name__)


class KeysAway(Exception):
    """The provider's keys could not be had."""


class ProviderKeys:
    """To be used by any thread."""

    def __init__(
        self, fetch: Callable[[], bytes], *, max_waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`fetch` brings the JWK Set; it ends by itself within `WAIT_S` and raises `KeysAway`.

        `max_waiting` requests wait for it at a time; who comes when so many do is told to come back.
        """
        self._fetch = fetch
        self._clock = clock
        self._waiting = BoundedSemaphore(max_waiting)
        self._lock = threading.Lock()
        self._keys: KeySet = {}
        self._read_at_s = float("-inf")
        self._asked_at_s = float("-inf")
        self._has_failed = False
        """The last time that they were asked for."""
        self._asking: threading.Event | None = None
        """Set when the present asking is over."""

    def prepare(self) -> None:
        """Ask for the keys before the first JWT comes. Waits for nothing."""
        self._look("")

    def find(self, kid: str) -> PyJWK:
        """The key of that name. Raises `JwtRefused` where there is none, `IdentityUnavailable` where that is not known."""
        key, asking = self._look(kid)
        if key is not None:
            return key
        if asking is not None:
            self._wait(asking)
            key, _ = self._look(kid)
            if key is not None:
                return key
            if not asking.is_set():  # what it says now is not known yet, and what it said is too old
                raise IdentityUnavailable
        with self._lock:
            is_known = not self._has_failed and self._age_s() <= MOST_AGE_S
        if not is_known:
            raise IdentityUnavailable
        raise JwtRefused("key")

    def state(self) -> str:
        """For who looks whether all is well: "ok", or since when the keys could not be read."""
        with self._lock:
            if not self._has_failed:
                return "ok"
            age_s = self._age_s()
        return "late: the keys could not be read" + (f" for {age_s:.0f} s" if age_s < MOST_AGE_S else "")

    def _look(self, kid: str) -> tuple[PyJWK | None, threading.Event | None]:
        with self._lock:
            age_s = self._age_s()
            key = self._keys.get(kid) if age_s <= MOST_AGE_S else None
            is_wanted = key is None or age_s > FRESH_S
            if is_wanted and self._asking is None and self._clock() - self._asked_at_s >= AGAIN_S:
                self._asked_at_s = self._clock()
                self._asking = threading.Event()
                threading.Thread(target=self._ask, args=(self._asking,), name="provider-keys", daemon=True).start()
            if age_s > 2 * FRESH_S and self._asking is not None and not self._has_failed:
                key = None  # nobody came for long: what the provider says now decides
            return key, self._asking

    def _age_s(self) -> float:
        return self._clock() - self._read_at_s

    def _wait(self, asking: threading.Event) -> None:
        if not self._waiting.acquire(blocking=False):
            raise IdentityUnavailable
        try:
            asking.wait(WAIT_S)
        finally:
            self._waiting.release()

    def _ask(self, asking: threading.Event) -> None:
        keys: KeySet | None = None
        try:
            keys = read_keys(self._fetch())
        except KeysAway as error:  # its text is ours
            _log.warning("the identity provider's keys could not be read: %s (%s)", str(error), error.__cause__)
        except UnreadableKeys:
            _log.warning("the identity provider's keys could not be read: there is none in its answer")
        except Exception:
            _log.exception("the identity provider's keys could not be read")
        with self._lock:
            self._has_failed = keys is None
            if keys is not None:
                self._keys = keys
                self._read_at_s = self._clock()
            self._asking = None
        asking.set()
