"""Whether a recording of one message's events is one that a reader may be sent, and whether it tells what the row says.

Pure. A recording is what one reader received, in order: live, replayed (with merged deltas), after reconnects, with the
relay's snapshots between; or a log as it stands. The grammar of a log:

    log      := attempt+
    attempt  := turn                            only attempt 1
              | snapshot ( turn | build | closing )
    turn     := status(thinking) round* ending     without the status after a `restored` snapshot
    round    := delta* ( tool_start status(tool_calling) tool_result )*
    ending   := complete finalized(success) | error finalized(error) | finalized(cancelled)
              | status(building) finalized(building)
    build    := status(building) ( complete finalized(success) | error finalized(error) | finalized(cancelled) )
    closing  := error finalized(error) | finalized(cancelled)

A recording of one's own, an event's JSON a line (as of ``redis-cli subscribe``, or of a reader), with the message as a GET
answers it:

    python -m tests.trace_checker recording.jsonl [--row row.json] [--joined-after 1-7] [--from-anywhere]

An attempt may stop anywhere. Where a reader comes into the middle of an attempt, the checker goes on from every place of
the grammar that is possible there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, assert_never

import msgspec

from shared import events
from shared.events import (
    Complete,
    Delta,
    Error,
    EventId,
    Finalized,
    Snapshot,
    Status,
    StreamEvent,
    ToolCall,
    ToolResult,
    ToolStart,
)
from shared.records import Message
from shared.transcript import NOWHERE, Transcript, fold

Recorded: TypeAlias = StreamEvent | Mapping[str, Any] | bytes | str

_FINAL: Final = frozenset({"success", "error", "cancelled"})
_MOST_CUTS: Final = 40
"""Places at which the law of replay is tried: each costs a fold of the whole recording."""


class TraceViolation(AssertionError):
    """A recording breaks the contract. `index` is the event's place in it; -1 speaks of the recording as a whole."""

    def __init__(self, index: int, reason: str, around: Sequence[StreamEvent] = ()) -> None:
        shown = "".join(f"\n    {events.encode(event).decode()[:300]}" for event in around)
        super().__init__(f"event {index}: {reason}{shown}" if index >= 0 else f"{reason}{shown}")
        self.index = index
        self.reason = reason


class _Place(Enum):
    """Where in an attempt's grammar a log stands."""

    NEW_TURN = "before the first attempt's status(thinking)"
    OPENED = "after the snapshot that opens an attempt"
    IN_TURN = "in a turn, between events of its rounds"
    CALLED = "after a tool_start"
    CALLING = "after a status(tool_calling)"
    HANDING_OVER = "after the status(building) that ends a turn"
    IN_BUILD = "after the status(building) that opens a build"
    COMPLETED = "after a complete"
    FAILED = "after an error"
    HANDED_OVER = "after finalized(building)"
    SUCCEEDED = "after finalized(success)"
    ENDED_IN_ERROR = "after finalized(error)"
    CANCELLED = "after finalized(cancelled)"


class _Standing(NamedTuple):
    place: _Place
    call: tuple[str, str] | None = None
    """Id and name of the call that is being made; None where they are not known."""


_ENDS: Final = {
    "success": _Place.SUCCEEDED,
    "error": _Place.ENDED_IN_ERROR,
    "cancelled": _Place.CANCELLED,
    "building": _Place.HANDED_OVER,
}
_FINALIZABLE: Final = {
    "success": {_Place.COMPLETED},
    "error": {_Place.FAILED},
    "cancelled": {_Place.OPENED, _Place.IN_TURN, _Place.IN_BUILD},
    "building": {_Place.HANDING_OVER},
}
_MID_TURN: Final = frozenset(map(_Standing, (_Place.IN_TURN, _Place.CALLED, _Place.CALLING)))
_ANYWHERE: Final = frozenset(_Standing(place) for place in _Place if place is not _Place.NEW_TURN)


