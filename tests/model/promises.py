"""The promises, as checks: of one event at a reader, of one append, of one step, and of a state in which all is over."""

from __future__ import annotations

from typing import Final

from shared.events import EventId
from shared.lifecycle import MOVES
from tests.model.product import is_terminal
from tests.model.state import Event, Phase, State, Worker

NOT_RISING: Final = "ids strictly rising at the reader"
GAP: Final = "no gap inside an attempt that the reader is not told of by a snapshot"
OTHER_TEXT: Final = "`complete` and `error` bear the text that the reader shows before them"
LET_GO: Final = "a reader is let go once it has had a terminal `finalized`"
LOG_GOES_BACK: Final = "the log's ids and attempts never go back"
UNCOMMITTED: Final = "`finalized` only after the commit, with the row's status"
EXPIRED_APPENDS: Final = "a worker whose lease was taken appends nothing"
ATTEMPT_GOES_BACK: Final = "the row's attempt never goes back"
EFFECT_TWICE: Final = "a call takes effect once"
ILLEGAL_MOVE: Final = "a status changes by legal moves"
FINAL_REWRITTEN: Final = "a final row is written again only by a retry"
FOLD: Final = "what the reader shows in the end is the row"
EFFECTS: Final = "every effect has its row in the ledger, and a success has its effect"
LOG_ENDS: Final = "a log that lost nothing ends with the row's last event"
STUCK: Final = "the message becomes final and the reader gets the end"


def broken_by_hearing(position: EventId, content: str, event: Event) -> str:
    """What a reader at `position` that shows `content` may not be sent next."""
    if event.id <= position:
        return NOT_RISING
    if event.kind in ("complete", "error") and event.text != content:
        return OTHER_TEXT
    first = event.id if event.from_n < 0 else EventId(event.id.attempt, event.from_n)
    if event.kind == "snapshot" or first.n == 0 or position == EventId(first.attempt, first.n - 1):
        return ""
    return GAP


def broken_by_appending(state: State, added: tuple[Event, ...], worker: Worker | None) -> str:
    """What the log of `state` may not get next. `worker`: whose attempt it is, None for a committed ending."""
    if state.log and added[0].id <= state.log[-1].id:
        return LOG_GOES_BACK
    if worker is not None and worker.is_expired and not worker.is_past_check and state.row.owner != worker.name:
        return EXPIRED_APPENDS
    for event in added:
        if event.kind == "finalized" and all(
            (end.id, end.status) != (event.id, event.status) for end in state.row.ends
        ):
            return UNCOMMITTED
    return ""


def broken_by_step(before: State, after: State) -> str:
    """What a step may not do to the row, and to the reader."""
    old, new, reader = before.row, after.row, after.reader
    if reader.phase is Phase.LEFT and before.reader.phase is not Phase.LEFT and not _has_ended(after):
        return LET_GO
    if new is old:
        return ""
    if new.attempt < old.attempt:
        return ATTEMPT_GOES_BACK
    if new.status is not old.status and new.status not in MOVES[old.status]:
        return ILLEGAL_MOVE
    if old.is_final and new.is_final and new._replace(appended=old.appended, cancel=old.cancel) != old:
        return FINAL_REWRITTEN
    if new.effects > new.run:
        return EFFECT_TWICE
    return ""


def _has_ended(state: State) -> bool:
    """Whether the reader stands at a committed terminal `finalized`, and shows its status."""
    at = state.reader
    return any(is_terminal(end) and (end.id, end.status) == (at.position, at.status) for end in state.row.ends)


def is_over(state: State) -> bool:
    """The message is final, nobody works on it, its reader knows, its log too unless it can't."""
    row, reader = state.row, state.reader
    return (
        row.is_final
        and not state.workers
        and state.closing is None
        and (row.appended or (bool(state.log) and state.log[-1].id == row.last))
        and reader.phase is Phase.LEFT
        and (row.last is None or reader.position >= row.last)
    )


def broken_at_the_end(state: State, *, has_tool: bool) -> str:
    """What may not be so when all is over."""
    row, reader = state.row, state.reader
    if (reader.content, reader.status, reader.calls) != (row.content, row.status, row.calls):
        return FOLD
    if row.effects != len(row.ledger) or (has_tool and row.status == "success" and row.run not in row.ledger):
        return EFFECTS
    if state.log_is_whole and (not state.log or state.log[-1].id != row.last):
        return LOG_ENDS
    return ""
