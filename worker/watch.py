"""Notices that this worker hears no bells any more, and ends the process, so that whoever started it starts it again.

A consumer can go deaf while its process lives: a thread that is stuck, a connection that looks open, a fault of a library.
Its leases are renewed all the same, and nothing else would notice while it has room and bells wait.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from shared.errors import LogUnavailable
from shared.event_log import EventLog

_log = logging.getLogger(__name__)

EXIT_CODE: Final = 70
"""EX_SOFTWARE of sysexits.h, as where the streams' loop is stuck."""
_LOOKS: Final = 6
"""How often one looks in the time after which a worker is deaf."""
_POLL_S: Final = 0.1


class Hearing:
    """Whether a worker is deaf: bells waited, it had room, and it answered none, at every look for `deaf_s`. Pure."""

    def __init__(self, *, deaf_s: float) -> None:
        self._deaf_s = deaf_s
        self._answered = 0
        self._since: float | None = None

    def is_deaf(self, now_s: float, *, answered: int, waiting: int, has_room: bool) -> bool:
        """One look. `answered`: bells since the start; `waiting`: in its queues."""
        if answered != self._answered or not waiting or not has_room:
            self._answered = answered
            self._since = None
            return False
        if self._since is None:
            self._since = now_s
        return now_s - self._since >= self._deaf_s


class Watch:
    """Looks, on a thread of its own. Where Redis is away nobody hears anything, and nobody is deaf."""

    def __init__(
        self,
        log: EventLog,
        queues: Sequence[str],
        *,
        deaf_s: float,
        drain_s: float,
        answered: Callable[[], int],
        has_room: Callable[[], bool],
        drain: Callable[[], object],
        held: Callable[[], int],
    ) -> None:
        """`drain` asks that everything be handed back, `held` counts what is not yet."""
        self._log = log
        self._queues = queues
        self._look_s = deaf_s / _LOOKS
        self._drain_s = drain_s
        self._hearing = Hearing(deaf_s=deaf_s)
        self._answered = answered
        self._has_room = has_room
        self._drain = drain
        self._held = held
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _main(self) -> None:
        while not self._stopping.wait(self._look_s):
            if self._is_deaf():
                self._end()

    def _is_deaf(self) -> bool:
        try:
            waiting = sum(map(self._log.bells_waiting, self._queues))
        except LogUnavailable:
            waiting = 0
        return self._hearing.is_deaf(
            time.monotonic(), answered=self._answered(), waiting=waiting, has_room=self._has_room()
        )

    def _end(self) -> None:
        """What is held goes to others first. The rest of the process can't be trusted to end in order."""
        _log.critical("bells wait and this worker hears none of them; it ends, to be started again")
        self._drain()
        deadline_s = time.monotonic() + self._drain_s
        while self._held() and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
        os._exit(EXIT_CODE)