def check_trace(
    recording: Iterable[Recorded],
    *,
    row: Message | Mapping[str, Any] | None = None,
    joined_after: str | EventId | None = None,
    from_start: bool = True,
) -> None:
    """Raises `TraceViolation` for a recording of one message's events that a reader may not be sent.

    `joined_after`: the reader had everything up to this event, which is not in the recording. `from_start` False: the
    recording begins anywhere, as that of somebody who subscribed in the middle. A reader's reconnects are best checked
    together: all that it received as one recording.

    `row`: the message as its users read it afterwards. The fold must agree with it, and where it is final the recording must
    come to its end.
    """
    made = [_event(index, recorded) for index, recorded in enumerate(recording)]
    start = EventId.parse(joined_after) if isinstance(joined_after, str) else joined_after
    checker = _Checker(start, from_start=from_start or start is not None)
    for index, event in enumerate(made):
        try:
            checker.take(event)
        except _Wrong as wrong:
            raise TraceViolation(index, str(wrong), made[max(0, index - 3) : index + 1]) from None
    _check_replay(made, start)
    if row is not None:
        message = row if isinstance(row, Message) else msgspec.convert(dict(row), Message, strict=False)
        _check_row(made, message, checker, joined=start is not None)


class _Wrong(Exception):
    """The event at hand may not come here."""


class _Checker:
    """Takes one event after the other."""

    def __init__(self, joined_after: EventId | None, *, from_start: bool) -> None:
        self._unplaced = not from_start
        self.position = NOWHERE if joined_after is None else joined_after
        fresh = joined_after is None and from_start
        self._standings: frozenset[_Standing] = frozenset({_Standing(_Place.NEW_TURN)}) if fresh else _ANYWHERE
        self.knows_text = fresh
        """Whether the fold's text is the message's: not for a reader that came into the middle, until a snapshot."""
        self.transcript = Transcript(position=self.position)
        self._message_id: str | None = None
        self._snapshot_status: str | None = None
        """Of the snapshot that came last, while nothing came after it."""
        self._new_round = False
        """Whether the next delta is known to open a round that follows another's text."""

    def take(self, event: StreamEvent) -> None:
        at = EventId.parse(event.id)
        if self._message_id not in (None, event.message_id):
            raise _Wrong("the event is another message's")
        self._message_id = event.message_id
        self._check_order(event, at)
        if isinstance(event, Snapshot):
            self._standings = self._after_snapshot(event, at)
        else:
            self._standings = self._after(event)
            self._check_text(event)
        self.transcript = fold(self.transcript, [event])
        if isinstance(event, Snapshot):
            self.knows_text = True
        self._note(event)
        self.position = at

    # --- ids --------------------------------------------------------------------------------------------------------

    def _check_order(self, event: StreamEvent, at: EventId) -> None:
        if self._unplaced:
            self._unplaced = False
            return
        first = at
        if isinstance(event, Delta) and event.from_ is not None:
            first = EventId.parse(event.from_)
            if first >= at or first.attempt != at.attempt:
                raise _Wrong(f"from {first} is not a lower id of the same attempt")
        if first <= self.position:
            raise _Wrong(f"{first} is not above {self.position}, which came before")
        if isinstance(event, Snapshot):
            return
        if at.attempt != self.position.attempt:
            if at.attempt > 1 or self.position != NOWHERE:
                raise _Wrong(f"attempt {at.attempt} begins without a snapshot")
            if first.n != 0:
                raise _Wrong(f"the first attempt begins at {first}")
        elif first != self.position.next and self.position != NOWHERE:
            raise _Wrong(f"a gap: {first} follows {self.position} without a snapshot")

    # --- the grammar ------------------------------------------------------------------------------------------------

    def _after_snapshot(self, event: Snapshot, at: EventId) -> frozenset[_Standing]:
        """An attempt's opening, or the relay's in place of events that this reader is not sent."""
        if event.reason == "attempt":
            if at.n != 0:
                raise _Wrong("an attempt's snapshot opens it: its n is 0")
            if event.status in _FINAL:
                raise _Wrong("an attempt opens on a message that is not final")
            return frozenset({_Standing(_Place.OPENED)})
        if at.attempt == self.position.attempt and self._standings <= _ALL_OVER:
            raise _Wrong("nothing follows a finalized but a newer attempt")
        match event.status:
            case "success" | "error" | "cancelled":
                # the row's, in place of a log that was lost: its finalized is all that may follow, if that was not folded
                before = {status: {_Standing(place) for place in places} for status, places in _FINALIZABLE.items()}
                return frozenset({*before[event.status], _Standing(_ENDS[event.status])})
            case "building":
                return frozenset(
                    map(
                        _Standing,
                        (
                            _Place.OPENED,
                            _Place.HANDING_OVER,
                            _Place.HANDED_OVER,
                            _Place.IN_BUILD,
                            _Place.COMPLETED,
                            _Place.FAILED,
                        ),
                    )
                )
            case "pending":
                pass
            case _:
                assert_never(event.status)
        standings = _MID_TURN | {_Standing(_Place.OPENED)}
        if at.n > 0:
            standings |= {_Standing(_Place.COMPLETED), _Standing(_Place.FAILED)}
        return standings

    def _after(self, event: StreamEvent) -> frozenset[_Standing]:
        reached = frozenset(after for standing in self._standings if (after := _step(standing, event)) is not None)
        if not reached:
            places = " or ".join(sorted({standing.place.value for standing in self._standings})[:4])
            raise _Wrong(f"{_named(event)} may not come {places}")
        if self._snapshot_status in _FINAL and not isinstance(event, Finalized):
            raise _Wrong(f"{_named(event)} follows a snapshot of a final message")
        return reached

    # --- what is told -----------------------------------------------------------------------------------------------

    def _check_text(self, event: StreamEvent) -> None:
        before = self.transcript
        match event:
            case Delta():
                if not event.content:
                    raise _Wrong("a delta without text")
                if self._new_round and not event.content.startswith("\n\n"):
                    raise _Wrong("no blank line stands between two rounds' texts")
            case ToolStart():
                known = _call(before.tool_calls, event.tool_call_id)
                if known is not None and known.state != "started":
                    raise _Wrong(f"the call {event.tool_call_id} was made before")
            case ToolResult():
                if event.success and event.error is not None:
                    raise _Wrong("a tool call that succeeded has an error")
            case Complete():
                if self.knows_text and before.content and event.final_content != before.content:
                    raise _Wrong("complete carries another text than the events before it")
                if self.knows_text and not event.final_content:
                    raise _Wrong("complete carries no text")
            case Error():
                if self.knows_text and event.final_content not in (None, before.content):
                    raise _Wrong("the error's finalContent is not the text before it")
            case Finalized():
                if self._snapshot_status in _FINAL and event.status != self._snapshot_status:
                    raise _Wrong(f"finalized({event.status}) follows a snapshot that says {self._snapshot_status}")
            case Status() | Snapshot():
                pass
            case _:
                assert_never(event)

    def _note(self, event: StreamEvent) -> None:
        match event:
            case Snapshot():
                self._snapshot_status = event.status
                self._new_round = event.reason == "attempt" and bool(event.content)
            case ToolResult():
                self._snapshot_status = None
                self._new_round = self.knows_text and bool(self.transcript.content)
            case Delta():
                self._snapshot_status = None
                self._new_round = False
            case _:
                self._snapshot_status = None


