"""A worker's steps: one call of the store or one append each, in the order of `worker.turn.run_turn`.

A builder's attempt (`worker.build.run_build`) is the same, without rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shared.event_log import Word
from shared.events import EventId
from shared.lifecycle import MessageStatus
from tests.model import product
from tests.model.log import appended, may_happen
from tests.model.state import Chapter, Event, Fault, Label, Row, Rules, State, Story, Worker
from tests.model.sweeper import write_ending

CLAIMED = "claims the message"
BUILD_CLAIMED = "claims the message for its build"
OPENED = "opens its attempt"
DELTA = "appends a delta"
ROUND_STORED = "stores the round"
TOOL_STARTED = "appends tool_start"
EFFECT_COMMITTED = "commits the tool's effect"
LEDGER_WRITTEN = "writes the ledger (apart from the effect)"
TOOL_ENDED = "appends tool_result"
FINALIZED = "commits the end"
TOLD = "appends the ending and notes it"
SENT_AGAIN = "sends what was not acknowledged"
RENEWED = "takes a new attempt, since the log was lost"
CANCEL_HEEDED = "hears of the cancel"
LEASE_RENEWED = "renews its lease, being late"
LEASE_LOST = "finds its lease gone"
HANDED_BACK = "hands the message back"
BEGUN_AGAIN = "begins the round again in a new attempt"
GIVEN_UP = "has no try left"

STANDS_FOR = {
    CLAIMED: "shared.store.turns:TurnStore.claim",
    BUILD_CLAIMED: "shared.store.builds:BuildStore.claim_build",
    OPENED: "worker.turn:Turn.open",
    DELTA: "worker.publisher:Publisher.text",
    ROUND_STORED: "shared.store.turns:TurnStore.store_round",
    TOOL_STARTED: "worker.publisher:Publisher.tool_start",
    EFFECT_COMMITTED: "shared.store.turns:TurnStore.commit_effect",
    LEDGER_WRITTEN: "shared.store.turns:TurnStore.commit_effect",
    TOOL_ENDED: "worker.publisher:Publisher.tool_result",
    FINALIZED: "shared.store.turns:TurnStore.finalize",
    TOLD: "shared.closing:append_ending",
    SENT_AGAIN: "worker.publisher:Publisher._send_oldest",
    RENEWED: "shared.store.turns:TurnStore.begin_attempt",
    CANCEL_HEEDED: "worker.held:Held._check",
    LEASE_RENEWED: "shared.store.turns:TurnStore.renew_leases",
    LEASE_LOST: "worker.leases:LeaseKeeper._renew",
    HANDED_BACK: "worker.held:Held.hand_back",
    BEGUN_AGAIN: "worker.turn:Turn._begin_again",
    GIVEN_UP: "worker.turn:Turn._ask",
}

MOST_WORKERS: Final = 2
_CHECKED: Final = frozenset(
    {Chapter.DELTA_A, Chapter.STORE_ROUND, Chapter.TOOL_START, Chapter.DELTA_B, Chapter.FINALIZE}
)
"""Before these a worker looks whether it should stop."""
_SAID: Final = {
    Chapter.OPEN: OPENED,
    Chapter.DELTA_A: DELTA,
    Chapter.DELTA_B: DELTA,
    Chapter.TOOL_START: TOOL_STARTED,
    Chapter.TOOL_RESULT: TOOL_ENDED,
}

_TEXT_IS_SHOWN: Final = {
    Story.TEXT: (Chapter.DELTA_B, Chapter.FINALIZE),
    Story.TOOL: (Chapter.STORE_ROUND, Chapter.FINALIZE),
    Story.COMPONENT: (Chapter.STORE_ROUND,),
}


def steps(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    """What anybody who works, or could, can do next."""
    if len(state.workers) < MOST_WORKERS and _is_claimable(rules, state.row):
        yield from _claim(rules, state)
    for worker in state.workers:
        yield from _own_steps(rules, state, worker)


# --- claiming ---------------------------------------------------------------------------------------------------


def _is_claimable(rules: Rules, row: Row) -> bool:
    return not row.is_final and not row.owner and not row.cancel and row.tries < rules.bounds.max_tries


def _claim(rules: Rules, state: State) -> Iterator[tuple[Label, State]]:
    row = state.row
    attempt = row.attempt + 1
    builds = row.status is MessageStatus.BUILDING
    claimed = row._replace(attempt=attempt, owner=attempt)
    if builds:
        claimed = claimed._replace(ending=(), appended=True)
    worker = Worker(
        name=attempt,
        attempt=attempt,
        n=0,
        chapter=Chapter.OPEN,
        after_open=Chapter.FINALIZE if builds else _goes_on_at(rules, row),
        run=row.run,
        content=row.content,
        calls=row.calls,
        status=row.status.value,
    )
    label = Label(BUILD_CLAIMED if builds else CLAIMED, attempt)
    yield label, state._replace(row=claimed, workers=(*state.workers, worker))
    if may_happen(rules, state, Fault.LOST_REPLY):
        yield label._replace(fault=Fault.LOST_REPLY), state._replace(row=claimed, faults=state.faults - 1)


def _goes_on_at(rules: Rules, row: Row) -> Chapter:
    """`Turn.converse`: from the last stored round."""
    if not row.round_text:
        return Chapter.DELTA_A
    return _after_call(rules) if row.calls else Chapter.TOOL_START


def _after_call(rules: Rules) -> Chapter:
    return Chapter.FINALIZE if rules.bounds.story is Story.COMPONENT else Chapter.DELTA_B


# --- one worker -------------------------------------------------------------------------------------------------


def _own_steps(rules: Rules, state: State, worker: Worker) -> Iterator[tuple[Label, State]]:
    row = state.row
    if worker.chapter is Chapter.TELL:
        yield from _tell(rules, state, worker)
        return
    if rules.bounds.has_heartbeat:
        if row.owner != worker.name:
            yield Label(LEASE_LOST, worker.name), _gone(state, worker)
        elif worker.is_expired:
            yield Label(LEASE_RENEWED, worker.name), _with(state, worker, worker._replace(is_expired=False))
    if worker.above >= 0:
        yield from _renew(rules, state, worker)
        return
    if worker.waiting and state.redis_is_up and may_append(rules, worker):
        yield from _send(rules, state, worker, worker, SENT_AGAIN)
        return
    if worker.chapter in _CHECKED and not worker.is_repeating:
        if row.cancel and row.owner == worker.name and not worker.outcome:
            stopped = worker._replace(chapter=Chapter.FINALIZE, outcome="cancelled")
            yield Label(CANCEL_HEEDED, worker.name), _with(state, worker, stopped)
        if may_happen(rules, state, Fault.DRAIN):
            freed = row._replace(owner=0) if _holds(rules, row, worker) else row
            yield (
                Label(HANDED_BACK, worker.name, Fault.DRAIN),
                _gone(state, worker)._replace(row=freed, faults=state.faults - 1),
            )
        if may_happen(rules, state, Fault.PROVIDER) and _streams(rules, worker):
            yield _break_stream(rules, state, worker)
    match worker.chapter:
        case Chapter.OPEN | Chapter.DELTA_A | Chapter.DELTA_B | Chapter.TOOL_START | Chapter.TOOL_RESULT:
            yield from _send(rules, state, worker, said(rules, worker), _SAID[worker.chapter])
        case Chapter.STORE_ROUND:
            last = EventId(worker.attempt, worker.n - 1)
            stored = row._replace(content=worker.content, round_text=worker.content, last=last)
            yield from _write(rules, state, worker, stored, Chapter.TOOL_START, ROUND_STORED)
        case Chapter.EFFECT:
            yield from _take_effect(rules, state, worker)
        case Chapter.LEDGER:
            written = row._replace(ledger=(*row.ledger, worker.run))
            yield from _write(rules, state, worker, written, Chapter.TOOL_RESULT, LEDGER_WRITTEN)
        case Chapter.FINALIZE:
            yield from _finalize(rules, state, worker)


def said(rules: Rules, worker: Worker) -> Worker:
    """The worker after it has said what its chapter says, numbered and waiting."""
    id_ = EventId(worker.attempt, worker.n)
    match worker.chapter:
        case Chapter.OPEN:
            event = Event(id_, "status", status="thinking")
            if worker.attempt > 1:
                event = _opening(rules, worker.attempt, worker.content, worker)
            after = worker.after_open
            worker = worker._replace(after_open=Chapter.OPEN)
        case Chapter.DELTA_A:
            event = Event(id_, "delta", f"a{worker.attempt}")
            after = Chapter.DELTA_B if rules.bounds.story is Story.TEXT else Chapter.STORE_ROUND
        case Chapter.DELTA_B:
            event = Event(id_, "delta", f"b{worker.attempt}")
            after = Chapter.FINALIZE
        case Chapter.TOOL_START:
            event = Event(id_, "tool_start")
            worker = worker._replace(calls="started")
            after = Chapter.EFFECT
        case Chapter.TOOL_RESULT:
            event = Event(id_, "tool_result")
            worker = worker._replace(calls="succeeded")
            after = _after_call(rules)
        case _:
            raise AssertionError(worker.chapter)
    return worker._replace(
        n=worker.n + 1,
        chapter=after,
        content=worker.content + (event.text if event.kind == "delta" else ""),
        waiting=(*worker.waiting, event),
    )


def sends_next(state: State, worker: Worker) -> bool:
    """Whether its next step is an append."""
    return state.redis_is_up and worker.above < 0 and (bool(worker.waiting) or worker.chapter in _SAID)


# --- the model ----------------------------------------------------------------------------------------------------


def _builds(worker: Worker) -> bool:
    return worker.status == MessageStatus.BUILDING


def _streams(rules: Rules, worker: Worker) -> bool:
    """Whether the round's text is shown and its stream has not come to its end."""
    return worker.chapter in _TEXT_IS_SHOWN[rules.bounds.story] and not worker.outcome


