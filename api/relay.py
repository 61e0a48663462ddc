"""The relay of an API process: one event-loop thread that owns every socket and every SSE reader.

Request threads authenticate, do the handshake and hand the raw connection over; from then on it costs no request thread.
The thread is started in the process that serves (after a fork), by the first caller of `start`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID

import uvloop

from api import wire
from api.auth import Caller
from api.catch_up import ReaderSource, Sources, is_done
from api.close_codes import CloseCode
from api.hub import Hub, OnCancel
from api.readers import (
    NOBODY,
    ConnectedReader,
    Ended,
    EventStreamReader,
    Heartbeat,
    MessageTarget,
    OpsTarget,
    ProjectTarget,
    QueueReader,
    SocketReader,
    Target,
    Waiter,
    tune,
)
from shared.errors import Refused
from shared.event_log import EventLog
from shared.settings import Settings

__all__ = [
    "Admission",
    "FollowingEnded",
    "Heartbeat",
    "MessageTarget",
    "OpsTarget",
    "ProjectTarget",
    "ReaderSource",
    "Relay",
    "Target",
    "TooManyReaders",
    "is_done",
]

_POOL_THREADS: Final = 4
_CALL_THREADS: Final = 4
DATABASE_THREADS: Final = _POOL_THREADS + _CALL_THREADS
"""Threads of the relay's that may each hold a connection of the database."""
MOST_UNKNOWN: Final = 1_000
"""Sockets of this process whose clients have yet to say who they are."""
MOST_UNKNOWN_PER_ADDRESS: Final = 100
"""Of them, so many from one address, so that one cannot keep all others out."""
RESTARTS: Final = wire.close_frame(CloseCode.RESTART, CloseCode.RESTART.reason)
"""What a socket is told that comes while the process stops."""


class TooManyReaders(Refused):
    """You have too many open sockets and event streams."""

    code = "too_many_readers"