_ALL_OVER: Final = frozenset(map(_Standing, _ENDS.values()))


def _step(standing: _Standing, event: StreamEvent) -> _Standing | None:
    """Where `event` leads, or None where it may not come. A snapshot never comes here."""
    place, call = standing
    match event:
        case Status(status="thinking"):
            return _Standing(_Place.IN_TURN) if place in (_Place.NEW_TURN, _Place.OPENED) else None
        case Status(status="tool_calling"):
            return _Standing(_Place.CALLING, call) if place is _Place.CALLED else None
        case Status(status="building"):
            if place is _Place.OPENED:
                return _Standing(_Place.IN_BUILD)
            return _Standing(_Place.HANDING_OVER) if place is _Place.IN_TURN else None
        case Delta():
            return _Standing(_Place.IN_TURN) if place is _Place.IN_TURN else None
        case ToolStart():
            return _Standing(_Place.CALLED, (event.tool_call_id, event.name)) if place is _Place.IN_TURN else None
        case ToolResult():
            fits = call in (None, (event.tool_call_id, event.name))
            return _Standing(_Place.IN_TURN) if place is _Place.CALLING and fits else None
        case Complete():
            return _Standing(_Place.COMPLETED) if place in (_Place.IN_TURN, _Place.IN_BUILD) else None
        case Error():
            fits = place in (_Place.IN_TURN, _Place.IN_BUILD, _Place.OPENED)
            return _Standing(_Place.FAILED) if fits else None
        case Finalized():
            return _Standing(_ENDS[event.status]) if place in _FINALIZABLE[event.status] else None
        case Snapshot():
            return None
        case _:
            # mypy cannot narrow a union by the value of a literal field
            raise AssertionError(f"no rule for {event}")


