"""Clients that follow a message as clients should: to its end, coming back with `after` whenever they are cut off.

    with Audience(stack, person.token, message_id) as audience:
        audience.wait_text("the first half")
        ...                                     # something happens to the servers
        audience.check(person.row(message_id))

Each follower has a thread of its own, so that it reads on while the test does something else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeAlias

import httpx
import websockets.exceptions

from shared import events
from shared.events import Snapshot, StreamEvent
from shared.transcript import Transcript, fold
from tests.readers import Reader, ReaderEnded, SocketReader, SseReader
from tests.stack import Stack
from tests.trace_checker import check_trace

Transport: TypeAlias = Literal["socket", "sse"]

WAIT_S: Final = 40.0
_LOOK_S: Final = 1.0
"""How often a follower looks whether it is to leave."""
_COMES_BACK_S: Final = 0.1
_JOIN_S: Final = 35.0
_MOST_OUTPUT: Final = 20_000


class Follower:
    """One client of one message. It takes the web processes in turn, from number `first` on.

    `leaves_after` tells after how many events of a connection it leaves and comes back; None: it stays.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str,
        message_id: str,
        *,
        transport: Transport,
        first: int = 0,
        leaves_after: Callable[[], int] | None = None,
    ) -> None:
        self.name = f"{transport} reader from web-{first + 1} on"
        self.close_codes: list[int | None] = []
        """Of each connection that ended, a socket's; None where it was cut off or left, or none came about."""
        self._urls = urls
        self._token = token
        self._message_id = message_id
        self._transport = transport
        self._web = first
        self._leaves_after = leaves_after
        self._frames: list[bytes] = []
        self._at_s: list[float] = []
        self._changed = threading.Condition()
        self._leaving = False
        self._is_done = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name=f"{self.name} of {message_id}")

    @property
    def events(self) -> list[StreamEvent]:
        with self._changed:
            return [events.decode(frame) for frame in self._frames]

    @property
    def has_left(self) -> bool:
        """Whether it went for good."""
        return self._leaving

    @property
    def frames(self) -> list[bytes]:
        """The events' bytes, over all connections."""
        with self._changed:
            return list(self._frames)

    @property
    def content(self) -> str:
        """The text that it shows now."""
        return fold(Transcript(), self.events).content

    def wait_for(self, predicate: Callable[[StreamEvent], bool], *, timeout_s: float = WAIT_S) -> StreamEvent:
        """The first event that fits, received already or yet to come. Raises `TimeoutError`."""
        found: StreamEvent = self._wait(
            lambda: next((event for event in self._events() if predicate(event)), None), timeout_s
        )
        return found

    def wait_text(self, text: str, *, timeout_s: float = WAIT_S) -> None:
        """Until what it shows ends with `text`."""
        self._wait(lambda: fold(Transcript(), self._events()).content.endswith(text) or None, timeout_s)

    def received_at_s(self, event: StreamEvent) -> float:
        """When it had an event, on the monotonic clock."""
        with self._changed:
            return self._at_s[self._events().index(event)]

    def finish(self, *, timeout_s: float = WAIT_S) -> list[StreamEvent]:
        """All that it received, once the server has ended its last connection after the terminal event."""
        self._wait(lambda: self._is_done or None, timeout_s)
        self._thread.join()
        if self._transport == "socket":
            assert self.close_codes[-1] == 1000, f"{self.name}: {self.close_codes}"
        return self.events

    def check(self, row: Mapping[str, Any]) -> list[StreamEvent]:
        """`finish`, and the trace checker over all of it against the row as a GET shows it."""
        received = self.finish()
        try:
            check_trace(received, row=row)
        except AssertionError as violation:
            violation.add_note(f"{self.name} received:\n" + b"\n".join(self.frames).decode())
            raise
        return received

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        self._thread.join(_JOIN_S)

    def _events(self) -> list[StreamEvent]:
        return [events.decode(frame) for frame in self._frames]

    def _wait(self, look: Callable[[], Any], timeout_s: float) -> Any:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while (found := look()) is None:
                left_s = deadline_s - time.monotonic()
                if self._failure is not None or self._is_done or left_s < 0 or not self._changed.wait(left_s):
                    received = b"\n".join(self._frames).decode()
                    raise TimeoutError(
                        f"{self.name} waited in vain; connections ended with {self.close_codes}; received:\n{received}"
                    ) from self._failure
            return found

    def _follow(self) -> None:
        try:
            while not self._leaving and not self._is_done:
                self._connect()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def _connect(self) -> None:
        url = self._urls[self._web % len(self._urls)]
        self._web += 1
        reader: SocketReader | SseReader
        reader = SocketReader(url, self._token) if self._transport == "socket" else SseReader(url, self._token)
        last = self._frames[-1] if self._frames else None
        try:
            with reader:
                reader.follow(self._message_id, after=None if last is None else str(events.peek(last)[1]))
                self._receive(reader)
        except (OSError, httpx.TransportError, websockets.exceptions.InvalidHandshake) as error:
            if isinstance(error, websockets.exceptions.InvalidStatus) and error.response.status_code != 503:
                raise
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 503:
                raise
        self.close_codes.append(reader.close_code if isinstance(reader, SocketReader) else None)
        with self._changed:
            last = self._frames[-1] if self._frames else None
            if reader.ended and last is not None and events.is_terminal_payload(events.peek(last)[0], last):
                self._is_done = True
                self._changed.notify_all()
        if not self._is_done:
            time.sleep(_COMES_BACK_S)

    def _receive(self, reader: Reader) -> None:
        most = self._leaves_after() if self._leaves_after is not None else None
        taken = 0
        while not self._leaving and (most is None or taken < most):
            try:
                reader.until(lambda event: True, timeout_s=_LOOK_S)
            except TimeoutError:
                continue
            except ReaderEnded:
                return
            taken += 1
            with self._changed:
                self._frames.append(reader.frames[-1])
                self._at_s.append(time.monotonic())
                self._changed.notify_all()


