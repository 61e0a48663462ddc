"""A Redis channel with its readers: the gap-free join between replay and live.

The join: subscribe, wait for the acknowledgement, read row and log after the reader's position, send that, then what
came live meanwhile, and go on live. An event that is not the next of its attempt and does not open a new one shows a gap:
the reader settles again. What arrives while a reader settles is kept for it; whatever came before the log is read stands
in the log, since append and publish are one step.

`Channel` is what the hub needs to know of any channel; `MessageChannel` tells one message's story,
`api.project_channel.ProjectChannel` a project's.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar
from uuid import UUID

from api import wire
from api.catch_up import Decision, Look, Sources, Verdict, Want, is_current
from api.close_codes import CloseCode
from api.readers import Reader, State
from api.wire import Frame
from shared import events, metrics

BACKLOG_FRAMES: Final = 2_000
BACKLOG_BYTES: Final = 1024 * 1024
PATIENCE_S: Final = 0.4
"""How long a log may end below what the row knows before it is taken for lost."""
LONGEST_QUIET: Final = 4
"""An idle channel's checks get rarer up to this many times the setting; a busy one's come as rarely."""

logger = logging.getLogger("chatrelay.relay")
T = TypeVar("T")


class Compared(NamedTuple):
    """Messages whose row and log, and projects whose rows are to be looked at."""

    messages: Sequence[UUID] = ()
    projects: Sequence[UUID] = ()


class Surroundings(Protocol):
    """What channels ask of the hub that keeps them."""

    now_s: float
    heard_at_s: float
    """When Redis last sent anything, in seconds since the epoch: what it published before is here."""
    idle_check_s: float
    sources: Sources

    @property
    def redis_is_up(self) -> bool: ...

    def in_pool(self, work: Callable[[], T], then: Callable[[T | None], None]) -> None:
        """Run `work` on a thread of the pool, then `then` on the loop; with None where it failed, which was logged."""
        ...

    def call(self, work: Callable[[], T], then: Callable[[T | None], None]) -> None:
        """As `in_pool`, on threads for which no reader of a message waits."""
        ...

    def when_free(self, start: Callable[[], bool]) -> None:
        """Call `start` when it is this one's turn to use the pool; it says whether it does. `free` ends the turn."""
        ...

    def free(self) -> None: ...
    def attach(self, reader: Reader) -> None:
        """Put it into its channel."""
        ...

    def leave(self, reader: Reader) -> None: ...
    def count_written(self, count: int) -> None:
        """So many were handed to readers."""
        ...

    def count_relayed(self, frame: Frame) -> None:
        """An event that is no delta was handed to readers as it came."""
        ...

    def check_now(self) -> None:
        """Look at the channels that are due without waiting for the next tick."""
        ...


class Channel(ABC):
    """Reference-counted by its readers; the hub subscribes and unsubscribes it."""

    __slots__ = ("check_at_s", "checked_at_s", "empty_since_s", "hub", "is_subscribed", "name", "readers")

    def __init__(self, hub: Surroundings, name: bytes) -> None:
        self.hub = hub
        self.name = name
        self.readers: set[Reader] = set()
        self.is_subscribed = False
        self.empty_since_s: float | None = None
        self.check_at_s = hub.now_s + hub.idle_check_s
        self.checked_at_s = hub.now_s

    def check_later(self) -> None:
        """Something came. One looks all the same every so often: at who has lost their place, and at what was lost."""
        idle_s = self.hub.idle_check_s
        self.check_at_s = min(self.hub.now_s + idle_s, self.checked_at_s + LONGEST_QUIET * idle_s)

    def join(self, reader: Reader) -> None:
        self.readers.add(reader)
        self.empty_since_s = None
        reader.channel = self
        self.on_joined(reader)

    def leave(self, reader: Reader) -> None:
        self.readers.discard(reader)
        reader.channel = None
        self.on_left(reader)
        if not self.readers:
            self.empty_since_s = self.hub.now_s

    def in_state(self, state: State) -> list[Reader]:
        return [reader for reader in self.readers if reader.state is state]

    @abstractmethod
    def on_joined(self, reader: Reader) -> None: ...

    @abstractmethod
    def on_left(self, reader: Reader) -> None: ...

    @abstractmethod
    def on_confirmed(self) -> None:
        """Redis acknowledged the subscription, the first time or again."""

    @abstractmethod
    def on_link_down(self) -> None:
        """Nothing comes until the next `on_confirmed`."""

    @abstractmethod
    def on_payload(self, payload: bytes) -> None:
        """What was published."""

    @abstractmethod
    def on_paused(self, reader: Reader) -> None: ...

    @abstractmethod
    def on_resumed(self, reader: Reader) -> None: ...

    @abstractmethod
    def compared(self) -> Compared:
        """What is to be looked at, now that nothing came for a while."""

    @abstractmethod
    def on_compared(self, look: Look) -> None:
        """What that look found."""


