"""Readers: everybody who follows a channel, each kind with its own way to be written to.

A reader is *settling* (it waits for the log and the row to be read; *fetching* while they are), *live* (it is at the
channel's end and gets each event as it comes), *slow* (its buffer is full; nothing is written until it has drained, then
it settles again and gets a snapshot) or *left*. All of it happens on the relay's loop, but for what says otherwise.

Memory a slow reader takes: its buffer's limit and one frame.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import ClassVar, Final, Protocol, TypeAlias
from uuid import UUID

from api import wire
from api.close_codes import CloseCode
from api.connections import Connection
from api.inbound import Answer, Cancel, Closed, Inbound, Misbehaved, Text
from shared import metrics
from shared.events import EventId
from shared.ops_events import Filter
from shared.settings import Settings

VANISHED_GRACE_S: Final = 10.0
"""A client that gave no byte for two heartbeats and this is not there any more."""
CLOSE_GRACE_S: Final = 5.0
"""How long a client has to answer a close."""
MISBEHAVED_GRACE_S: Final = 1.0
"""How long a client that is heard no more has to see why."""
TOO_SLOW_GRACE_S: Final = 2.0
"""How long the frame that says 4008 may wait behind what was not taken."""
MOST_UNREAD_BYTES: Final = 64 * 1024
"""What an SSE client may send after its request; nobody looks at it."""
QUEUE_ITEMS: Final = 256
UNSENT_BYTES: Final = 128 * 1024
"""Bytes that the kernel takes for a connection before they can be sent; with more, a reader is slow sooner, not later."""

RETRY_MS: Final = range(1000, 2001)
RETRY_AFTER_RESTART_MS: Final = range(500, 5001)
"""All that were at one process go to the others: over a longer while."""

_NOT_HEARD: Final = frozenset({CloseCode.FLOOD, CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_TEXT, CloseCode.BROKEN})
"""After these nothing that comes in is looked at."""

logger = logging.getLogger("chatrelay.relay")


def retry(among: range = RETRY_MS) -> bytes:
    """Tells an EventSource after how long to come back; each another time, so that many do not come at once."""
    return wire.retry(random.choice(among))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTarget:
    """One message, followed by one user from `after` on (None: from the newest attempt's start)."""

    message_id: UUID
    project_id: UUID
    user_id: UUID
    after: EventId | None = None
    may_cancel: bool = False

    @property
    def position(self) -> int:
        """Where the reader stands, packed; 0 is before every event."""
        return 0 if self.after is None else wire.pack(self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectTarget:
    """A project with all that happens in it, watched by one user from now on."""

    project_id: UUID
    user_id: UUID
    may_cancel: bool = False

    @property
    def position(self) -> int:
        """Its events have no position among each other."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTarget:
    """One component job, whose phases one user is told of from now on."""

    job_id: UUID
    project_id: UUID
    user_id: UUID

    @property
    def may_cancel(self) -> bool:
        return False

    @property
    def position(self) -> int:
        """Its phases have no position: the newest is what counts."""
        return 0


NOBODY: Final = UUID(int=0)
"""The user of a reader inside this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTarget:
    """Nothing by itself: one user's connection, on which there are readers for what the user asks for."""

    user_id: UUID

    @property
    def project_id(self) -> UUID:
        """It stands in no project; its readers do."""
        return NOBODY

    @property
    def may_cancel(self) -> bool:
        return False

    @property
    def position(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsTarget:
    """The lifecycle of all messages, watched by one operator from now on."""

    user_id: UUID
    wanted: Filter
    opening: Callable[[], bytes]
    """What is told first, read once all that follows is heard. Blocking; raises errors of ours."""
    may_watch: Callable[[], bool]
    """Whether the operator still is one. Blocking; raises errors of ours."""

    @property
    def project_id(self) -> UUID:
        """It stands in no project."""
        return NOBODY

    @property
    def may_cancel(self) -> bool:
        return False

    @property
    def position(self) -> int:
        return 0


Target: TypeAlias = MessageTarget | ProjectTarget | JobTarget | UserTarget | OpsTarget


class State(Enum):
    SETTLING = auto()
    FETCHING = auto()
    LIVE = auto()
    SLOW = auto()
    LEFT = auto()


class Heartbeat(Enum):
    """An item of `Relay.follow` that says that nothing happened for a while."""

    HEARTBEAT = auto()


class Followed(Protocol):
    """What readers ask of their channel."""

    def leave(self, reader: Reader) -> None: ...
    def on_paused(self, reader: Reader) -> None: ...
    def on_resumed(self, reader: Reader) -> None: ...


class Following(Protocol):
    """What readers ask of the hub that keeps them."""

    settings: Settings
    now_s: float
    """The loop's time of its last turn: good enough for heartbeats."""

    def join(self, reader: Reader) -> None: ...
    def leave(self, reader: Reader) -> None:
        """Take it out of its channel; it gets no more events."""
        ...

    def forget(self, reader: Reader) -> None:
        """Its connection is gone."""
        ...

    def cancel(self, reader: SocketReader, message_id: UUID | None) -> None: ...


class Reader(ABC):
    __slots__ = (
        "channel",
        "hub",
        "is_compacted",
        "is_paused",
        "paused_at_s",
        "position",
        "state",
        "target",
        "wrote_at_s",
    )

    kind: ClassVar[str] = "thread"
    """What the metrics call it."""

    def __init__(self, hub: Following, target: Target) -> None:
        self.hub = hub
        self.target = target
        self.channel: Followed | None = None
        self.state = State.SETTLING
        self.position = target.position
        self.is_compacted = False
        """What it is owed next is to come as one snapshot."""
        self.is_paused = False
        self.paused_at_s = 0.0
        self.wrote_at_s = hub.now_s

    @property
    def token_sha256(self) -> bytes | None:
        """Of the token that it is let in by; None for a reader inside this process."""
        return None

    @property
    def membership(self) -> tuple[UUID, UUID] | None:
        """The project and the user that it stands for; None inside this process, and where it is in no project."""
        target = self.target
        return None if NOBODY in (target.user_id, target.project_id) else (target.project_id, target.user_id)

    @abstractmethod
    def deliver(self, frame: wire.Frame) -> None:
        """Send it. Its own pausing is the only effect on the channel that this may have."""

    @abstractmethod
    def close(self, code: CloseCode) -> None:
        """Leave the channel and tell the client why. Only the first call counts."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection without another word."""

    @abstractmethod
    def tick(self, now_s: float) -> None:
        """Heartbeats and deadlines."""

    def pause_writing(self) -> None:
        self.is_paused = True
        self.paused_at_s = time.monotonic()
        if self.channel is not None:
            self.channel.on_paused(self)

    def resume_writing(self) -> None:
        self.is_paused = False
        if self.channel is not None:
            self.channel.on_resumed(self)

    def withdraw(self, project_id: UUID, user_id: UUID | None) -> None:
        """That user, or everybody where it is None, has lost the project: close what shows it."""
        if self.target.project_id == project_id and user_id in (None, self.target.user_id):
            self.close(CloseCode.WITHDRAWN)


class Place(Protocol):
    """What a reader was admitted to, and gives back once."""

    token_sha256: bytes | None
    """Of the token that it came with; None where it has shown none."""

    def release(self) -> None: ...


class ConnectedReader(Reader):
    """A reader with a connection of its own."""

    __slots__ = ("_closed_with", "_closing_since_s", "_connection", "_place")

    def __init__(self, hub: Following, target: Target, place: Place) -> None:
        super().__init__(hub, target)
        self._place = place
        self._connection: Connection | None = None
        self._closed_with: CloseCode | None = None
        self._closing_since_s = 0.0

    def begin(self, connection: Connection) -> None:
        """The connection stands; nothing was written to it by the relay yet."""
        self._connection = connection
        self.on_open()
        self.hub.join(self)

    def on_open(self) -> None:
        """Write what comes first."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """What the client sent."""

    @property
    def token_sha256(self) -> bytes | None:
        return self._place.token_sha256

    def connection_lost(self) -> None:
        if self._closed_with is None:
            metrics.SOCKETS_CLOSED.add("gone")
        self._connection = None
        self.hub.leave(self)
        self.hub.forget(self)
        self._place.release()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def close(self, code: CloseCode) -> None:
        if self._closed_with is not None or self._connection is None:
            return
        self.hub.leave(self)
        self._closed_with = code
        self._closing_since_s = time.monotonic()
        self.count_close(code)
        self.say_goodbye(code)
        if code in _NOT_HEARD and self._connection is not None:
            self._connection.stop_reading()

    def count_close(self, code: CloseCode) -> None:
        metrics.SOCKETS_CLOSED.add(str(int(code)))

    def pause_writing(self) -> None:
        metrics.READERS_SLOW.add()
        super().pause_writing()

    @abstractmethod
    def say_goodbye(self, code: CloseCode) -> None:
        """Write the end; what waits before it is still sent."""

    def tick(self, now_s: float) -> None:
        if self._connection is None:
            return
        if self._closed_with is not None:
            self._tick_closing(now_s - self._closing_since_s)
        elif self.is_paused:
            if now_s - self.paused_at_s > self.hub.settings.slow_reader_s:
                self.close(CloseCode.TOO_SLOW)
        else:
            self.tick_open(now_s)

    @abstractmethod
    def tick_open(self, now_s: float) -> None:
        """As `tick`, for a connection that is open and takes what it is sent."""

    def _tick_closing(self, age_s: float) -> None:
        assert self._connection is not None
        if self._closed_with is CloseCode.TOO_SLOW:
            is_over = age_s > TOO_SLOW_GRACE_S
        elif self._closed_with in _NOT_HEARD:
            is_over = age_s > MISBEHAVED_GRACE_S
        elif self._connection.unsent_bytes:
            is_over = age_s > max(self.hub.settings.slow_reader_s, CLOSE_GRACE_S)
        else:
            is_over = age_s > CLOSE_GRACE_S
        if is_over:
            self._connection.abort()


class SocketReader(ConnectedReader):
    """A WebSocket whose handshake is done."""

    __slots__ = ("_awaits_pong", "_heard_at_s", "_inbound", "cancelling")
    kind = "ws"

    def __init__(self, hub: Following, target: Target, place: Place) -> None:
        super().__init__(hub, target, place)
        self._inbound: Inbound | None = None
        self._heard_at_s = hub.now_s
        self._awaits_pong = False
        self.cancelling: frozenset[UUID] = frozenset()
        """Messages whose cancel is on its way."""

    def deliver(self, frame: wire.Frame) -> None:
        if self._connection is not None:
            self.wrote_at_s = self.hub.now_s
            self._connection.write(frame.text())

    def answer(self, data: bytes) -> None:
        """A reply to what the client said; lost where the client does not read."""
        if self._connection is not None and not self.is_paused and self._closed_with is None:
            self._connection.write(data)

    def say_goodbye(self, code: CloseCode) -> None:
        assert self._connection is not None
        self._connection.write(wire.close_frame(code, code.reason))

    def tick_open(self, now_s: float) -> None:
        assert self._connection is not None
        beat_s = self.hub.settings.heartbeat_socket_s
        if now_s - self._heard_at_s > 2 * beat_s + VANISHED_GRACE_S:
            self._connection.abort()  # it did not even answer a ping
        elif now_s - self.wrote_at_s >= beat_s or (not self._awaits_pong and now_s - self._heard_at_s >= beat_s):
            self._awaits_pong = True
            self.wrote_at_s = now_s
            self._connection.write(wire.PING)

    def data_received(self, data: bytes) -> None:
        self._heard_at_s = self.hub.now_s
        if self._closed_with in _NOT_HEARD:
            return
        if self._inbound is None:
            if self._awaits_pong and wire.is_lone_pong(data):
                self._awaits_pong = False
                return  # most sockets never say more: no parser is kept for them
            self._inbound = self.make_inbound()
        self._awaits_pong = False
        try:
            self._hear(self._inbound, data)
        except Exception:
            logger.exception("a socket's input could not be handled")
            self.close(CloseCode.BROKEN)

    def make_inbound(self) -> Inbound:
        settings = self.hub.settings
        return Inbound(max_bytes=settings.max_frame_bytes, max_frames_per_s=settings.max_frames_per_second)

    def on_text(self, text: str | None) -> None:
        """A message whose meaning is not ours; None for one that is not text. For sockets that make such an `Inbound`."""
        raise NotImplementedError

    def _hear(self, inbound: Inbound, data: bytes) -> None:
        for said in inbound.feed(data, time.monotonic()):
            match said:
                case Answer():
                    self.answer(said.data)
                case Cancel():
                    self.hub.cancel(self, said.message_id)
                case Text():
                    self.on_text(said.text)
                    if self._closed_with in _NOT_HEARD:
                        return
                case Misbehaved():
                    self.close(said.code)
                    self._inbound = None  # and what it holds of what was sent
                case Closed():
                    if self._connection is None:
                        return
                    if self._closed_with is None:
                        metrics.SOCKETS_CLOSED.add("gone")
                        self.hub.leave(self)
                        self._closed_with = CloseCode.FINISHED
                        self._closing_since_s = time.monotonic()
                        self._connection.write(said.answer)
                    self._connection.close()


class EventStreamReader(ConnectedReader):
    """Server-Sent Events: an answer that this reader writes from its head on. `chunked` False is for HTTP/1.0."""

    __slots__ = ("_chunked", "_has_ids", "_head", "_unread_bytes")
    kind = "sse"

    def __init__(self, hub: Following, target: Target, place: Place, *, head: bytes, chunked: bool) -> None:
        super().__init__(hub, target, place)
        self._head = head
        self._chunked = chunked
        self._has_ids = isinstance(target, MessageTarget)
        self._unread_bytes = 0

    def on_open(self) -> None:
        assert self._connection is not None
        head, self._head = self._head, b""
        self._connection.write(head)
        self.write(self.opening())

    def opening(self) -> bytes:
        """What comes behind the head."""
        return retry()

    def heartbeat(self) -> bytes:
        return wire.HEARTBEAT

    def ending(self, code: CloseCode) -> bytes:
        """What comes before the end, which `code` brings."""
        return retry(RETRY_AFTER_RESTART_MS) if code is CloseCode.RESTART else b""

    def write(self, data: bytes) -> None:
        """Send some lines of the stream."""
        if self._connection is not None and data:
            self.wrote_at_s = self.hub.now_s
            self._connection.write(self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        return wire.chunk(data) if self._chunked else data

    def deliver(self, frame: wire.Frame) -> None:
        if self._connection is not None:
            self.wrote_at_s = self.hub.now_s
            if self._has_ids:
                self._connection.write(frame.chunk() if self._chunked else frame.sse())
            else:
                self._connection.write(frame.plain_chunk() if self._chunked else wire.plain_sse(frame.payload))

    def say_goodbye(self, code: CloseCode) -> None:
        assert self._connection is not None
        if code is CloseCode.TOO_SLOW:
            self._connection.abort()
            return
        self.write(self.ending(code))
        if self._chunked:
            self._connection.write(wire.LAST_CHUNK)
        self._connection.close()

    def tick_open(self, now_s: float) -> None:
        if now_s - self.wrote_at_s >= self.hub.settings.heartbeat_socket_s:
            self.write(self.heartbeat())
            self.wrote_at_s = now_s

    def data_received(self, data: bytes) -> None:
        self._unread_bytes += len(data)
        if self._unread_bytes > MOST_UNREAD_BYTES:
            self.abort()


@dataclass(frozen=True, slots=True)
class Ended:
    code: CloseCode


class QueueReader(Reader):
    """A bounded queue between the loop and one thread that takes from it. Any thread may make one."""

    __slots__ = ("_bytes", "_changed", "_items", "_most_bytes", "_on_drained", "_token_sha256")

    def __init__(
        self,
        hub: Following,
        target: Target,
        on_drained: Callable[[QueueReader], object],
        token_sha256: bytes | None = None,
    ) -> None:
        """`on_drained` is called on the taking thread, once the queue is empty after it was full."""
        super().__init__(hub, target)
        self._token_sha256 = token_sha256
        self._changed = threading.Condition()
        self._items: deque[bytes | Heartbeat | Ended] = deque()
        self._bytes = 0
        self._most_bytes = hub.settings.socket_buffer_bytes
        self._on_drained = on_drained

    @property
    def token_sha256(self) -> bytes | None:
        return self._token_sha256

    def take(self) -> bytes | Heartbeat | Ended:
        """The next item; waits for it, no longer than heartbeats allow. For the other thread."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._items, 2 * self.hub.settings.heartbeat_socket_s + VANISHED_GRACE_S
            ):
                return Ended(CloseCode.RESTART)
            item = self._items.popleft()
            if isinstance(item, bytes):
                self._bytes -= len(item)
            is_drained = not self._items and self.is_paused
        if is_drained:
            self._on_drained(self)
        return item

    def _put(self, item: bytes | Heartbeat | Ended) -> None:
        with self._changed:
            self._items.append(item)
            if isinstance(item, bytes):
                self._bytes += len(item)
            is_full = len(self._items) >= QUEUE_ITEMS or self._bytes > self._most_bytes
            if is_full and not self.is_paused:
                self.pause_writing()
            self._changed.notify()

    def deliver(self, frame: wire.Frame) -> None:
        self.wrote_at_s = self.hub.now_s
        self._put(frame.payload)

    def close(self, code: CloseCode) -> None:
        if self.state is State.LEFT:
            return
        self.hub.leave(self)
        self.hub.forget(self)
        self._put(Ended(code))

    def abort(self) -> None:
        self.close(CloseCode.RESTART)

    def tick(self, now_s: float) -> None:
        if self.is_paused:
            if now_s - self.paused_at_s > self.hub.settings.slow_reader_s:
                self.close(CloseCode.TOO_SLOW)
        elif now_s - self.wrote_at_s >= self.hub.settings.heartbeat_socket_s:
            self.wrote_at_s = now_s
            self._put(Heartbeat.HEARTBEAT)


class Waiter(Reader):
    """Waits for the end alone. Any thread may make one."""

    __slots__ = ("_ended", "_is_final")

    def __init__(self, hub: Following, target: Target) -> None:
        super().__init__(hub, target)
        self._ended = threading.Event()
        self._is_final = False

    def wait(self, timeout_s: float) -> bool:
        """Whether the message became final within `timeout_s`. For the other thread."""
        self._ended.wait(timeout_s)
        return self._is_final

    def deliver(self, frame: wire.Frame) -> None:
        """What happens before the end does not matter."""

    def close(self, code: CloseCode) -> None:
        if self.state is State.LEFT:
            return
        self.hub.leave(self)
        self.hub.forget(self)
        self._is_final = code is CloseCode.FINISHED
        self._ended.set()

    def abort(self) -> None:
        self.close(CloseCode.RESTART)

    def tick(self, now_s: float) -> None:
        """The other thread has the deadline."""


def tune(sock: socket.socket, settings: Settings) -> None:
    """Small writes leave at once, and a peer that vanished without a word is noticed."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    silence_s = 2 * settings.heartbeat_socket_s + VANISHED_GRACE_S
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_USER_TIMEOUT", int(silence_s * 1000)),
        ("TCP_KEEPIDLE", max(1, int(settings.heartbeat_socket_s))),
        ("TCP_KEEPINTVL", max(1, int(silence_s / 4))),
        ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
    ):
        if (number := getattr(socket, option, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
