"""The loop's side of the relay: one Redis subscription connection, every channel and every reader of this process.

One task ticks for all of them: heartbeats, deadlines of slow readers, and the comparison of idle channels with the row
and the log. No reader has a task or a timer of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Container
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from api.catch_up import Look, Sources
from api.channels import Channel, MessageChannel
from api.close_codes import CloseCode
from api.connections import Connections
from api.inbound import error_frame
from api.ops_channel import OpsChannel
from api.project_channel import ProjectChannel
from api.readers import (
    ConnectedReader,
    JobTarget,
    MessageTarget,
    OpsTarget,
    ProjectTarget,
    Reader,
    SocketReader,
    Target,
    UserTarget,
)
from api.wire import Frame
from shared import events, keys, metrics
from shared.errors import ChatrelayError
from shared.metrics import Tally
from shared.redis_link import RedisLink
from shared.settings import Settings

LINGER_S: Final = 5.0
"""How long a channel that nobody reads stays subscribed."""
FIRST_CONNECT_S: Final = 1.0
"""How long after its start the hub expects Redis to be there."""
COMPARED_AT_ONCE: Final = 500
ACCESS_CHECKED_EVERY: Final = 5
"""Idle checks: so often it is asked which readers' tokens are good no more, and who in no channel is no member any more."""
STARTED_AT_ONCE: Final = 16
"""Messages whose log and row are being read for their readers; a thousand that come at once take no thousand jobs."""
SUBSCRIBED_AT_ONCE: Final = 500
_TICK_S: Final = 0.25
_READER_TICK_S: Final = 1.0

OnCancel = Callable[[UUID, UUID], None]

logger = logging.getLogger("chatrelay.relay")
T = TypeVar("T")
_CONTROL: Final = keys.CONTROL.encode()


class _Withdrawal(msgspec.Struct, rename="camel"):
    type: str
    token_sha256: str | None = None
    project_id: str | None = None
    user_id: str | None = None


