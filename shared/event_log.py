"""The event log of a message: saving to the log and publishing are one atomic operation, and this is the only appender.

`EventLog` is the blocking side over redis-py (closings, endings, replay), `LoopEventLog` the event loop's over a
`RedisLink` (deltas). Both run `append_event.lua`, whose head tells what each answer means.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from importlib import resources
from itertools import groupby
from typing import Any, Final, NamedTuple, Self, TypeAlias, overload
from uuid import UUID

import msgspec
import redis
from redis import sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared import events, keys, metrics, redis_address
from shared.errors import LogUnavailable
from shared.events import Delta, EventId
from shared.metrics import Tally
from shared.redis_link import RedisLink, Reply, ReplyError

RETENTION_S: Final = 3600
MERGED_MOST_BYTES: Final = 256 * 1024
"""UTF-8 bytes of text in one delta of a replay."""

_SCRIPT: Final = (resources.files("shared") / "append_event.lua").read_text()
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""What Redis calls a script by."""
_Sentinel: Final[Any] = sentinel.Sentinel  # untyped
_CUT_OFF: Final = (redis.ConnectionError, redis.TimeoutError, OSError)


class Entry(NamedTuple):
    """An event's id and its encoded bytes."""

    id: EventId
    payload: bytes

    @property
    def kind(self) -> str:
        return events.peek(self.payload)[0]