class FollowingEnded(Exception):
    """A following ended before the message did; `code` says why, and whether to come back."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code.reason)
        self.code = code


class Admission:
    """A user's place among the readers of this process. `release` gives it back, once.

    `token_sha256` is of the token that the user came with, None for who has yet to show one; `place` is where the connection
    comes from, None where that does not count.
    """

    __slots__ = ("_give_back", "is_released", "place", "token_sha256", "user_id")

    def __init__(
        self, user_id: UUID, token_sha256: bytes | None, place: str | None, give_back: Callable[[Admission], None]
    ) -> None:
        self.user_id = user_id
        self.token_sha256 = token_sha256
        self.place = place
        self.is_released = False
        self._give_back = give_back

    def release(self) -> None:
        self._give_back(self)


class Relay:
    """Methods may be called from any thread; those that need the loop start it where `start` was not called."""

    def __init__(
        self, *, redis_url: str, log: EventLog, rows: ReaderSource, settings: Settings, on_cancel: OnCancel
    ) -> None:
        """`on_cancel(message_id, user_id)` may block; what it raises of our errors goes to the client as a frame."""
        self._redis_url = redis_url
        self._sources = Sources(log, rows)
        self._settings = settings
        self._on_cancel = on_cancel
        self._admitted: Counter[UUID] = Counter()
        self._admitted_from: Counter[tuple[str, bool]] = Counter()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hub: Hub | None = None
        self._stop: asyncio.Event | None = None
        self._grace_s = 0.0
        self._is_stopped = False

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the loop's thread. Harmless where it runs; does nothing after `stop`."""
        with self._lock:
            if self._thread is not None or self._is_stopped:
                return
            ready = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(ready,), name="relay", daemon=True)
            self._thread.start()
            ready.wait()

    def stop(self, grace_s: float) -> None:
        """Close sockets with 1012 and end event streams; drop who has not gone after `grace_s`. Harmless a second time.

        Threads in `follow` and `wait_final` come back.
        """
        with self._lock:
            self._is_stopped = True
            self._grace_s = grace_s
            thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        try:
            loop.call_soon_threadsafe(stop.set)
        except RuntimeError:
            pass  # stopped before
        thread.join()

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        with (
            ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="relay-read") as pool,
            ThreadPoolExecutor(_CALL_THREADS, thread_name_prefix="relay-call") as callers,
        ):
            self._hub = Hub(
                redis_url=self._redis_url,
                sources=self._sources,
                settings=self._settings,
                pool=pool,
                callers=callers,
                on_cancel=self._on_cancel,
            )
            self._stop = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            self._hub.start()
            ready.set()
            await self._stop.wait()
            await self._hub.close(self._grace_s)
            for executor in (pool, callers):
                executor.shutdown(wait=False, cancel_futures=True)

    # --- readers ------------------------------------------------------------------------------------------------

    def admit_caller(self, caller: Caller, place: str | None = None) -> Admission:
        """As `admit`; the reader is sent away when the caller's token is revoked or expires."""
        return self.admit(caller.user_id, caller.token_sha256, place)

    def admit(self, user_id: UUID, token_sha256: bytes | None = None, place: str | None = None) -> Admission:
        """Take a place for one more reader of this user. Raises `TooManyReaders`.

        `NOBODY` stands for all those who have yet to say who they are. `place` is where a connection comes from (see
        `api.addresses`), of which so many are let in, and fewer while nobody is known; None where that does not count.
        """
        is_unknown = user_id == NOBODY
        most = MOST_UNKNOWN if is_unknown else self._settings.max_sockets_per_user
        most_from = self._settings.max_sockets_per_address or sys.maxsize
        if is_unknown:
            most_from = min(most_from, MOST_UNKNOWN_PER_ADDRESS)
        with self._lock:
            if self._admitted[user_id] >= most:
                raise TooManyReaders
            if place is not None:
                if self._admitted_from[place, is_unknown] >= most_from:
                    raise TooManyReaders("There are too many open sockets and event streams from this address.")
                self._admitted_from[place, is_unknown] += 1
            self._admitted[user_id] += 1
        return Admission(user_id, token_sha256, place, self._give_back)

    def _give_back(self, admission: Admission) -> None:
        with self._lock:
            if admission.is_released:
                return
            admission.is_released = True
            self._admitted[admission.user_id] -= 1
            if not self._admitted[admission.user_id]:
                del self._admitted[admission.user_id]
            if admission.place is not None:
                place = admission.place, admission.user_id == NOBODY
                self._admitted_from[place] -= 1
                if not self._admitted_from[place]:
                    del self._admitted_from[place]

    def adopt_socket(self, sock: socket.socket, target: Target, admission: Admission) -> None:
        """Own a WebSocket whose 101 was sent, and its admission."""
        self.adopt(sock, lambda hub: SocketReader(hub, target, admission), admission, RESTARTS)

    def adopt_sse(
        self,
        sock: socket.socket,
        target: Target,
        admission: Admission,
        *,
        headers: Iterable[tuple[str, str]] = (),
        chunked: bool = True,
    ) -> None:
        """Own a connection whose request asks for events, and its admission. The whole answer is written here.

        `headers` are added to the answer's own. `chunked` False serves a client of HTTP/1.0.
        """
        headers = list(headers)
        head = wire.event_stream_head(headers, chunked=chunked)
        self.adopt(
            sock,
            lambda hub: EventStreamReader(hub, target, admission, head=head, chunked=chunked),
            admission,
            wire.event_stream_head(headers, chunked=False),
        )

    def adopt(
        self,
        sock: socket.socket,
        make: Callable[[Hub], ConnectedReader],
        admission: Admission,
        goodbye: bytes,
    ) -> None:
        """Own a connection, its admission and the reader that `make` makes on the loop.

        `goodbye` is what is sent where the relay has stopped.
        """
        try:
            sock.setblocking(False)
            tune(sock, self._settings)
        except OSError:  # gone already
            sock.close()
            admission.release()
            return
        if not self._post(lambda hub, loop: hub.adopt(sock, make(hub))):
            _turn_away(sock, goodbye)
            admission.release()

    def wait_final(self, message_id: UUID, timeout_s: float) -> bool:
        """Whether the message is final within `timeout_s`. Blocks the calling thread."""
        if (hub := self._running()) is None:
            return False
        waiter = Waiter(hub, MessageTarget(message_id=message_id, project_id=NOBODY, user_id=NOBODY))
        if not self._post(lambda hub, loop: hub.join(waiter)):
            return False
        try:
            return waiter.wait(timeout_s)
        finally:
            self._post(lambda hub, loop: waiter.close(CloseCode.RESTART))

    def follow(self, target: Target, admission: Admission | None = None) -> Iterator[bytes | Heartbeat]:
        """The encoded events of a reader that has no connection of its own, for servers that give none away.

        With the `admission`, which stays the caller's, it ends when the token does by which it was let in.

        Blocks the calling thread between items. Ends after the terminal event; raises `FollowingEnded` where it ends
        for another reason. Close the iterator when the client has gone.
        """
        if (hub := self._running()) is None:
            raise FollowingEnded(CloseCode.RESTART)
        reader = QueueReader(
            hub,
            target,
            lambda reader: self._post(lambda hub, loop: reader.resume_writing()),
            None if admission is None else admission.token_sha256,
        )
        if not self._post(lambda hub, loop: hub.join(reader)):
            raise FollowingEnded(CloseCode.RESTART)
        try:
            while True:
                item = reader.take()
                if not isinstance(item, Ended):
                    yield item
                elif item.code is CloseCode.FINISHED:
                    return
                else:
                    raise FollowingEnded(item.code)
        finally:
            self._post(lambda hub, loop: reader.close(CloseCode.RESTART))

    def withdraw(self, project_id: UUID) -> None:
        """Close this process's readers of a project with 4403. `notices.access_withdrawn` tells the other processes."""
        self._withdraw(project_id, None)

    def withdraw_user(self, project_id: UUID, user_id: UUID) -> None:
        """Close this process's readers of one user in a project with 4403."""
        self._withdraw(project_id, user_id)

    def _withdraw(self, project_id: UUID, user_id: UUID | None) -> None:
        if self._hub is not None:  # otherwise nobody reads here
            self._post(lambda hub, loop: hub.withdraw(project_id, user_id))

    def _running(self) -> Hub | None:
        """The hub, started if need be; None after `stop`."""
        self.start()
        return None if self._is_stopped else self._hub

    def _post(self, act: Callable[[Hub, asyncio.AbstractEventLoop], object]) -> bool:
        """Have `act` run on the loop. False where the relay has stopped."""
        hub, loop = self._running(), self._loop
        if hub is None or loop is None:
            return False
        try:
            loop.call_soon_threadsafe(act, hub, loop)
        except RuntimeError:
            return False
        return True

    # --- counts -------------------------------------------------------------------------------------------------

    @property
    def readers(self) -> int:
        """Connections and other readers, those that are closing included."""
        return len(self._hub.readers) if self._hub is not None else 0

    @property
    def channels(self) -> int:
        """Channels subscribed to, those that linger without a reader included."""
        return len(self._hub.channels) if self._hub is not None else 0

    @property
    def is_connected(self) -> bool:
        """Whether the subscription connection stands."""
        return self._hub is not None and self._hub.is_connected


def _turn_away(sock: socket.socket, goodbye: bytes) -> None:
    """Tell a client that comes while the process stops to come back."""
    with sock:
        try:
            sock.send(goodbye)
        except OSError:
            pass  # gone already
