"""`chatrelay tail`: what happens, line by line, as it happens.

Reads Redis itself, under a user that may do no more than that; Postgres only for `--since`.
"""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer

from ops.surroundings import FAILED, duration, leave, moment, redis_url, with_store
from ops.tail_lines import Plain, Printer, Raw
from shared import event_log, events, ops_events, ops_feed
from shared.errors import LogUnavailable
from shared.event_log import Entry, EventLog
from shared.ops_events import Filter, Head, Missed
from shared.ops_feed import Line, OpsFeed, Said, Told

MOST_REPLAYED: Final = 10_000
"""Rows of each status that `--since` looks at."""
MOST_FOLLOWED: Final = 500
"""Messages whose text is shown at a time."""
_LOOK_S: Final = 0.5
"""How often one looks whether anybody still reads."""
_FIRST_S: Final = 5.0


def tail(
    project: Annotated[list[UUID] | None, typer.Option(help="Of this project alone; may be given again.")] = None,
    message: Annotated[
        list[UUID] | None, typer.Option(help="Of this message alone, with its events; may be given again.")
    ] = None,
    status: Annotated[list[str] | None, typer.Option(help="Lines with this status: error, success, …")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Lines of this type: started, finalized, attempt, …")
    ] = None,
    slower_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="What ended after more than that: 800ms, 2s, 5m.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="First what happened since: 10m, 2h, or a time as 2026-01-31T12:00:00Z."),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Also the text, as it is written.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Lines as they were published, one JSON object each.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours on a terminal.")] = False,
) -> None:
    """Show what happens to messages, as it happens. Ends with Ctrl-C."""
    wanted = Filter(
        projects=frozenset(map(str, project or ())),
        messages=frozenset(map(str, message or ())),
        statuses=frozenset(status or ()),
        types=frozenset(type_ or ()),
    )
    slower_ms = None if slower_than is None else _milliseconds(slower_than)
    from_ = None if since is None else moment(since, option="--since")
    url = redis_url(os.environ)
    try:
        if not ops_feed.check(url):
            print("chatrelay: Redis does not answer yet; trying again", file=sys.stderr)
    except ops_feed.Refused as error:
        leave(f"Redis refuses: {error}", FAILED)
    choose = _chooser(wanted, slower_ms)
    begins = _chooser(msgspec.structs.replace(wanted, types=frozenset({"started"}), statuses=frozenset()), None)
    feed = OpsFeed(url, choose=(lambda payload: choose(payload) or begins(payload)) if text else choose)
    printer = Raw(sys.stdout) if as_json else Plain(sys.stdout, color=not no_color, inline=len(message or ()) == 1)
    showing = _Tail(feed, printer, choose, url=url, message_ids=message or [], text=text, is_json=as_json)
    feed.start()
    try:
        if from_ is not None:
            feed.wait_subscribed(_FIRST_S)  # what follows is kept meanwhile: nothing lies between
            showing.replay(from_)
        showing.run()
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: not even what is left at exit
    finally:
        feed.close()