class Stretch(Sequence[Entry]):
    """Neighbouring entries of a log, in their order. Ids are parsed where somebody asks for them: a log has thousands."""

    __slots__ = ("_ids", "payloads")

    def __init__(self, ids: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        self._ids = ids
        self.payloads = payloads

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        there = list(entries)
        return cls([str(entry.id).encode() for entry in there], [entry.payload for entry in there])

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> Stretch: ...
    def __getitem__(self, at: int | slice) -> Entry | Stretch:
        if isinstance(at, slice):
            return Stretch(self._ids[at], self.payloads[at])
        return Entry(EventId.parse(self._ids[at].decode()), self.payloads[at])

    def after(self, id_: EventId) -> Stretch:
        """What follows `id_`, whether or not it is there itself."""
        return self[bisect_right(self, id_, key=lambda entry: entry.id) :]


NOTHING: Final = Stretch((), ())


class Publication(NamedTuple):
    """What is published beside an append, on a channel other than the message's own."""

    channel: str
    payload: bytes


class Word(StrEnum):
    OK = "ok"
    THERE = "there"
    STALE = "stale"
    LOST = "lost"


_EVALSHA: Final = "EVALSHA"
_OK: Final = Word.OK.encode()
_UNAVAILABLE: Final = "unavailable"
"""What the metrics call an append that was not answered."""


class Answer(NamedTuple):
    """What an append came to, and the id of the log's last entry after it (None: the log is empty)."""

    word: Word
    last: EventId | None


class _OfAMaster:
    """A connection whose server turns out to be no master any more is closed: its name may lead to another one by now."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]  # of the class that it is mixed into
        except redis.ReadOnlyError as error:
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError("the server is a replica") from error


class _Connection(_OfAMaster, redis.Connection):
    pass


class _TlsConnection(_OfAMaster, redis.SSLConnection):
    pass


def connect(url: str, *, timeout_s: float = 2.0) -> redis.Redis:
    """A client that never sends a command twice: a retried write is written twice. Raises `ValueError` for no address.

    Behind Sentinels each new connection is to the master of the time.
    """
    address = redis_address.parse(url)
    tls = address.tls or {}
    deadlines: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    server: dict[str, Any] = {
        **address.others,
        **tls,
        **deadlines,
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "protocol": 3,
    }
    is_tls = address.tls is not None
    if address.sentinels:
        asking = {**deadlines, **tls, **address.sentinel_login, "ssl": is_tls}
        sentinels = _Sentinel(address.sentinels, sentinel_kwargs=asking)
        client: redis.Redis = sentinels.master_for(address.service, ssl=is_tls, **server)
        return client
    kind = _TlsConnection if is_tls else _Connection
    return redis.Redis.from_pool(
        redis.ConnectionPool(connection_class=kind, host=address.host, port=address.port, **server)
    )


class EventLog:
    """The log over a blocking client. Methods raise `LogUnavailable` where Redis cannot be reached in time."""

    def __init__(self, client: redis.Redis, *, retention_s: int = RETENTION_S) -> None:
        # Another client of the same connections: its stretches of a log are not taken apart entry by entry.
        self._client = redis.Redis(connection_pool=client.connection_pool)
        for command in ("XRANGE", "XREVRANGE"):
            self._client.set_response_callback(command, _stretch)
        self._retention_s = retention_s
        self._script = client.register_script(_SCRIPT)

    def append(self, message_id: UUID | str, entries: Sequence[Entry], also: Iterable[Publication] = ()) -> Answer:
        """Append `entries`, neighbours inside one attempt, and publish them and `also`: all or nothing.

        Safe to repeat with the same bytes. Raises `LogUnavailable`; the outcome is then unknown.
        """
        arguments = _arguments(message_id, entries, also, self._retention_s)
        try:
            answer = _answer(self._script(keys=[keys.log(message_id)], args=list(arguments)))
        except (*_CUT_OFF, redis.ResponseError) as error:
            metrics.LOG_APPENDS.add(_UNAVAILABLE)
            raise LogUnavailable from error
        metrics.LOG_APPENDS.add(answer.word)
        if answer.word is Word.OK:
            metrics.EVENTS_APPENDED.add(by=len(entries))
        return answer

    def publish(self, *publications: Publication) -> None:
        """Publish what belongs to no message's log, in order and one round trip. Raises `LogUnavailable`."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for publication in publications:
                    pipeline.publish(publication.channel, publication.payload)
                pipeline.execute()
        except (*_CUT_OFF, redis.ResponseError) as error:
            metrics.PUBLISH_FAILURES.add()
            raise LogUnavailable from error

    def replay(self, message_id: UUID | str, after: EventId | None = None) -> Stretch:
        """The newest attempt from its start, or what follows `after` where that lies in it. Raises `LogUnavailable`."""
        name = keys.log(message_id)
        try:
            tail = self._range("XREVRANGE", name, "+", "-", "COUNT", 1)
            if not tail:
                return NOTHING
            newest = tail[0].id
            start = f"({after}" if after is not None and after.attempt == newest.attempt else str(newest.attempt)
            return self._range("XRANGE", name, start, "+")
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def attempt(self, message_id: UUID | str, attempt: int) -> Stretch:
        """What the log has of one attempt, also of one that others followed. Raises `LogUnavailable`."""
        try:
            return self._range("XRANGE", keys.log(message_id), attempt, attempt)
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def whole(self, message_id: UUID | str, *, most: int) -> Stretch:
        """All attempts from the start, at most so many entries. Raises `LogUnavailable`."""
        try:
            return self._range("XRANGE", keys.log(message_id), "-", "+", "COUNT", most)
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def expires(self, message_id: UUID | str) -> bool:
        """Whether the log, if there is one, goes away by itself. Raises `LogUnavailable`."""
        try:
            return bool(self._client.ttl(keys.log(message_id)) != -1)
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def forget(self, message_id: UUID | str) -> None:
        """Take the log away: its readers are served from the row, a worker that writes it takes a new attempt.

        Raises `LogUnavailable`.
        """
        try:
            self._client.delete(keys.log(message_id))
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def ping(self) -> None:
        """Raises `LogUnavailable` where Redis does not answer."""
        try:
            self._client.ping()
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def bells_waiting(self, queue: str) -> int:
        """Bells of a queue that nobody has answered yet. Raises `LogUnavailable`."""
        try:
            return int(self._client.llen(queue))
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error

    def last_ids(self, message_ids: Sequence[UUID | str]) -> list[EventId | None]:
        """The id of each log's last entry, in one round trip; None for an empty log. Raises `LogUnavailable`."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for message_id in message_ids:
                    pipeline.xrevrange(keys.log(message_id), count=1)
                tails: list[Stretch] = pipeline.execute()
        except (*_CUT_OFF, redis.ResponseError) as error:
            raise LogUnavailable from error
        return [tail[0].id if tail else None for tail in tails]

    def _range(self, *command: str | int) -> Stretch:
        found: Stretch = self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        return found


OnAnswer: TypeAlias = Callable[[Answer | None], object]
"""Gets None where Redis could not be reached."""


class LoopEventLog:
    """The log's append on an event loop, over a `RedisLink` that its owner starts and closes."""

    def __init__(self, link: RedisLink, *, retention_s: int = RETENTION_S) -> None:
        self._link = link
        self._retention_s = retention_s
        self._tallies = {word: Tally(metrics.LOG_APPENDS, word) for word in Word}
        self._unavailable = Tally(metrics.LOG_APPENDS, _UNAVAILABLE)
        self._appended = Tally(metrics.EVENTS_APPENDED)

    def hand_over_counts(self) -> None:
        """Tell the metrics what was appended since the last time."""
        for tally in (self._appended, *self._tallies.values(), self._unavailable):
            tally.hand_over()

    @property
    def is_up(self) -> bool:
        return self._link.is_up

    def append(
        self, message_id: UUID | str, entries: Sequence[Entry], also: Iterable[Publication], on_answer: OnAnswer
    ) -> None:
        """As `EventLog.append`. `on_answer` is called on the loop, with None where that one raises `LogUnavailable`; at once
        where the connection is down. It is no coroutine, since there is one for each delta.
        """
        command = (_EVALSHA, _SHA, 1, keys.log(message_id), *_arguments(message_id, entries, also, self._retention_s))
        self._link.ask(partial(self._answered, command, entries, on_answer), command)

    def _answered(
        self, command: tuple[bytes | str | int, ...], entries: Sequence[Entry], on_answer: OnAnswer, reply: Reply
    ) -> None:
        if isinstance(reply, list):
            answer = Answer(Word.OK, entries[-1].id) if reply[0] == _OK else _answer(reply)
            self._tallies[answer.word].count += 1
            if answer.word is Word.OK:
                self._appended.count += len(entries)
            on_answer(answer)
        elif command[0] is _EVALSHA and isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT"):
            command = ("EVAL", _SCRIPT, *command[2:])  # which keeps it there for the next ones
            self._link.ask(partial(self._answered, command, entries, on_answer), command)
        else:
            self._unavailable.count += 1
            on_answer(None)


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """`entries` with neighbouring deltas of one attempt as one, bearing the last one's id and ``from``, the first one's.

    All else is passed on as it is, also what another version of this program wrote. Raises `msgspec.DecodeError` on a delta
    that is none.
    """
    stretch = entries if isinstance(entries, Stretch) else Stretch.of(entries)
    merged: list[Entry] = []
    at = 0
    for is_delta, neighbours in groupby(stretch.payloads, key=events.is_delta):
        payloads = list(neighbours)
        if is_delta:
            deltas = _joined(events.decode_all(payloads))
            merged += (Entry(EventId.parse(delta.id), events.encode(delta)) for delta in deltas)
        else:
            merged += stretch[at : at + len(payloads)]
        at += len(payloads)
    return merged


def _joined(deltas: Sequence[Any]) -> Iterator[Delta]:
    """Neighbouring deltas as few, each of one attempt and at most `MERGED_MOST_BYTES` of text."""
    if len(deltas) == 1:
        yield deltas[0]
        return
    pieces = [delta.content for delta in deltas]
    text = "".join(pieces)
    if _attempt(deltas[0]) == _attempt(deltas[-1]) and len(text.encode()) <= MERGED_MOST_BYTES:
        yield _one(deltas, text)
        return
    begun, size = 0, 0
    for at, piece in enumerate(pieces):
        text_bytes = len(piece.encode())
        if at > begun and (size + text_bytes > MERGED_MOST_BYTES or _attempt(deltas[at]) != _attempt(deltas[begun])):
            yield _one(deltas[begun:at], "".join(pieces[begun:at]))
            begun, size = at, 0
        size += text_bytes
    yield _one(deltas[begun:], "".join(pieces[begun:]))


def _one(deltas: Sequence[Delta], text: str) -> Delta:
    first, last = deltas[0], deltas[-1]
    return last if first is last else msgspec.structs.replace(last, content=text, from_=first.from_ or first.id)


def _attempt(delta: Delta) -> str:
    return delta.id.partition("-")[0]


def _arguments(
    message_id: UUID | str, entries: Sequence[Entry], also: Iterable[Publication], retention_s: int
) -> Iterable[bytes | str | int]:
    arguments: list[bytes | str | int] = [retention_s, keys.message_channel(message_id), len(entries)]
    for entry in entries:
        arguments += (str(entry.id), entry.payload)
    for publication in also:
        arguments += publication
    return arguments


def _answer(reply: Any) -> Answer:
    word, last = reply
    return Answer(Word(word.decode()), EventId.parse(last.decode()) if last else None)


def _stretch(reply: Any, **_: Any) -> Stretch:
    """What XRANGE answered. What somebody else put into a log, under another field, is nobody's event."""
    ours = [(id_, fields[1]) for id_, fields in reply or () if fields[0] == _FIELD]
    return Stretch(*zip(*ours, strict=True)) if ours else NOTHING


_FIELD: Final = keys.LOG_FIELD.encode()
