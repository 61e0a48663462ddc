"""The operators' end of Redis: lifecycle lines as they are published, and single messages as they are written.

Needs a Redis user that may subscribe and read logs, nothing more. A thread of its own listens, so that whoever shows what
comes may be slow: a bounded number of lines is kept, what is beyond is counted and told as `Missed`, as is a subscription
that was lost. Of a message that is followed nothing is told twice: its log fills what the channel lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

import redis

from shared import event_log, events, keys
from shared.event_log import Entry
from shared.events import EventId
from shared.ops_events import Missed
from shared.redis_link import LinkDown, RedisLink, ReplyError

MOST_KEPT: Final = 20_000
"""Lines that wait for whoever shows them."""
MOST_REPLAYED: Final = 10_000
"""Entries of a log in one look."""
_MARGIN_S: Final = 1.0
"""What was on its way when Redis last spoke may be lost with it, and clocks differ."""
_OPS: Final = keys.OPS.encode()


class Refused(Exception):
    """Redis does not let us in, or lets us not subscribe; the text is its own."""


class Line(NamedTuple):
    """What was published on `chatrelay:ops`."""

    payload: bytes


class Said(NamedTuple):
    """An event of a message that is followed."""

    message_id: UUID
    entry: Entry


Told: TypeAlias = Line | Said | Missed


def check(url: str, channels: tuple[str, ...] = (keys.OPS,)) -> bool:
    """Whether Redis answers. Raises `Refused` where it does and says no."""
    client = event_log.connect(url)
    try:
        with client.pubsub() as subscription:  # type: ignore[no-untyped-call]  # redis-py's
            subscription.subscribe(*channels)
            return subscription.get_message(timeout=2.0) is not None
    except (redis.AuthenticationError, redis.ResponseError) as error:
        raise Refused(str(error)) from error
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return False
    finally:
        client.close()


class _Followed:
    """One message on its way. `position` None: of what the log has now the newest attempt is wanted."""

    def __init__(self, message_id: UUID, position: EventId | None) -> None:
        self.message_id = message_id
        self.position = position
        self.held_back: list[Entry] | None = None
        """What came since the log began to be read; None while nobody reads it."""


class OpsFeed:
    """`take` is for one thread, which is not this one's; `follow` and `unfollow` may be called from any."""

    def __init__(self, url: str, *, choose: Callable[[bytes], bool], most: int = MOST_KEPT) -> None:
        """`choose`: which lines are wanted; the others are not kept, nor counted where they are missed."""
        self._url = url
        self._choose = choose
        self._most = most
        self._changed = threading.Condition()
        self._told: deque[Told] = deque()
        self._came: list[Line | Said] = []
        """By what was read last; handed over together."""
        self._left_out = 0
        self._left_out_since_ms = 0
        self._is_subscribed = False
        self._followed: dict[bytes, _Followed] = {}
        self._heard_at_s = time.time()
        self._lost_at_ms: int | None = None
        self._was_subscribed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._link: RedisLink | None = None
        self._thread = threading.Thread(target=self._run, name="ops-feed", daemon=True)

    # --- from the other thread ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to listen, and go on connecting until `close`."""
        with self._changed:
            self._thread.start()
            self._changed.wait_for(lambda: self._loop is not None)

    def close(self) -> None:
        assert self._stop is not None, "start it first"
        self._post(self._stop.set)
        self._thread.join()

    def wait_subscribed(self, timeout_s: float) -> bool:
        """Whether lines are heard from now on."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_subscribed, timeout_s)

    def take(self, timeout_s: float) -> list[Told]:
        """What has come since, oldest first; waits for it, no longer than that."""
        with self._changed:
            self._changed.wait_for(lambda: self._told or self._left_out, timeout_s)
            told, self._told = list(self._told), deque()
            if self._left_out:
                told.append(self._missed_here())
            return told

    def follow(self, message_id: UUID, after: EventId | None = None) -> None:
        """Tell all that is said in this message after `after`; None: the newest attempt from its start, then live."""
        self._post(lambda: self._follow(_Followed(message_id, after)))

    def unfollow(self, message_id: UUID) -> None:
        self._post(lambda: self._unfollow(keys.message_channel(message_id).encode()))

    def _post(self, act: Callable[[], object]) -> None:
        assert self._loop is not None, "start it first"
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:
            pass  # it is closed

    # --- on the loop --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._stop = asyncio.Event()
        self._link = RedisLink(
            self._url,
            on_push=self._on_push,
            on_up=self._on_up,
            on_down=self._on_down,
            on_handed_out=self._on_handed_out,
        )
        self._link.start()
        with self._changed:
            self._loop = asyncio.get_running_loop()
            self._changed.notify_all()
        await self._stop.wait()
        await self._link.close()

    def _follow(self, followed: _Followed) -> None:
        assert self._link is not None
        name = keys.message_channel(followed.message_id).encode()
        if name not in self._followed:
            self._followed[name] = followed
            self._link.tell("SUBSCRIBE", name)

    def _unfollow(self, name: bytes) -> None:
        assert self._link is not None
        if self._followed.pop(name, None) is not None:
            self._link.tell("UNSUBSCRIBE", name)

    def _on_up(self) -> None:
        assert self._link is not None
        self._link.tell("SUBSCRIBE", _OPS, *self._followed)

    def _on_down(self) -> None:
        with self._changed:
            self._is_subscribed = False
        if self._lost_at_ms is None:
            self._lost_at_ms = int((self._heard_at_s - _MARGIN_S) * 1000)

    def _on_handed_out(self) -> None:
        self._heard_at_s = time.time()
        self._hand_over()

    def _on_push(self, push: list[Any]) -> None:
        kind, name = push[0], push[1]
        if kind == b"message":
            if name == _OPS:
                self._on_line(push[2])
            elif (followed := self._followed.get(name)) is not None:
                self._on_event(followed, push[2])
        elif kind == b"subscribe":
            if name == _OPS:
                self._on_subscribed()
            elif (followed := self._followed.get(name)) is not None:
                self._read_log(followed)

    def _on_subscribed(self) -> None:
        lost_at_ms, self._lost_at_ms = self._lost_at_ms, None
        self._hand_over()
        with self._changed:
            if self._was_subscribed and lost_at_ms is not None:
                self._told.append(Missed(count=None, since=lost_at_ms, reason="subscription"))
            self._was_subscribed = self._is_subscribed = True
            self._changed.notify_all()

    def _on_line(self, payload: bytes) -> None:
        if self._choose(payload):
            self._came.append(Line(payload))

    def _hand_over(self) -> None:
        if not self._came:
            return
        came, self._came = self._came, []
        with self._changed:
            room = max(0, self._most - len(self._told))
            if room and self._left_out:
                self._told.append(self._missed_here())
            self._told += came[:room]
            if len(came) > room:
                if not self._left_out:
                    self._left_out_since_ms = time.time_ns() // 1_000_000
                self._left_out += len(came) - room
            self._changed.notify_all()

    def _missed_here(self) -> Missed:
        count, self._left_out = self._left_out, 0
        return Missed(count=count, since=self._left_out_since_ms, reason="slow")

    # --- messages that are followed -----------------------------------------------------------------------------

    def _on_event(self, followed: _Followed, payload: bytes) -> None:
        try:
            entry = Entry(events.peek(payload)[1], payload)
        except ValueError:
            return  # the channel is public
        if followed.held_back is not None:
            followed.held_back.append(entry)
        elif followed.position is not None and _is_next(followed.position, entry.id):
            self._tell(followed, entry)
        elif followed.position is None or entry.id > followed.position:
            self._read_log(followed, entry)  # something before it was lost

    def _tell(self, followed: _Followed, entry: Entry) -> None:
        if followed.position is None or entry.id > followed.position:
            followed.position = entry.id
            self._came.append(Said(followed.message_id, entry))

    def _read_log(self, followed: _Followed, *came: Entry) -> None:
        """Tell what the log has after the position, then what came, also meanwhile; from then on what comes."""
        assert self._link is not None
        if followed.held_back is not None:
            return
        followed.held_back = [*came]
        start = "-" if followed.position is None else f"({followed.position}"
        reading = self._link.send("XRANGE", keys.log(followed.message_id), start, "+", "COUNT", MOST_REPLAYED)
        reading.add_done_callback(lambda reading: self._on_log(followed, reading))

    def _on_log(self, followed: _Followed, reading: asyncio.Future[Any]) -> None:
        held_back, followed.held_back = followed.held_back or [], None
        if reading.cancelled():
            return
        if isinstance(reading.exception(), LinkDown | ReplyError):
            return  # read again once it is subscribed again
        entries = [Entry(EventId.parse(id_.decode()), fields[1]) for id_, fields in reading.result()]
        if entries and followed.position is None:
            newest = entries[-1].id.attempt
            entries = [entry for entry in entries if entry.id.attempt == newest]
        for entry in [*entries, *held_back]:
            self._tell(followed, entry)
        self._hand_over()
        if len(entries) == MOST_REPLAYED:
            self._read_log(followed)


def _is_next(position: EventId, id_: EventId) -> bool:
    return id_ == position.next or (id_.attempt > position.attempt and id_.n == 0)