class Audience:
    """A follower over each transport from each web process on, and what they have in common.

    `wanders` adds one over each transport that leaves after so many events, comes back at the other process and so on; it
    is checked with the others, and otherwise nobody waits for it.
    """

    def __init__(
        self,
        stack: Stack,
        token: str,
        message_id: str,
        *,
        leaves_after: Callable[[], int] | None = None,
        wanders: Callable[[], int] | None = None,
    ) -> None:
        self._stack = stack
        transports: tuple[Transport, ...] = ("socket", "sse")
        self.followers = [
            Follower(stack.urls, token, message_id, transport=transport, first=web, leaves_after=leaves_after)
            for web in range(len(stack.urls))
            for transport in transports
        ]
        self._wanderers = [
            Follower(stack.urls, token, message_id, transport=transport, first=number, leaves_after=wanders)
            for number, transport in enumerate(transports)
            if wanders is not None
        ]

    def wait_for(self, predicate: Callable[[StreamEvent], bool]) -> None:
        self._all(lambda follower: follower.wait_for(predicate))

    def wait_text(self, text: str) -> None:
        self._all(lambda follower: follower.wait_text(text))

    def finish(self) -> None:
        self._all(lambda follower: follower.finish(), (*self.followers, *self._wanderers))

    def _all(self, wait: Callable[[Follower], object], followers: Sequence[Follower] = ()) -> None:
        for follower in followers or self.followers:
            try:
                wait(follower)
            except TimeoutError as error:
                error.add_note(f"what the processes wrote last:\n{self._stack.all_output()[-_MOST_OUTPUT:]}")
                raise

    def check(self, row: Mapping[str, Any]) -> list[list[StreamEvent]]:
        """The stories of those that stay; those that wander have been checked too."""
        for follower in self._wanderers:
            follower.check(row)
        return [follower.check(row) for follower in self.followers]

    def __enter__(self) -> Self:
        for follower in (*self.followers, *self._wanderers):
            follower.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for follower in (*self.followers, *self._wanderers):
            follower._leaving = True
        for follower in (*self.followers, *self._wanderers):
            follower.__exit__()


def is_snapshot(reason: str, *, attempt: int | None = None) -> Callable[[StreamEvent], bool]:
    """Whether an event is a snapshot of this reason, and of this attempt where one is given."""
    return lambda event: (
        isinstance(event, Snapshot)
        and event.reason == reason
        and (attempt is None or events.EventId.parse(event.id).attempt == attempt)
    )