class MessageChannel(Channel):
    """The readers of one message."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_is_waiting",
        "_lacking_since_s",
        "_message_id",
        "_quiet",
        "_was_confirmed_meanwhile",
    )

    def __init__(self, hub: Surroundings, name: bytes, message_id: UUID) -> None:
        super().__init__(hub, name)
        self._message_id = message_id
        self._backlog: list[Frame] | None = None
        """What came since the sources began to be read; None while nobody reads them."""
        self._backlog_bytes = 0
        self._is_waiting = False
        """For its turn to have the sources read."""
        self._lacking_since_s: float | None = None
        self._was_confirmed_meanwhile = False
        """The sources began to be read before the subscription stood."""
        self._quiet = 1

    # --- readers ------------------------------------------------------------------------------------------------

    def on_joined(self, reader: Reader) -> None:
        reader.state = State.SETTLING
        if self.is_subscribed or not self.hub.redis_is_up:
            self._fetch()

    def on_left(self, reader: Reader) -> None:
        reader.state = State.LEFT

    def on_paused(self, reader: Reader) -> None:
        if reader.state is State.LIVE:
            reader.state = State.SLOW

    def on_resumed(self, reader: Reader) -> None:
        if reader.state is State.SLOW:
            metrics.READERS_COMPACTED.add()
            reader.is_compacted = True
            self._settle((reader,))

    def _settle(self, readers: Iterable[Reader]) -> None:
        for reader in readers:
            reader.state = State.SETTLING
        self._fetch()

    # --- live ---------------------------------------------------------------------------------------------------

    def on_payload(self, payload: bytes) -> None:
        kind, event_id = events.peek(payload)
        frame = Frame(kind, wire.pack(event_id), payload)
        self._quiet = 1
        self.check_later()
        if self._backlog is not None:
            self._keep(frame, self._backlog)
        self._offer(frame, list(self.readers))

    def _offer(self, frame: Frame, readers: Iterable[Reader]) -> None:
        """Send it to those who are live and wait for it; who missed something before it settles again."""
        position = frame.position
        before = position - 1
        opens = wire.opens_attempt(position)
        is_terminal = frame.kind == "finalized" and frame.is_terminal
        behind: list[Reader] = []
        written = 0
        for reader in readers:
            if reader.state is not State.LIVE:
                continue
            at = reader.position
            if at == before or (opens and at < position):
                reader.position = position
                written += 1
                try:
                    reader.deliver(frame)
                    if is_terminal:
                        reader.close(CloseCode.FINISHED)
                except Exception:
                    self._give_up(reader)
            elif at < position:
                behind.append(reader)
        if written:
            self.hub.count_written(written)
            if frame.kind != "delta":
                self.hub.count_relayed(frame)
        if behind:
            self._settle(behind)

    def _keep(self, frame: Frame, backlog: list[Frame]) -> None:
        backlog.append(frame)
        self._backlog_bytes += len(frame.payload)
        if len(backlog) > BACKLOG_FRAMES or self._backlog_bytes > BACKLOG_BYTES:
            # The readers find the gap at the next event, or at the next check, and fetch again.
            backlog.clear()
            self._backlog_bytes = 0

    def _give_up(self, reader: Reader) -> None:
        logger.exception("a reader could not be written to")
        reader.abort()

    # --- settling -----------------------------------------------------------------------------------------------

    def on_confirmed(self) -> None:
        self.is_subscribed = True
        self._was_confirmed_meanwhile = self._backlog is not None
        self._fetch()
        self._check_soon(0.0)

    def on_link_down(self) -> None:
        self.is_subscribed = False
        self._quiet = 1
        self._fetch()
        self.check_at_s = min(self.check_at_s, self.hub.now_s + self.hub.idle_check_s)

    def _check_soon(self, delay_s: float) -> None:
        self._quiet = 1
        self.check_at_s = self.hub.now_s + delay_s
        if not delay_s:
            self.hub.check_now()

    def _fetch(self) -> None:
        """Have the sources read for all who are settling; once at a time."""
        if self._backlog is None and not self._is_waiting and self.in_state(State.SETTLING):
            self._is_waiting = True
            self.hub.when_free(self._begin_fetch)

    def _begin_fetch(self) -> bool:
        self._is_waiting = False
        wants: set[Want] = set()
        for reader in self.in_state(State.SETTLING):
            reader.state = State.FETCHING
            wants.add(_want(reader))
        if not wants:
            return False
        self._backlog = []
        self._backlog_bytes = 0
        sources, message_id, redis_is_up = self.hub.sources, self._message_id, self.hub.redis_is_up
        is_patient = self._lacking_since_s is None or time.monotonic() - self._lacking_since_s < PATIENCE_S

        def read() -> dict[Want, Decision]:
            return sources.decisions(message_id, wants, is_patient=is_patient, redis_is_up=redis_is_up)

        self.hub.in_pool(read, self._on_decisions)
        return True

    def _on_decisions(self, decisions: dict[Want, Decision] | None) -> None:
        self.hub.free()
        fetched = self.in_state(State.FETCHING)
        backlog, self._backlog = self._backlog or (), None
        if decisions is None:
            for reader in fetched:
                reader.state = State.SETTLING
            self._check_soon(PATIENCE_S)
            return
        is_lacking = False
        for reader in fetched:
            decision = decisions[_want(reader)]
            is_lacking |= decision.verdict is Verdict.LACKING
            try:
                self._apply(reader, decision)
            except Exception:
                self._give_up(reader)
        if not is_lacking:
            self._lacking_since_s = None
        elif self._lacking_since_s is None:
            self._lacking_since_s = time.monotonic()
        if self._was_confirmed_meanwhile:
            self._was_confirmed_meanwhile = False
            self._check_soon(0.0)
        elif is_lacking:
            self._check_soon(PATIENCE_S)
        for frame in backlog:
            self._offer(frame, fetched)
        self._fetch()

    def _apply(self, reader: Reader, decision: Decision) -> None:
        for frame in decision.frames:
            if reader.is_paused:
                reader.state = State.SLOW  # what is left comes, compacted, when it has drained
                return
            reader.position = frame.position
            reader.deliver(frame)
            self.hub.count_written(1)
        reader.position = decision.position
        reader.is_compacted = False
        match decision.verdict:
            case Verdict.DONE:
                reader.close(CloseCode.FINISHED)
            case Verdict.GONE:
                reader.close(CloseCode.WITHDRAWN)
            case Verdict.LIVE | Verdict.LACKING:
                reader.state = State.SLOW if reader.is_paused else State.LIVE

    # --- the idle check -----------------------------------------------------------------------------------------

    def compared(self) -> Compared:
        self._fetch()  # subscribed or not, nobody who settles waits for ever
        self.checked_at_s = self.hub.now_s
        self.check_at_s = self.hub.now_s + self.hub.idle_check_s * self._quiet
        return Compared(messages=(self._message_id,) if self.in_state(State.LIVE) else ())

    def on_compared(self, look: Look) -> None:
        reading = look.messages[self._message_id]
        behind = [
            reader for reader in self.in_state(State.LIVE) if not is_current(wire.unpack(reader.position), reading)
        ]
        if behind:
            self._settle(behind)
        elif reading.database_answered and self.hub.redis_is_up and self._lacking_since_s is None:
            self._quiet = min(self._quiet * 2, LONGEST_QUIET)


def _want(reader: Reader) -> Want:
    return Want(wire.unpack(reader.position), reader.is_compacted)
