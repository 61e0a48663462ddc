"""Both ways into a log behind one blocking call, and an ear on the channels."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

import redis
import uvloop

from shared import event_log, events, keys
from shared.errors import LogUnavailable
from shared.event_log import Answer, Entry, EventLog, LoopEventLog, Publication
from shared.events import Delta, EventId, Snapshot, Status, StreamEvent
from shared.redis_link import RedisLink

WAIT_S: Final = 20.0


class Appender(Protocol):
    """What both implementations of the append promise."""

    def append(self, message_id: str, entries: Sequence[Entry], also: Iterable[Publication] = ()) -> Answer: ...


class LoopAppender:
    """A `LoopEventLog` on an event loop in a thread of its own."""

    def __init__(self, url: str, *, retention_s: int) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="appender's loop")
        self._thread.start()
        self._link = RedisLink(url)
        self._log = LoopEventLog(self._link, retention_s=retention_s)
        self._loop.call_soon_threadsafe(self._link.start)

    def wait_up(self) -> bool:
        return asyncio.run_coroutine_threadsafe(self._link.wait_up(WAIT_S), self._loop).result(WAIT_S + 1)

    def append(self, message_id: str, entries: Sequence[Entry], also: Iterable[Publication] = ()) -> Answer:
        answered: Future[Answer | None] = Future()
        self._loop.call_soon_threadsafe(self._log.append, message_id, entries, also, answered.set_result)
        if (answer := answered.result(WAIT_S)) is None:
            raise LogUnavailable
        return answer

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._link.close(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def blocking_appender(url: str, *, retention_s: int = event_log.RETENTION_S) -> Iterator[Appender]:
    client = event_log.connect(url)
    try:
        yield EventLog(client, retention_s=retention_s)
    finally:
        client.close()


@contextmanager
def loop_appender(url: str, *, retention_s: int = event_log.RETENTION_S) -> Iterator[Appender]:
    appender = LoopAppender(url, retention_s=retention_s)
    try:
        assert appender.wait_up()
        yield appender
    finally:
        appender.close()


APPENDERS: Final = {"EventLog": blocking_appender, "LoopEventLog": loop_appender}


class Ear:
    """Hears what is published on some channels."""

    def __init__(self, client: redis.Redis, *channels: str) -> None:
        self._client = client
        self._channels = channels
        self._pubsub = cast(Any, client).pubsub()  # untyped in its stub
        self._pubsub.subscribe(*channels)
        for _ in channels:
            message = self._pubsub.get_message(timeout=WAIT_S)
            assert message is not None
            assert message["type"] == "subscribe"

    def heard(self) -> list[tuple[str, bytes]]:
        """Everything so far, in order: channel and payload."""
        self._client.publish(self._channels[0], b"so far")
        found: list[tuple[str, bytes]] = []
        while True:
            message = self._pubsub.get_message(timeout=WAIT_S)
            assert message is not None
            if message["data"] == b"so far":
                return found
            found.append((message["channel"].decode(), message["data"]))

    def close(self) -> None:
        self._pubsub.close()


def delta(message_id: str, id_: EventId, content: str = "a") -> Entry:
    return entry(Delta(id=str(id_), message_id=message_id, ts=1, content=content))


def opening(message_id: str, attempt: int) -> Entry:
    """The first event of an attempt."""
    if attempt == 1:
        return entry(Status(id="1-0", message_id=message_id, ts=1, status="thinking"))
    return entry(
        Snapshot(
            id=f"{attempt}-0",
            message_id=message_id,
            ts=1,
            content="",
            status="pending",
            tool_calls=(),
            reason="restored",
        )
    )


def entry(event: StreamEvent) -> Entry:
    return Entry(EventId.parse(event.id), events.encode(event))


def stored(client: redis.Redis, message_id: str) -> list[Entry]:
    """The log as it stands, read without our code."""
    found: list[tuple[bytes, dict[bytes, bytes]]] = cast(Any, client).xrange(
        keys.log(message_id)
    )  # its stub knows no mode
    return [Entry(EventId.parse(id_.decode()), fields[b"e"]) for id_, fields in found]