def _break_stream(rules: Rules, state: State, worker: Worker) -> tuple[Label, State]:
    """A new attempt whose snapshot takes the round's text back; without a try left, the end."""
    row = state.row
    failed = state._replace(faults=state.faults - 1)
    if row.tries + 1 >= rules.bounds.max_tries:
        given_up = worker._replace(chapter=Chapter.FINALIZE, outcome="error")
        return Label(GIVEN_UP, worker.name, Fault.PROVIDER), _with(failed, worker, given_up)
    label = Label(BEGUN_AGAIN, worker.name, Fault.PROVIDER)
    if not _holds(rules, row, worker):
        return label, _gone(failed, worker)
    attempt = row.attempt + 1
    anew = worker._replace(
        attempt=attempt,
        n=1,
        content=row.round_text,
        waiting=(_opening(rules, attempt, row.round_text, worker),),
        chapter=Chapter.DELTA_B if row.round_text else Chapter.DELTA_A,
    )
    return label, _with(failed, worker, anew)._replace(row=row._replace(attempt=attempt, tries=row.tries + 1))


def _opening(rules: Rules, attempt: int, content: str, worker: Worker) -> Event:
    """What a later attempt begins with."""
    if not rules.mechanisms.snapshot:
        return Event(EventId(attempt, 0), "status", status="thinking")
    return Event(EventId(attempt, 0), "snapshot", content, worker.status, worker.calls)