class Hub:
    """To be used on one event loop; `readers` and `channels` may be counted from any thread."""

    def __init__(
        self,
        *,
        redis_url: str,
        sources: Sources,
        settings: Settings,
        pool: Executor,
        callers: Executor,
        on_cancel: OnCancel,
    ) -> None:
        """`pool` reads for readers; `callers` does what clients ask for on their sockets, which may take its time."""
        self.settings = settings
        self.sources = sources
        self.idle_check_s = settings.idle_check_s
        self.now_s = time.monotonic()
        self.heard_at_s = time.time()
        self.readers: set[Reader] = set()
        self.channels: dict[bytes, Channel] = {}
        self._connections = Connections(buffer_bytes=settings.socket_buffer_bytes)
        self._pool = pool
        self._callers = callers
        self._on_cancel = on_cancel
        self._link = RedisLink(
            redis_url,
            on_push=self._on_push,
            on_up=self._on_up,
            on_down=self._on_down,
            on_handed_out=self._on_handed_out,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._starts: deque[Callable[[], bool]] = deque()
        self._started = 0
        self._wake = asyncio.Event()
        self._nobody_left = asyncio.Event()
        self._gives_up_at_s = 0.0
        self._is_comparing = False
        self._is_closing = False
        self._readers_at_s = 0.0
        self._kinds: Counter[str] = Counter()
        self._written = Tally(metrics.EVENTS_WRITTEN)
        self._access_at_s = self.now_s + ACCESS_CHECKED_EVERY * self.idle_check_s
        self._tick_s = min(_TICK_S, settings.idle_check_s / 4, settings.heartbeat_socket_s / 4)
        self._reader_tick_s = min(_READER_TICK_S, settings.heartbeat_socket_s / 4, settings.slow_reader_s / 4)

    @property
    def is_connected(self) -> bool:
        return self._link.is_up

    @property
    def redis_is_up(self) -> bool:
        """Whether the log may be asked; for a moment after the start that is taken for granted."""
        return self._link.is_up or time.monotonic() < self._gives_up_at_s

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections.start()
        self._gives_up_at_s = time.monotonic() + FIRST_CONNECT_S
        self._link.start()
        self._ticker = self._loop.create_task(self._tick_forever(), name="relay-ticker")

    async def close(self, grace_s: float) -> None:
        """Tell every reader that the server restarts, wait for them to go, drop who is left after `grace_s`."""
        self._is_closing = True
        for reader in list(self.readers):
            reader.close(CloseCode.RESTART)
        if not await self._wait_nobody_left(grace_s):
            for reader in list(self.readers):
                reader.abort()
            await self._wait_nobody_left(1.0)  # an aborted connection reports its end a turn later
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await self._link.close()
        self._connections.close()
        self._tell_counts()

    async def _wait_nobody_left(self, timeout_s: float) -> bool:
        self._nobody_left.clear()
        if self.readers:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._nobody_left.wait()
            except TimeoutError:
                return False
        return True

    # --- readers ------------------------------------------------------------------------------------------------

    def adopt(self, sock: socket.socket, reader: ConnectedReader) -> None:
        """Own a non-blocking socket and its reader."""
        connection = self._connections.adopt(sock, reader)
        if connection is None:
            reader.connection_lost()
        else:
            reader.begin(connection)

    def join(self, reader: Reader) -> None:
        if reader not in self.readers:
            self.readers.add(reader)
            self._kinds[reader.kind] += 1
        if self._is_closing:
            reader.close(CloseCode.RESTART)
        elif not isinstance(reader.target, UserTarget):
            self.attach(reader)

    def attach(self, reader: Reader) -> None:
        """Put it into its channel, which is subscribed to if need be."""
        name = _channel_name(reader.target)
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = self._new_channel(name, reader.target)
            self._link.tell("SUBSCRIBE", name)
        channel.join(reader)

    def leave(self, reader: Reader) -> None:
        if reader.channel is not None:
            reader.channel.leave(reader)

    def forget(self, reader: Reader) -> None:
        if reader in self.readers:
            self.readers.remove(reader)
            self._kinds[reader.kind] -= 1
        if not self.readers:
            self._nobody_left.set()

    def withdraw(self, project_id: UUID, user_id: UUID | None) -> None:
        """Close the readers of a project, all or one user's."""
        for reader in list(self.readers):
            reader.withdraw(project_id, user_id)

    def withdraw_tokens(self, digests: Container[bytes]) -> None:
        """Close the readers that came with these tokens."""
        for reader in list(self.readers):
            if reader.token_sha256 is not None and reader.token_sha256 in digests:
                reader.close(CloseCode.WITHDRAWN)

    def cancel(self, reader: SocketReader, message_id: UUID | None) -> None:
        """The client of `reader` asks to cancel its message; on a project's socket the one that it names."""
        target = reader.target
        if not target.may_cancel:
            reader.answer(error_frame("forbidden", "Your role in this project does not allow that."))
            return
        wanted = target.message_id if isinstance(target, MessageTarget) else message_id
        if wanted is None:
            reader.answer(error_frame("bad_frame", 'On this socket "cancel" needs a "messageId".'))
            return
        if wanted in reader.cancelling:
            return
        reader.cancelling |= {wanted}

        def work() -> ChatrelayError | None:
            try:
                self._on_cancel(wanted, target.user_id)
            except ChatrelayError as error:
                return error
            return None

        def then(error: ChatrelayError | None) -> None:
            reader.cancelling -= {wanted}
            if error is not None:
                reader.answer(error_frame(error.code, error.detail))

        self.in_pool(work, then)

    # --- what channels ask for ----------------------------------------------------------------------------------

    def in_pool(self, work: Callable[[], T], then: Callable[[T | None], None]) -> None:
        self._submit(self._pool, work, then)

    def call(self, work: Callable[[], T], then: Callable[[T | None], None]) -> None:
        """As `in_pool`, for what a client asks for: it may wait for a lock or a store that is away, and no reader for it."""
        self._submit(self._callers, work, then)

    def _submit(self, pool: Executor, work: Callable[[], T], then: Callable[[T | None], None]) -> None:
        loop = self._loop
        assert loop is not None

        def finish(result: T | None) -> None:
            self.now_s = time.monotonic()
            try:
                then(result)
            except Exception:
                logger.exception("what was read could not be handed on")

        def on_done(future: Future[T]) -> None:
            if future.cancelled():
                return
            result: T | None = None
            if (error := future.exception()) is not None:
                logger.error("a job of the relay failed", exc_info=error)
            else:
                result = future.result()
            try:
                loop.call_soon_threadsafe(finish, result)
            except RuntimeError:
                pass  # the loop is closed: nobody is left to tell

        try:
            pool.submit(work).add_done_callback(on_done)
        except RuntimeError:
            pass  # it is shut down: the relay stops

    def when_free(self, start: Callable[[], bool]) -> None:
        """Call `start`, which says whether it gave the pool work, as soon as fewer than so many wait for theirs.

        `free` must follow each that did.
        """
        self._starts.append(start)
        self._start_next()

    def free(self) -> None:
        self._started -= 1
        self._start_next()

    def _start_next(self) -> None:
        while self._starts and self._started < STARTED_AT_ONCE:
            self._started += self._starts.popleft()()

    def check_now(self) -> None:
        self._wake.set()

    # --- figures ------------------------------------------------------------------------------------------------

    def count_written(self, count: int) -> None:
        self._written.count += count

    def count_relayed(self, frame: Frame) -> None:
        ts = events.peek_ts(frame.payload)
        if ts is None:
            return
        late_s = time.time() - ts / 1000
        if late_s < 0:
            metrics.RELAY_BEFORE.add()
        metrics.RELAY.observe(max(0.0, late_s), metrics.event_label(frame.kind))

    def _tell_counts(self) -> None:
        self._written.hand_over()
        metrics.SUBSCRIBED.set(self._link.is_up)
        for kind, count in self._kinds.items():
            metrics.SOCKETS.set(count, kind)

    def _new_channel(self, name: bytes, target: Target) -> Channel:
        match target:
            case MessageTarget():
                return MessageChannel(self, name, target.message_id)
            case ProjectTarget() | JobTarget():
                return ProjectChannel(self, name, target.project_id)
            case OpsTarget():
                return OpsChannel(self, name)
            case UserTarget():
                raise AssertionError("a user has no channel")

    # --- Redis --------------------------------------------------------------------------------------------------

    def _on_up(self) -> None:
        self.now_s = time.monotonic()
        self._gives_up_at_s = 0.0
        names = [_CONTROL, *self.channels]
        for start in range(0, len(names), SUBSCRIBED_AT_ONCE):
            self._link.tell("SUBSCRIBE", *names[start : start + SUBSCRIBED_AT_ONCE])

    def _on_down(self) -> None:
        self.now_s = time.monotonic()
        for channel in list(self.channels.values()):
            try:
                channel.on_link_down()
            except Exception:
                logger.exception("a channel could not be told that Redis is gone")

    def _on_push(self, push: list[Any]) -> None:
        self.now_s = time.monotonic()
        self._connections.hold()
        try:
            kind, name = push[0], push[1]
            channel = self.channels.get(name)
            if kind == b"message":
                if channel is not None:
                    channel.on_payload(push[2])
                elif name == _CONTROL:
                    self._on_control(push[2])
            elif kind == b"subscribe" and channel is not None:
                channel.on_confirmed()
        except Exception:
            # A payload that nobody of us made is passed over; a reader that missed an event finds out at the next check.
            logger.exception("what Redis pushed could not be handled")

    def _on_handed_out(self) -> None:
        self.heard_at_s = time.time()
        self._connections.release()

    def _on_control(self, payload: bytes) -> None:
        try:
            told = msgspec.json.decode(payload, type=_Withdrawal)
            if told.type == "withdraw" and told.token_sha256 is not None:
                self.withdraw_tokens({bytes.fromhex(told.token_sha256)})
            elif told.type == "withdraw" and told.project_id is not None:
                self.withdraw(UUID(told.project_id), UUID(told.user_id) if told.user_id is not None else None)
        except (msgspec.DecodeError, ValueError):
            pass  # the channel is public, and not all that is said there is for the relay

    # --- the ticker ---------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._tick_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                self._tick()
            except Exception:
                logger.exception("the relay's tick failed")

    def _tick(self) -> None:
        now_s = self.now_s = time.monotonic()
        self._unsubscribe_empty(now_s)
        if not self._is_comparing:
            self._compare_due(now_s)
        if now_s >= self._access_at_s:
            self._access_at_s = now_s + ACCESS_CHECKED_EVERY * self.idle_check_s
            self._check_tokens()
            self._check_outside_channels()
        if now_s - self._readers_at_s >= self._reader_tick_s:
            self._readers_at_s = now_s
            self._tell_counts()
            for reader in list(self.readers):
                reader.tick(now_s)

    def _check_tokens(self) -> None:
        """Who came with a token that has expired, or whose revocation nobody told of here, is sent away."""
        wanted = {reader.token_sha256 for reader in self.readers if reader.token_sha256 is not None}
        if not wanted:
            return
        sources = self.sources
        self.in_pool(lambda: sources.dead_tokens(wanted), lambda dead: self.withdraw_tokens(dead or ()))

    def _check_outside_channels(self) -> None:
        """A protocol's socket of a project is in no channel, whose idle checks would find that its user lost the project."""
        places = {
            place for reader in self.readers if reader.channel is None and (place := reader.membership) is not None
        }
        if not places:
            return
        sources = self.sources

        def then(strangers: frozenset[tuple[UUID, UUID]] | None) -> None:
            for reader in list(self.readers):
                if strangers and reader.membership in strangers:
                    reader.close(CloseCode.WITHDRAWN)

        self.in_pool(lambda: sources.strangers(places), then)

    def _unsubscribe_empty(self, now_s: float) -> None:
        empty = [
            channel
            for channel in self.channels.values()
            if channel.empty_since_s is not None and now_s - channel.empty_since_s >= LINGER_S
        ]
        for channel in empty:
            del self.channels[channel.name]
            self._link.tell("UNSUBSCRIBE", channel.name)

    def _compare_due(self, now_s: float) -> None:
        due: list[Channel] = []
        message_ids: list[UUID] = []
        project_ids: list[UUID] = []
        for channel in list(self.channels.values()):
            if channel.check_at_s > now_s:
                continue
            if len(message_ids) + len(project_ids) >= COMPARED_AT_ONCE:
                break
            messages, projects = channel.compared()
            channel.check_at_s += random.random() * self.idle_check_s / 4  # so that channels of one age part company
            if messages or projects:
                due.append(channel)
                message_ids += messages
                project_ids += projects
        if not due:
            return
        self._is_comparing = True
        sources, redis_is_up = self.sources, self.redis_is_up
        members = (reader.membership for channel in due for reader in channel.readers)
        memberships = {member for member in members if member is not None}

        def compare() -> Look:
            return sources.compare(message_ids, project_ids, memberships, redis_is_up=redis_is_up)

        def then(look: Look | None) -> None:
            self._is_comparing = False
            self._wake.set()  # there may be more that are due
            if look is None:
                return
            for channel in due:
                self._close_strangers(channel, look.strangers)
                if channel.readers:
                    channel.on_compared(look)

        self.in_pool(compare, then)

    def _close_strangers(self, channel: Channel, strangers: Container[tuple[UUID, UUID]]) -> None:
        """Who lost their place in the project between being let in and joining was not told to go."""
        for reader in list(channel.readers):
            if reader.membership in strangers:
                reader.close(CloseCode.WITHDRAWN)


def _channel_name(target: Target) -> bytes:
    match target:
        case MessageTarget():
            return keys.message_channel(target.message_id).encode()
        case ProjectTarget() | JobTarget():
            return keys.project_channel(target.project_id).encode()
        case OpsTarget():
            return keys.OPS.encode()
        case UserTarget():
            raise AssertionError("a user has no channel")