class _Tail:
    """What was shown so far."""

    def __init__(
        self,
        feed: OpsFeed,
        printer: Printer,
        wanted: Callable[[bytes], bool],
        *,
        url: str,
        message_ids: list[UUID],
        text: bool,
        is_json: bool,
    ) -> None:
        """`wanted`: which lines are shown; the feed also brings those that begin a text."""
        self._wanted = wanted
        self._feed = feed
        self._printer = printer
        self._url = url
        self._message_ids = message_ids
        self._text = text
        self._is_json = is_json
        self._replayed: set[tuple[str, str, int]] = set()
        """What the rows told, so that it is not told again as it comes."""
        self._followed: dict[UUID, None] = {}
        """In the order in which they were begun."""
        self._positions: dict[UUID, events.EventId] = {}

    def replay(self, since: datetime) -> None:
        """What happened since then: from the rows, and for messages that are named from their logs."""
        ids = tuple(self._message_ids)
        if not ids or os.environ.get("DATABASE_URL"):
            steps, is_whole = with_store(lambda store: store.steps_since(since, message_ids=ids, most=MOST_REPLAYED))
            if not is_whole:
                self._printer.missed(Missed(count=None, since=int(since.timestamp() * 1000), reason="slow"))
            lines = (ops_events.encode(ops_events.of_step(step)) for step in steps)
            told = [payload for payload in lines if self._wanted(payload)]
            self._replayed = {_mark(ops_events.head(payload), payload) for payload in told}
            for payload in told:
                self._printer.line(payload)
        if ids:
            self._replay_logs(ids)
        self._printer.flush()

    def _replay_logs(self, message_ids: Iterable[UUID]) -> None:
        client = event_log.connect(self._url)
        try:
            log = EventLog(client)
            for message_id in message_ids:
                for entry in log.whole(message_id, most=MOST_REPLAYED):
                    self._show_event(message_id, entry)
                    self._positions[message_id] = entry.id
        except LogUnavailable:
            print("chatrelay: Redis does not answer: no events of before", file=sys.stderr)
        finally:
            client.close()

    def run(self) -> None:
        """Until nobody reads. Raises `BrokenPipeError` then."""
        for message_id in self._message_ids:
            self._follow(message_id, self._positions.get(message_id))
        is_read = _reader_watch()
        while True:
            for one in self._feed.take(_LOOK_S):
                self._show(one)
            self._printer.flush()
            if not is_read():
                raise BrokenPipeError

    def _follow(self, message_id: UUID, after: events.EventId | None = None) -> None:
        """In place of the one that was begun first, where there are too many: its end was missed, or it takes long."""
        if message_id in self._followed:
            return
        if len(self._followed) >= MOST_FOLLOWED:
            self._unfollow(next(iter(self._followed)))
        self._followed[message_id] = None
        self._feed.follow(message_id, after)

    def _unfollow(self, message_id: UUID) -> None:
        self._followed.pop(message_id, None)
        self._feed.unfollow(message_id)
        self._printer.end_text(message_id)

    def _show(self, told: Told) -> None:
        match told:
            case Missed():
                self._printer.missed(told)
            case Said():
                self._show_event(told.message_id, told.entry)
            case Line():
                self._show_line(told.payload)

    def _show_line(self, payload: bytes) -> None:
        head = ops_events.head(payload)
        if self._replayed and _mark(head, payload) in self._replayed:
            return
        if not self._text or self._wanted(payload):
            self._printer.line(payload)
        if self._text and not self._message_ids and head.type == "started":
            try:
                self._follow(UUID(head.message_id or ""))
            except ValueError:
                pass  # none of ours

    def _show_event(self, message_id: UUID, entry: Entry) -> None:
        kind = entry.kind
        if kind == "delta":
            if self._text:
                self._printer.delta(message_id, entry.payload)
        elif self._message_ids and (kind != "finalized" or self._is_json):  # people see the line that has more to it
            self._printer.event(message_id, entry.payload, text=self._text)
        elif not self._message_ids and _is_over(entry):
            self._unfollow(message_id)  # not when the operators' line says so, which may come before the text
        elif kind in ("snapshot", "finalized"):
            self._printer.end_text(message_id)


def _is_over(entry: Entry) -> bool:
    try:
        return events.is_terminal_payload(entry.kind, entry.payload)
    except msgspec.DecodeError:
        return False  # none of ours


def _chooser(wanted: Filter, slower_ms: int | None) -> Callable[[bytes], bool]:
    """Whether a line is wanted. What is no line of JSON with a type is not."""

    def choose(payload: bytes) -> bool:
        try:
            if slower_ms is not None:
                timed = _timed.decode(payload)
                took_ms = None if timed.timing is None else timed.timing.total_ms
                if took_ms is None or took_ms <= slower_ms:
                    return False
            return wanted.passes(ops_events.head(payload))
        except msgspec.DecodeError:
            return False

    return choose


class _Timing(msgspec.Struct, rename="camel"):
    total_ms: int | None = None


class _Timed(msgspec.Struct):
    timing: _Timing | None = None


class _Numbered(msgspec.Struct):
    attempt: int = 0


_timed: Final = msgspec.json.Decoder(_Timed)
_numbered: Final = msgspec.json.Decoder(_Numbered)


def _mark(head: Head, payload: bytes) -> tuple[str, str, int]:
    """What makes two lines the same step."""
    try:
        attempt = _numbered.decode(payload).attempt
    except msgspec.DecodeError:
        attempt = 0  # none of ours
    return head.type, head.message_id or "", attempt


def _reader_watch() -> Callable[[], bool]:
    """Answers whether somebody still reads the standard output, where that is a pipe."""
    watch = select.poll()
    try:
        watch.register(sys.stdout.fileno(), select.POLLERR)
    except (OSError, ValueError):
        return lambda: True

    def is_read() -> bool:
        return not any(happened & (select.POLLERR | select.POLLHUP) for _, happened in watch.poll(0))

    return is_read


def _milliseconds(text: str) -> int:
    if (match := re.fullmatch(r"([1-9][0-9]{0,9})ms", text)) is not None:
        return int(match[1])
    return int(duration(text, option="--slower-than").total_seconds() * 1000)