# --- Redis ------------------------------------------------------------------------------------------------------


def may_append(rules: Rules, worker: Worker) -> bool:
    """`Hold.is_valid`, looked at in time or not."""
    return not worker.is_expired or worker.is_past_check or not rules.mechanisms.lease_check


def _send(rules: Rules, state: State, before: Worker, worker: Worker, step: str) -> Iterator[tuple[Label, State]]:
    """Append what waits; where Redis is away, or the lease is over, the work goes on and it is kept."""
    if not state.redis_is_up or not may_append(rules, worker):
        yield Label(step, worker.name), _with(state, before, worker._replace(is_past_check=False))
        return
    for fault, word, after in appended(rules, state, worker.waiting, worker):
        label, sent = Label(step, worker.name, fault), worker._replace(is_past_check=False)
        match word:
            case Word.OK | Word.THERE:
                if fault is not Fault.LOST_REPLY:
                    sent = sent._replace(waiting=())
            case Word.LOST | Word.STALE:
                sent = sent._replace(above=state.log[-1].id.attempt if state.log else 0)
        yield label, _with(after, before, sent)


def _tell(rules: Rules, state: State, worker: Worker) -> Iterator[tuple[Label, State]]:
    """`append_ending`; where Redis is away it is left to the sweeper.

    The note in the row is part of the step, or does not come to be: coming later it would change nothing else.
    """
    if not state.redis_is_up:
        yield Label(TOLD, worker.name), _gone(state, worker)
        return
    for fault, _, after in appended(rules, state, worker.ending, None):
        row = state.row
        if fault is not Fault.LOST_REPLY and row.last == worker.ending[-1].id:
            row = row._replace(appended=True)
        yield Label(TOLD, worker.name, fault), _gone(after, worker)._replace(row=row)
        if fault is None and may_happen(rules, state, Fault.KILL):
            yield Label(TOLD, worker.name, Fault.KILL), _gone(after, worker)._replace(faults=state.faults - 1)


# --- Postgres ---------------------------------------------------------------------------------------------------


