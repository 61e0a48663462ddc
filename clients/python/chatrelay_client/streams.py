"""A message that is followed, or a project that is watched, over one connection after the other."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Generic, NoReturn, Protocol, Self, TypeVar

import msgspec

from chatrelay_client import connections
from chatrelay_client.backoff import backoff_s
from chatrelay_client.connections import Connection, NotPassed, Over
from chatrelay_client.errors import ApiError, ChatrelayError, NoAnswer, StreamClosed, is_for_good
from chatrelay_client.events import (
    Delta,
    EventId,
    Finalized,
    Frame,
    ProjectEvent,
    Ready,
    StreamEvent,
    event_of,
    frame_of,
    is_next,
    notice_of,
)
from chatrelay_client.rows import ENDED, Message
from chatrelay_client.transcript import NOWHERE, Transcript

T = TypeVar("T")

_STEADY_AFTER_S: Final = 5.0
"""A connection that was open for so long did not fail at once."""
_MOST_KEPT: Final = 1000
"""Messages of a project whose positions are remembered."""


class Server(Protocol):
    """What a stream asks of the client that it belongs to."""

    give_up_after_s: float | None

    async def connect(self, path: str, after: EventId | None) -> Connection: ...

    async def message(self, message_id: str) -> Message: ...

    def forget(self, stream: Stream[T]) -> None: ...


class _Gap(Exception):
    """Events before this one are missing, or a part of it was seen."""


class Stream(ABC, Generic[T]):
    """An asynchronous iterator. It reconnects by itself; an iteration that is cancelled loses nothing: the next one goes on.

    Raises `ApiError` where the server refuses it, `StreamClosed` where it sends it away for good, and `NoAnswer` where no
    connection came about for `give_up_after_s`.
    """

    def __init__(self, server: Server, path: str) -> None:
        self._server = server
        self._path = path
        self._connection: Connection | None = None
        self._opened_at_s = 0.0
        self._alive_at_s = time.monotonic()
        self._failures = 0
        self._ending = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ending.is_set():
            try:
                event = await self._receive()
            except Over as over:
                await self._drop()
                if self._ending.is_set():
                    break
                if is_for_good(over.code):
                    await self._fail(StreamClosed(over.code))
                if over.code == connections.FINISHED and await self._is_finished():
                    break
                await self._pause(NoAnswer(f"the connection ended ({over.code})"))
            except (_Gap, msgspec.DecodeError) as wrong:
                await self._drop()
                await self._pause(NoAnswer(f"the stream was not whole: {wrong}"))
            except NotPassed as error:
                await self._pause(NoAnswer(str(error)))
            except ApiError as error:
                if not error.is_transient:
                    await self._fail(error)
                await self._pause(error, at_least_s=error.retry_after_s or 0.0)
            except NoAnswer as error:
                await self._pause(error)
            else:
                if event is not None:
                    return event
        await self.aclose()
        raise StopAsyncIteration

    async def _receive(self) -> T | None:
        if self._connection is None:
            self._connection = await self._server.connect(self._path, self._after())
            self._opened_at_s = self._alive_at_s = time.monotonic()
            if self._ending.is_set():  # closed meanwhile
                await self._drop()
                return None
        payload = await self._connection.receive()
        event = self._take(frame_of(payload), payload)
        self._failures = 0
        return event

    @abstractmethod
    def _after(self) -> EventId | None:
        """The event to go on after."""

    @abstractmethod
    def _take(self, frame: Frame, payload: bytes | str) -> T | None:
        """What is to be yielded of it. Raises `_Gap`."""

    @abstractmethod
    async def _is_finished(self) -> bool:
        """Whether a stream that the server has ended is over."""

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if time.monotonic() - self._opened_at_s > _STEADY_AFTER_S:
                self._failures = 0
            self._alive_at_s = time.monotonic()
            await connection.close()

    async def _pause(self, error: ChatrelayError, *, at_least_s: float = 0.0) -> None:
        """Waits before the next try; raises `error` where it was tried for long enough."""
        if self._failures == 0:
            self._alive_at_s = time.monotonic()
        limit_s = self._server.give_up_after_s
        if limit_s is not None and time.monotonic() - self._alive_at_s > limit_s:
            await self._fail(error)
        self._failures += 1
        try:
            async with asyncio.timeout(max(backoff_s(self._failures), at_least_s)):
                await self._ending.wait()
        except TimeoutError:
            pass

    async def _fail(self, error: ChatrelayError) -> NoReturn:
        await self.aclose()
        raise error

    async def aclose(self) -> None:
        """Ends it, and its connection; the iteration stops. The answer is written all the same."""
        self._ending.set()
        self._server.forget(self)
        await self._drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Following(Stream[StreamEvent]):
    """One message's events, each once, ids rising and without a gap inside an attempt, until it is final.

    `position` is the id of the last event that was yielded: `after` for whoever goes on with it later.
    """

    def __init__(self, server: Server, message_id: str, after: EventId | None) -> None:
        super().__init__(server, f"/v1/messages/{message_id}")
        self.message_id = message_id
        self.position = after
        self._is_told = False

    def _after(self) -> EventId | None:
        return self.position

    def _take(self, frame: Frame, payload: bytes | str) -> StreamEvent | None:
        if frame.id is None:  # an answer to a frame
            return None
        event_id = EventId.parse(frame.id)
        if self.position is not None and event_id <= self.position:
            return None
        if not is_next(self.position, frame):
            raise _Gap(f"{frame.from_ or frame.id} after {self.position}")
        event = event_of(frame, payload)
        self.position = event_id
        self._is_told = isinstance(event, Finalized) and event.is_terminal
        return event

    async def __anext__(self) -> StreamEvent:
        if self._is_told:
            await self.aclose()
        return await super().__anext__()

    async def _is_finished(self) -> bool:
        try:
            return (await self._server.message(self.message_id)).is_final
        except ChatrelayError as error:
            if isinstance(error, ApiError) and not error.is_transient:
                await self._fail(error)
            return False


class Watching(Stream[ProjectEvent]):
    """All that happens in a project; it does not end.

    `Ready` comes first, and again with each new connection: read the project then, for what it shows together with what
    follows is complete. Of each unfinished message the newest attempt is told from its start, and after a lost connection
    from where it was: no event twice, none missing between two of an attempt.
    """

    def __init__(self, server: Server, project_id: str) -> None:
        super().__init__(server, f"/v1/projects/{project_id}")
        self._told: dict[str, Transcript] = {}
        """What was yielded of each message; of one that has ended its position."""
        self._retold: dict[str, Transcript] = {}
        """What this connection has told of each."""

    def _after(self) -> EventId | None:
        return None

    async def _is_finished(self) -> bool:
        return False

    def _take(self, frame: Frame, payload: bytes | str) -> ProjectEvent | None:
        notice = notice_of(frame, payload)
        if isinstance(notice, Ready):
            self._retold.clear()
        if frame.id is None or frame.message_id is None:
            return notice
        told = self._told.get(frame.message_id, Transcript())
        retold = self._retold.get(frame.message_id, Transcript())
        if not is_next(None if retold.position == NOWHERE else retold.position, frame):
            raise _Gap(f"{frame.from_ or frame.id} of {frame.message_id}")
        event = event_of(frame, payload)
        now = _moved(retold, frame, event)
        _keep(self._retold, frame.message_id, now)
        if now.position <= told.position:
            return None
        if isinstance(event, Delta) and retold.position < told.position:
            event = _rest(event, told, now)
        _keep(self._told, frame.message_id, now)
        return event


def _keep(transcripts: dict[str, Transcript], message_id: str, now: Transcript) -> None:
    """Of what has ended the position is enough, and of the longest ended not even that."""
    transcripts.pop(message_id, None)
    transcripts[message_id] = Transcript(position=now.position) if now.status in ENDED else now
    if len(transcripts) > _MOST_KEPT:
        del transcripts[next(iter(transcripts))]


def _moved(before: Transcript, frame: Frame, event: StreamEvent | None) -> Transcript:
    """`before` after the event; an event of an unknown type moves its position only."""
    if event is not None:
        return before.after(event)
    assert frame.id is not None
    return msgspec.structs.replace(before, position=EventId.parse(frame.id))


def _rest(event: Delta, told: Transcript, now: Transcript) -> Delta:
    """A delta of which a part was told before, without that part."""
    first = EventId(told.position.attempt, told.position.n + 1)
    rest = now.content[len(told.content) :]
    return msgspec.structs.replace(event, content=rest, from_=None if str(first) == event.id else str(first))
