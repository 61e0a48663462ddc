"""Renaming what the model stands for, or changing a rule that it repeats, fails here."""

from __future__ import annotations

import uuid
from importlib import import_module
from itertools import product
from typing import Final

import pytest
import redis

from api.readers import State as ReaderState
from shared import event_log, keys
from shared.event_log import Entry, EventLog
from shared.events import EventId
from tests.contract.appenders import delta, stored
from tests.model import reader, sweeper, worker
from tests.model.append import append
from tests.model.state import Phase

_STANDS_FOR: Final = {**worker.STANDS_FOR, **sweeper.STANDS_FOR, **reader.STANDS_FOR}


@pytest.mark.parametrize("step", list(_STANDS_FOR))
def test_what_a_step_stands_for_exists(step: str) -> None:
    module, _, path = _STANDS_FOR[step].partition(":")
    found = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    assert callable(found)


def test_a_reader_has_the_states_that_it_has_in_the_relay() -> None:
    assert [phase.name for phase in Phase] == [state.name for state in ReaderState]


# --- the append rule --------------------------------------------------------------------------------------------

_ATTEMPTS: Final = (1, 2)
_MOST_N: Final = 2
_TEXTS: Final = ("a", "b")
_DEPTH: Final = 3


def _batches(message_id: str) -> list[list[Entry]]:
    """Every batch of one or two neighbours among six ids, each event with one text or another."""
    ids = [EventId(attempt, n) for attempt in _ATTEMPTS for n in range(_MOST_N + 1)]
    ones = [[delta(message_id, id_, text)] for id_ in ids for text in _TEXTS]
    twos = [
        [delta(message_id, id_, one), delta(message_id, id_.next, two)]
        for id_ in ids
        if id_.n < _MOST_N
        for one, two in product(_TEXTS, repeat=2)
    ]
    return ones + twos


def _reachable(batches: list[list[Entry]]) -> list[list[Entry]]:
    """Every log that so many appends can make, by the model."""
    found: dict[tuple[Entry, ...], None] = {(): None}
    border: list[tuple[Entry, ...]] = [()]
    for _ in range(_DEPTH):
        grown = {
            (*log, *batch[len(batch) - count :])
            for log in border
            for batch in batches
            if (count := append(log, batch).added)
        }
        border = [log for log in grown if log not in found]
        found.update(dict.fromkeys(border))
    return [list(log) for log in found]


def test_every_append_to_every_small_log_is_answered_by_the_script_as_by_the_model(redis_client: redis.Redis) -> None:
    """The same word, the same log after it. An answer depends on the log alone: this stands for every sequence."""
    message_id = str(uuid.uuid4())
    script, name = EventLog(redis_client, retention_s=60), keys.log(message_id)
    batches = _batches(message_id)
    logs = _reachable(batches)
    words = set()
    for log in logs:
        for batch in batches:
            with redis_client.pipeline(transaction=False) as pipeline:
                pipeline.delete(name)
                for entry in log:
                    pipeline.xadd(name, {keys.LOG_FIELD: entry.payload}, id=str(entry.id))
                pipeline.execute()
            word, count = append(log, batch)
            grown = log + batch[len(batch) - count :] if count else log
            answer = script.append(message_id, batch)
            assert answer == event_log.Answer(word, grown[-1].id if grown else None), (log, batch)
            assert stored(redis_client, message_id) == grown, (log, batch)
            words.add(word)
    redis_client.delete(name)
    assert words == set(event_log.Word)
    print(f"{len(logs)} logs, {len(logs) * len(batches)} appends")
