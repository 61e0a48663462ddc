"""What nobody's worker does: the sweeper takes lapsed leases, closes, appends endings; users cancel and retry.

That bells are rung, and rung again, is not modelled: whatever may be claimed may be claimed at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.event_log import Word
from shared.lifecycle import MessageStatus
from tests.model import product
from tests.model.log import appended
from tests.model.product import Ended
from tests.model.state import Chapter, Closing, Fault, Label, Row, Rules, State

LAPSED = "the sweeper takes a lapsed lease"
LOOKED = "whoever closes the abandoned message reads row and log"
CLOSED = "whoever closes the message commits its end"
SWEPT = "the sweeper appends the stored ending and notes it"
CANCELLED = "a user cancels"
RETRIED = "a user retries"

STANDS_FOR = {
    LAPSED: "shared.store.sweeping:SweepStore.take_lapsed",
    LOOKED: "shared.closing:close",
    CLOSED: "shared.store.sweeping:SweepStore.close_message",
    SWEPT: "worker.sweep:Sweeper._append_endings",
    CANCELLED: "shared.store.messages:MessageStore.request_cancel",
    RETRIED: "shared.store.messages:MessageStore.retry",
}


def steps(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    """What the sweeper, or whoever else closes, can do next."""
    row, has_sweeper = state.row, rules.mechanisms.sweeper
    if has_sweeper and row.owner and not _is_renewed(state):
        taken = row._replace(owner=0, tries=row.tries + 1)
        yield Label(LAPSED), state._replace(row=taken)
    if state.closing is not None:
        closed = state._replace(closing=None)
        if not row.is_final and not row.owner and row.attempt == state.closing.seen_attempt:
            closed = closed._replace(row=_closed(rules, row, state.closing))
        yield Label(CLOSED), closed
    elif not row.is_final and not row.owner and (row.cancel or (has_sweeper and row.tries >= rules.bounds.max_tries)):
        yield Label(LOOKED), state._replace(closing=_looked(state))
    if has_sweeper and rules.mechanisms.swept_endings and not row.appended and state.redis_is_up:
        yield from _append_ending(rules, state)


def user_steps(state: State) -> Iterator[tuple[Label, State]]:
    row = state.row
    if state.cancels and not row.is_final and not row.cancel:
        asked = row._replace(cancel=True)
        yield Label(CANCELLED, by_user=True), state._replace(row=asked, cancels=state.cancels - 1)
    if state.retries and row.is_final:
        yield Label(RETRIED, by_user=True), state._replace(row=_retried(row), retries=state.retries - 1)


def write_ending(rules: Rules, row: Row, end: Ended, content: str, attempt: int) -> Row:
    """`shared.store.turns.write_ending`."""
    last = end.events[-1]
    is_stored = rules.mechanisms.stored_ending
    is_handed_over = end.status is MessageStatus.BUILDING
    return row._replace(
        has_job=row.has_job or is_handed_over,
        tries=0,  # of a final row nobody looks at them, nor at its cancel
        cancel=row.cancel and is_handed_over,
        attempt=attempt,
        status=end.status,
        content=content,
        owner=0,
        last=last.id,
        ending=end.events if is_stored else (),
        appended=not is_stored,
        ends=(*row.ends, last),
    )


def _is_renewed(state: State) -> bool:
    """Whether somebody keeps the lease alive."""
    return any(
        worker.name == state.row.owner and not worker.is_expired and worker.chapter < Chapter.TELL
        for worker in state.workers
    )


def _looked(state: State) -> Closing:
    """`close` up to its commit: the text of the log where it tells of the row's attempt, else of the row."""
    row = state.row
    content, above = row.content, 0
    if state.redis_is_up and state.log:
        last, shown = state.log[-1], product.newest_attempt(state.log)
        above = last.id.attempt
        row_knows_more = row.last is not None and last.id < row.last
        if above == row.attempt and not row_knows_more and not product.is_terminal(last) and shown[0].id.n == 0:
            content = product.text_of(shown)
    return Closing(row.attempt, content, above, row.cancel)


def _closed(rules: Rules, row: Row, closing: Closing) -> Row:
    attempt = max(row.attempt, closing.above) + 1
    name = "cancelled" if closing.is_cancel else "error"
    end = product.closed(name, closing.content, attempt, row.status, row.calls)
    return write_ending(rules, row, end, closing.content, attempt)


def _append_ending(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    noted = state.row._replace(appended=True)
    for fault, word, after in appended(rules, state, state.row.ending, None):
        if fault is Fault.LOST_REPLY:
            yield Label(SWEPT, 0, fault), after
        else:
            assert word in (Word.OK, Word.THERE, Word.LOST, Word.STALE)
            yield Label(SWEPT, 0, fault), after._replace(row=noted)


def _retried(row: Row) -> Row:
    again = row.status is MessageStatus.SUCCESS
    is_build = row.has_job and not again
    return row._replace(
        run=row.run + 1 if again else row.run,
        status=MessageStatus.BUILDING if is_build else MessageStatus.PENDING,
        content="" if again else row.round_text,
        round_text="" if again else row.round_text,
        has_job=row.has_job and not again,
        tries=0,
        cancel=False,
        ending=(),
        appended=True,
    )
