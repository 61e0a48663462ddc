"""The operators' channel: the lifecycle of all messages, to each operator that watches.

It has no log and no order that could show a gap: what a watcher misses is told as `missed`, with its count where it was
the watcher who did not keep up, else with since when lines may lack. `ready` comes first, read once the subscription stands,
so that nothing lies between what it shows and what follows.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import msgspec

from api.catch_up import Look
from api.channels import Channel, Compared, Surroundings
from api.close_codes import CloseCode
from api.readers import OpsTarget, Reader, State
from api.wire import Frame
from shared import ops_events
from shared.errors import ChatrelayError
from shared.ops_events import Head, Missed

BACKLOG_LINES: Final = 5_000
"""Kept for a watcher whose `ready` is being read; what is beyond is told as missed."""
LOOKED_AT_AGAIN: Final = 4
"""Idle checks after which operators are asked again whether they still are some."""
_MARGIN_S: Final = 1.0
"""What was on its way when Redis last spoke may be lost with it, and clocks differ."""

logger = logging.getLogger("chatrelay.relay")


class _Watcher:
    """What one operator is owed."""

    __slots__ = ("backlog", "left_out", "lost_since_ms", "slow_since_ms", "target")

    def __init__(self, target: OpsTarget) -> None:
        self.target = target
        self.backlog: list[Frame] = []
        """What came while its `ready` was read."""
        self.left_out = 0
        self.slow_since_ms = 0
        self.lost_since_ms: int | None = None

    def leave_out(self, lines: int) -> None:
        if not self.left_out:
            self.slow_since_ms = _now_ms()
        self.left_out += lines

    def lose(self, since_ms: int) -> None:
        if self.lost_since_ms is None:
            self.lost_since_ms = since_ms

    def next_missed(self) -> Frame | None:
        """The next that it is to be told of what it lacks, which counts as told; None where it lacks nothing more."""
        if self.lost_since_ms is not None:
            missed = Missed(count=None, since=self.lost_since_ms, reason="subscription")
            self.lost_since_ms = None
        elif self.left_out:
            missed = Missed(count=self.left_out, since=self.slow_since_ms, reason="slow")
            self.left_out = 0
        else:
            return None
        return Frame("missed", 0, ops_events.encode(missed))


class OpsChannel(Channel):
    """The operators of this process. A watcher is *fetching* while its `ready` is read, then *live* or *slow*."""

    __slots__ = ("_watchers",)

    def __init__(self, hub: Surroundings, name: bytes) -> None:
        super().__init__(hub, name)
        self._watchers: dict[Reader, _Watcher] = {}

    # --- watchers -----------------------------------------------------------------------------------------------

    def on_joined(self, reader: Reader) -> None:
        assert isinstance(reader.target, OpsTarget)
        self._watchers[reader] = _Watcher(reader.target)
        reader.state = State.SETTLING
        if self.is_subscribed or not self.hub.redis_is_up:
            self._open(reader)

    def on_left(self, reader: Reader) -> None:
        reader.state = State.LEFT
        del self._watchers[reader]

    def on_paused(self, reader: Reader) -> None:
        if reader.state is State.LIVE:
            reader.state = State.SLOW

    def on_resumed(self, reader: Reader) -> None:
        if reader.state is State.SLOW:
            reader.state = State.LIVE
            self._tell_missed(reader, self._watchers[reader])

    def _open(self, reader: Reader) -> None:
        reader.state = State.FETCHING
        if not self.is_subscribed:  # Redis is away: `ready` is as of now, and what follows begins later
            self._watchers[reader].lose(_now_ms())

        def then(opening: bytes | None) -> None:
            if reader.state is not State.FETCHING:
                return
            if opening is None:
                reader.close(CloseCode.BROKEN)
                return
            watcher = self._watchers[reader]
            backlog, watcher.backlog = watcher.backlog, []
            reader.state = State.LIVE
            self._offer(reader, watcher, Frame("ready", 0, opening))
            if reader.is_paused and reader.state is State.LIVE:
                reader.state = State.SLOW
            for frame in backlog:
                self._offer(reader, watcher, frame)
            self._tell_missed(reader, watcher)

        self.hub.call(self._watchers[reader].target.opening, then)

    def _tell_missed(self, reader: Reader, watcher: _Watcher) -> None:
        """As far as the reader keeps up; the rest once it reads again."""
        while self.is_subscribed and reader.state is State.LIVE and (frame := watcher.next_missed()) is not None:
            self._offer(reader, watcher, frame)

    # --- live ---------------------------------------------------------------------------------------------------

    def on_payload(self, payload: bytes) -> None:
        frame = Frame("line", 0, payload)
        head: Head | None = None
        for reader, watcher in list(self._watchers.items()):
            wanted = watcher.target.wanted
            if not wanted.passes_all:
                if head is None and (head := _head(payload)) is None:
                    continue  # the channel is public: what is no line has no type
                if not wanted.passes(head):
                    continue
            self._offer(reader, watcher, frame)

    def _offer(self, reader: Reader, watcher: _Watcher, frame: Frame) -> None:
        match reader.state:
            case State.LIVE:
                try:
                    reader.deliver(frame)
                except Exception:
                    logger.exception("an operator could not be written to")
                    reader.abort()
            case State.SLOW:
                watcher.leave_out(1)
            case State.FETCHING if len(watcher.backlog) < BACKLOG_LINES:
                watcher.backlog.append(frame)
            case State.FETCHING:
                watcher.leave_out(1)
            case _:
                pass  # its `ready` will be read after this

    # --- the subscription ---------------------------------------------------------------------------------------

    def on_confirmed(self) -> None:
        """The first time nobody has missed anything; later, whatever was said in between."""
        self.is_subscribed = True
        for reader, watcher in list(self._watchers.items()):
            if reader.state is State.SETTLING:
                self._open(reader)
            elif reader.state is State.LIVE:
                self._tell_missed(reader, watcher)

    def on_link_down(self) -> None:
        self.is_subscribed = False
        since_ms = int((self.hub.heard_at_s - _MARGIN_S) * 1000)
        for reader, watcher in list(self._watchers.items()):
            if reader.state is State.SETTLING:
                self._open(reader)
            else:
                watcher.lose(since_ms)

    # --- the idle check -----------------------------------------------------------------------------------------

    def compared(self) -> Compared:
        """There are no rows to compare with; operators are asked for their scope, which may have been taken back."""
        self.check_at_s = self.hub.now_s + LOOKED_AT_AGAIN * self.hub.idle_check_s
        for reader in self.in_state(State.SETTLING):  # subscribed or not, nobody waits for ever
            self._open(reader)
        for reader in self.readers:
            self._check(reader)
        return Compared()

    def on_compared(self, look: Look) -> None:
        """Nothing is compared."""

    def _check(self, reader: Reader) -> None:
        target = self._watchers[reader].target

        def work() -> bool:
            try:
                return target.may_watch()
            except ChatrelayError:
                return True  # the database does not answer: asked again later

        def then(may_watch: bool | None) -> None:
            if may_watch is False:
                reader.close(CloseCode.WITHDRAWN)

        self.hub.call(work, then)


def _head(payload: bytes) -> Head | None:
    try:
        return ops_events.head(payload)
    except msgspec.DecodeError:
        return None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
