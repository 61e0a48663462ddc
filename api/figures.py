"""The summary that operators watch: asked of the database at most once in a second, whoever and however many look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.ops_records import Summary

FRESH_S: Final = 1.0
"""For how long a summary is answered again."""


class Figures:
    """One for a process. May be asked from any thread: who comes while it is read waits for that reading."""

    def __init__(self, read: Callable[[], Summary]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._summary: Summary | None = None
        self._began_at_s = 0.0

    def now(self) -> Summary:
        """At most `FRESH_S` old. Raises `StoreUnavailable`."""
        return self.read_after(time.monotonic() - FRESH_S)

    def read_after(self, moment_s: float) -> Summary:
        """One whose reading began after that moment, by `time.monotonic`. Raises `StoreUnavailable`."""
        with self._lock:
            if self._summary is None or self._began_at_s <= moment_s:
                began_at_s = time.monotonic()
                self._summary = self._read()
                self._began_at_s = began_at_s
            return self._summary
