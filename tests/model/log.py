"""Appending in the model: the rule, what the reader hears of it, and what may go wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator

from shared.event_log import Word
from tests.model import promises
from tests.model.append import append
from tests.model.reader import published
from tests.model.state import Event, Fault, Link, Phase, Rules, State, Worker


def may_happen(rules: Rules, state: State, fault: Fault) -> bool:
    return state.faults > 0 and fault in rules.bounds.kinds


def appended(
    rules: Rules, state: State, batch: tuple[Event, ...], worker: Worker | None
) -> Iterator[tuple[Fault | None, Word, State]]:
    """Every way in which an append to a Redis that is there can go."""
    mechanisms = rules.mechanisms
    word, count = append(state.log, batch, id_fence=mechanisms.id_fence, lost_check=mechanisms.lost_check)
    if word is not Word.OK:
        yield None, word, state
        return
    added = batch[len(batch) - count :]
    broken = promises.broken_by_appending(state, added, worker)
    kept = state.log
    if mechanisms.id_fence and kept and kept[-1].id.attempt != added[0].id.attempt:
        kept = ()  # nobody reads of an earlier attempt, and no append looks at it
    longer = state._replace(log=kept + added, broken=broken)
    heard = _heard(rules, longer, added)
    yield None, word, heard
    if may_happen(rules, state, Fault.LOST_REPLY):
        yield Fault.LOST_REPLY, word, heard._replace(faults=state.faults - 1)
    if may_happen(rules, state, Fault.LOST_MESSAGE) and _listens(state):
        for index in range(count):
            rest = added[:index] + added[index + 1 :]
            yield Fault.LOST_MESSAGE, word, _heard(rules, longer._replace(faults=state.faults - 1), rest)


def _listens(state: State) -> bool:
    return state.reader.link is Link.STANDS and state.reader.phase in (Phase.LIVE, Phase.FETCHING)


def _heard(rules: Rules, state: State, events: tuple[Event, ...]) -> State:
    reader, broken = published(rules, state.reader, events)
    return state._replace(reader=reader, broken=state.broken or broken)