def _holds(rules: Rules, row: Row, worker: Worker) -> bool:
    """The fence: `_held`."""
    return not rules.mechanisms.sql_fence or (row.attempt == worker.attempt and row.owner == worker.name)


def _write(
    rules: Rules, state: State, worker: Worker, row: Row, after: Chapter, step: str
) -> Iterator[tuple[Label, State]]:
    """`write_under_lease` with a write that may be repeated."""
    if not _holds(rules, state.row, worker):
        yield Label(step, worker.name), _gone(state, worker)
        return
    written = worker._replace(chapter=after, is_repeating=False)
    yield Label(step, worker.name), _with(state, worker, written)._replace(row=row)
    if may_happen(rules, state, Fault.LOST_REPLY):
        yield Label(step, worker.name, Fault.LOST_REPLY), _repeating(state, worker, row)


def _repeating(state: State, worker: Worker, row: Row) -> State:
    """The write was done and the worker does not know: `_insist` does it again."""
    again = _with(state, worker, worker._replace(is_repeating=True))
    return again._replace(row=row, faults=state.faults - 1)


def _take_effect(rules: Rules, state: State, worker: Worker) -> Iterator[tuple[Label, State]]:
    row, after = state.row, Chapter.TOOL_RESULT
    if worker.run not in row.ledger:
        row = row._replace(effects=row.effects + 1)
        if rules.mechanisms.tool_transaction:
            row = row._replace(ledger=(*row.ledger, worker.run))
        else:
            after = Chapter.LEDGER
    yield from _write(rules, state, worker, row, after, EFFECT_COMMITTED)


def _renew(rules: Rules, state: State, worker: Worker) -> Iterator[tuple[Label, State]]:
    """`begin_attempt`, which cannot be repeated: a lost reply costs the lease. Then the snapshot waits to be sent."""
    row = state.row
    label = Label(RENEWED, worker.name)
    if not _holds(rules, row, worker):
        yield label, _gone(state, worker)
        return
    attempt = max(row.attempt, worker.above) + 1
    renewed = row._replace(attempt=attempt)
    opening = _opening(rules, attempt, worker.content, worker)
    anew = worker._replace(attempt=attempt, n=1, waiting=(opening,), above=-1)
    yield label, _with(state, worker, anew)._replace(row=renewed)
    if may_happen(rules, state, Fault.LOST_REPLY):
        yield (
            label._replace(fault=Fault.LOST_REPLY),
            _gone(state, worker)._replace(row=renewed, faults=state.faults - 1),
        )


def end_of(rules: Rules, worker: Worker) -> str:
    """The status that it is about to commit."""
    if not worker.outcome and rules.bounds.story is Story.COMPONENT and not _builds(worker):
        return MessageStatus.BUILDING.value
    return worker.outcome or MessageStatus.SUCCESS.value


def _finalize(rules: Rules, state: State, worker: Worker) -> Iterator[tuple[Label, State]]:
    row, mechanisms = state.row, rules.mechanisms
    label = Label(FINALIZED, worker.name)
    if not _holds(rules, row, worker):
        is_mine = row.attempt == worker.attempt and row.last is not None and row.last.attempt == worker.attempt
        if mechanisms.repeatable_finalize and is_mine and row.ending:
            yield label, _with(state, worker, _telling(worker, row.ending))
        else:
            yield label, _gone(state, worker)
        return
    end = product.ended(end_of(rules, worker), worker.content, EventId(worker.attempt, worker.n))
    written = write_ending(rules, row, end, worker.content, worker.attempt)
    yield label, _with(state, worker, _telling(worker, end.events))._replace(row=written)
    if may_happen(rules, state, Fault.LOST_REPLY):
        yield label._replace(fault=Fault.LOST_REPLY), _repeating(state, worker, written)


def _telling(worker: Worker, ending: tuple[Event, ...]) -> Worker:
    """The worker once its lease is over and its publisher closed."""
    return Worker(
        name=worker.name,
        attempt=worker.attempt,
        n=0,
        chapter=Chapter.TELL,
        after_open=Chapter.TELL,
        run=worker.run,
        content="",
        calls="",
        status="",
        ending=ending,
    )


# --- who works --------------------------------------------------------------------------------------------------


def _with(state: State, before: Worker, after: Worker) -> State:
    return state._replace(workers=tuple(after if worker is before else worker for worker in state.workers))


def _gone(state: State, gone: Worker) -> State:
    return state._replace(workers=tuple(worker for worker in state.workers if worker is not gone))