def _named(event: StreamEvent) -> str:
    kind = events.peek(events.encode(event))[0]
    return f"{kind}({event.status})" if isinstance(event, Status | Finalized) else kind


def _event(index: int, recorded: Recorded) -> StreamEvent:
    try:
        if isinstance(recorded, bytes | str):
            return events.decode(recorded)
        if isinstance(recorded, Mapping):
            return events.decode(msgspec.json.encode(recorded))
        return recorded
    except msgspec.DecodeError as error:
        raise TraceViolation(index, f"not an event: {error}") from None


def _call(calls: Iterable[ToolCall], tool_call_id: str) -> ToolCall | None:
    return next((call for call in calls if call.tool_call_id == tool_call_id), None)


def _check_replay(made: Sequence[StreamEvent], start: EventId | None) -> None:
    """``fold(fold(start, log[:n]), log) == fold(start, log)``, at so many places n."""
    nothing = Transcript(position=start or NOWHERE)
    whole = fold(nothing, made)
    for cut in range(0, len(made) + 1, max(1, len(made) // _MOST_CUTS)):
        if fold(fold(nothing, made[:cut]), made) != whole:
            raise TraceViolation(cut, "folding it again from here gives something else")


def _check_row(made: Sequence[StreamEvent], row: Message, checker: _Checker, *, joined: bool) -> None:
    if not made and joined:
        return  # it had everything before
    last = made[-1] if made else None
    index = len(made) - 1
    if row.status.value in _FINAL and not (last is not None and events.is_terminal(last)):
        raise TraceViolation(index, f"the row is {row.status.value}, and the recording does not come to the end")
    if not isinstance(last, Finalized):
        return
    if last.message_id != str(row.id):
        raise TraceViolation(index, "the row is another message's")
    folded = checker.transcript
    if last.status != row.status.value:
        raise TraceViolation(index, f"finalized says {last.status}, the row {row.status.value}")
    if EventId.parse(last.id).attempt != row.attempt:
        raise TraceViolation(index, f"finalized is of another attempt than the row's, {row.attempt}")
    if last.job_id is not None and last.job_id != str(row.job_id):
        raise TraceViolation(index, "finalized names another job than the row")
    if last.usage != row.usage:
        raise TraceViolation(index, f"finalized has the usage {last.usage}, the row {row.usage}")
    if last.timing != row.timing:
        raise TraceViolation(index, f"finalized has the timing {last.timing}, the row {row.timing}")
    if folded.error_code is not None and (row.error is None or row.error.code.value != folded.error_code):
        raise TraceViolation(index, f"the error was {folded.error_code}, the row has {row.error}")
    if not checker.knows_text:
        return
    if folded.content != row.content:
        raise TraceViolation(index, f"the fold is {folded.content!r}, the row's content {row.content!r}")
    shown, stored = [_shown(call) for call in folded.tool_calls], [_shown(call) for call in row.tool_calls]
    if shown != stored:
        raise TraceViolation(index, f"the fold's tool calls are {shown}, the row's {stored}")


def _shown(call: ToolCall) -> ToolCall:
    """A call as events tell it: the document's version is told by snapshots and by the row alone."""
    return msgspec.structs.replace(call, version=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where the recording is one that a reader may be sent, 1 where it breaks the contract."""
    parser = argparse.ArgumentParser(prog="python -m tests.trace_checker", description="Checks one reader's recording.")
    parser.add_argument("recording", type=Path, help="one event's JSON a line")
    parser.add_argument("--row", type=Path, help="the message as GET /v1/messages/{id} answers it afterwards")
    parser.add_argument("--joined-after", metavar="ID", help="the reader had everything up to this event")
    parser.add_argument("--from-anywhere", action="store_true", help="it begins in the middle of the message")
    given = parser.parse_args(arguments)
    recording = [line for line in given.recording.read_text("utf-8").splitlines() if line.strip()]
    row = None if given.row is None else json.loads(given.row.read_text("utf-8"))
    try:
        check_trace(recording, row=row, joined_after=given.joined_after, from_start=not given.from_anywhere)
    except TraceViolation as violation:
        print(violation)
        return 1
    print(f"{len(recording)} events: a legal recording" + (", and what it tells is the row" if row else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
