"""The event log: one suite over both of its appenders, on a real Valkey.

Saving to the log and publishing are one step; an append may be repeated; a stale writer and a log that was lost are told.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest
import redis

from dev.embedded import EmbeddedValkey
from shared import event_log, keys
from shared.errors import LogUnavailable
from shared.event_log import Answer, Entry, EventLog, Publication, Word
from shared.events import Delta, EventId
from tests.contract.appenders import APPENDERS, Appender, Ear, delta, entry, opening, stored
from tests.trace_checker import check_trace

RETENTION_S: Final = 120


@pytest.fixture(params=list(APPENDERS))
def appender(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Appender]:
    with APPENDERS[request.param](redis_url, retention_s=RETENTION_S) as made:
        yield made


@pytest.fixture
def message_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def ear(redis_client: redis.Redis, message_id: str) -> Iterator[Ear]:
    made = Ear(redis_client, keys.message_channel(message_id), keys.project_channel(message_id))
    yield made
    made.close()


@pytest.fixture
def run(appender: Appender, message_id: str) -> Callable[..., Answer]:
    """Appends deltas with these ids and text, ``run("1-0", "1-1")``; an id may be given with its text: ``("1-0", "b")``."""

    def append(*ids: str | tuple[str, str]) -> Answer:
        made = [(one, "a") if isinstance(one, str) else one for one in ids]
        return appender.append(message_id, [delta(message_id, EventId.parse(id_), text) for id_, text in made])

    return append


def _said(word: Word, last: str | None) -> Answer:
    return Answer(word, None if last is None else EventId.parse(last))


# --- what is accepted -------------------------------------------------------------------------------------------


def test_events_are_appended_one_after_the_other(
    run: Callable[..., Answer], redis_client: redis.Redis, message_id: str
) -> None:
    """The entry's id is the event's, its field `e` the event's bytes."""
    assert run("1-0") == _said(Word.OK, "1-0")
    assert run("1-1", "1-2") == _said(Word.OK, "1-2")
    assert stored(redis_client, message_id) == [delta(message_id, EventId(1, n)) for n in range(3)]


def test_a_later_attempt_begins_at_0_wherever_the_earlier_one_stopped(run: Callable[..., Answer]) -> None:
    run("1-0", "1-1", "1-2")
    assert run("2-0", "2-1") == _said(Word.OK, "2-1")
    assert run("7-0") == _said(Word.OK, "7-0")


def test_an_attempt_may_begin_on_an_empty_log(run: Callable[..., Answer]) -> None:
    assert run("4-0") == _said(Word.OK, "4-0")


def test_a_log_s_channel_hears_exactly_what_was_appended_in_order(
    run: Callable[..., Answer], ear: Ear, redis_client: redis.Redis, message_id: str
) -> None:
    run("1-0")
    run("1-1", "1-2", "1-3")
    run("2-0")
    channel = keys.message_channel(message_id)
    assert ear.heard() == [(channel, entry.payload) for entry in stored(redis_client, message_id)]


def test_what_is_published_as_well_comes_after_the_events_in_its_order(
    appender: Appender, ear: Ear, message_id: str
) -> None:
    other = keys.project_channel(message_id)
    event = delta(message_id, EventId(1, 0))
    appender.append(message_id, [event], [Publication(other, b"one"), Publication(other, "zwei é".encode())])
    assert ear.heard() == [
        (keys.message_channel(message_id), event.payload),
        (other, b"one"),
        (other, "zwei é".encode()),
    ]


def test_every_append_lets_the_log_live_for_its_time(
    run: Callable[..., Answer], redis_client: redis.Redis, message_id: str
) -> None:
    run("1-0")
    assert 0 < redis_client.ttl(keys.log(message_id)) <= RETENTION_S
    redis_client.expire(keys.log(message_id), 5)
    run("1-1")
    assert redis_client.ttl(keys.log(message_id)) > 5


def test_bytes_go_in_and_out_as_they_are(
    appender: Appender, redis_client: redis.Redis, ear: Ear, message_id: str
) -> None:
    hard = entry(Delta(id="1-0", message_id=message_id, ts=1, content='\r\n"\\ 	é 😀 ok\u2028' * 1000))
    appender.append(message_id, [hard])
    assert stored(redis_client, message_id) == [hard]
    assert [payload for _, payload in ear.heard()] == [hard.payload]


# --- what is there already --------------------------------------------------------------------------------------


def test_a_repeated_append_is_told_that_it_is_there(run: Callable[..., Answer]) -> None:
    run("1-0", "1-1", "1-2")
    assert run("1-2") == _said(Word.THERE, "1-2")
    assert run("1-0", "1-1") == _said(Word.THERE, "1-2")
    assert run("1-0", "1-1", "1-2") == _said(Word.THERE, "1-2")


def test_of_a_batch_that_is_partly_there_the_rest_is_appended_and_published(
    run: Callable[..., Answer], ear: Ear, redis_client: redis.Redis, message_id: str
) -> None:
    run("1-0", "1-1")
    ear.heard()
    assert run("1-1", "1-2", "1-3") == _said(Word.OK, "1-3")
    assert [str(entry.id) for entry in stored(redis_client, message_id)] == ["1-0", "1-1", "1-2", "1-3"]
    assert [payload for _, payload in ear.heard()] == [delta(message_id, EventId(1, n)).payload for n in (2, 3)]


# --- what is refused --------------------------------------------------------------------------------------------

_REFUSED: Final[dict[str, tuple[list[str], list[str | tuple[str, str]], Word]]] = {
    "an older attempt": (["2-0"], ["1-0"], Word.STALE),
    "an older attempt that goes on": (["1-0", "1-1", "2-0"], ["1-2"], Word.STALE),
    "an older attempt that repeats itself": (["1-0", "1-1", "2-0"], ["1-1"], Word.STALE),
    "an older attempt with a greater number": (["2-0"], ["1-58"], Word.STALE),
    "going on upon an empty log": ([], ["1-1"], Word.LOST),
    "going on in an attempt that the log does not have": (["1-0"], ["2-1"], Word.LOST),
    "a gap": (["1-0"], ["1-2"], Word.LOST),
    "other bytes under the last id": (["1-0", "1-1"], [("1-1", "b")], Word.LOST),
    "other bytes under an earlier id": (["1-0", "1-1"], [("1-0", "b")], Word.LOST),
    "other bytes under the first id of an attempt": (["2-0"], [("2-0", "b")], Word.LOST),
    "a batch that begins with other bytes": (["1-0", "1-1"], [("1-1", "b"), "1-2"], Word.LOST),
    "a batch of which one has other bytes": (["1-0", "1-1", "1-2"], ["1-0", ("1-1", "b"), "1-2"], Word.LOST),
    "a batch that begins after a gap": (["1-0"], ["1-2", "1-3"], Word.LOST),
}


@pytest.mark.parametrize(("before", "refused", "word"), _REFUSED.values(), ids=_REFUSED.keys())
def test_an_append_is_refused_and_nobody_hears_of(
    run: Callable[..., Answer],
    ear: Ear,
    redis_client: redis.Redis,
    message_id: str,
    before: list[str],
    refused: list[str | tuple[str, str]],
    word: Word,
) -> None:
    """Nothing is appended and nothing published; the answer tells where the log ends."""
    for id_ in before:
        assert run(id_).word is Word.OK
    log = stored(redis_client, message_id)
    ear.heard()
    assert run(*refused) == _said(word, before[-1] if before else None)
    assert stored(redis_client, message_id) == log
    assert ear.heard() == []


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_what_goes_out_beside_an_append_goes_out_only_with_it(
    appender: Appender, ear: Ear, message_id: str, attempt: int
) -> None:
    """Neither where the events are there already, nor where they are refused."""
    appender.append(message_id, [delta(message_id, EventId(2, 0))])
    ear.heard()
    also = [Publication(keys.project_channel(message_id), b"beside")]
    refused = delta(message_id, EventId(attempt, 1 if attempt == 3 else 0))
    assert appender.append(message_id, [refused], also).word is not Word.OK
    assert ear.heard() == []


def test_a_log_that_was_emptied_is_noticed_by_the_next_append(
    run: Callable[..., Answer], redis_client: redis.Redis, message_id: str
) -> None:
    run("1-0", "1-1")
    redis_client.delete(keys.log(message_id))
    assert run("1-2") == _said(Word.LOST, None)
    assert run("2-0") == _said(Word.OK, "2-0")


def test_a_log_that_lost_its_end_is_noticed_by_the_next_append(
    run: Callable[..., Answer], redis_client: redis.Redis, message_id: str
) -> None:
    run("1-0", "1-1", "1-2")
    redis_client.xdel(keys.log(message_id), "1-2")
    assert run("1-3") == _said(Word.LOST, "1-1")


def test_a_script_that_redis_has_forgotten_is_sent_again(run: Callable[..., Answer], redis_client: redis.Redis) -> None:
    run("1-0")
    redis_client.script_flush()
    assert run("1-1") == _said(Word.OK, "1-1")
    assert run("1-2") == _said(Word.OK, "1-2")


# --- against a model --------------------------------------------------------------------------------------------


def _expected(log: list[Entry], batch: list[Entry]) -> tuple[Word, list[Entry]]:
    """What the promise says of this append, in the words of the contract."""
    known = dict(log)
    last = log[-1].id if log else EventId(0, 0)
    if batch[0].id.attempt < last.attempt:
        return Word.STALE, []
    told = [one for one in batch if one.id <= last]
    if any(known.get(one.id) != one.payload for one in told):
        return Word.LOST, []
    new = batch[len(told) :]
    if not new:
        return Word.THERE, []
    if new[0].id.n > 0 and new[0].id != last.next:
        return Word.LOST, []
    return Word.OK, new


@pytest.mark.parametrize("seed", range(6))
def test_random_appends_are_answered_as_the_promise_says(
    appender: Appender, redis_client: redis.Redis, ear: Ear, message_id: str, seed: int
) -> None:
    seeded = random.Random(seed)
    model: list[Entry] = []
    appended: list[Entry] = []
    for _ in range(250):
        if seeded.random() < 0.03:
            redis_client.delete(keys.log(message_id))
            model = []
        near = model[-1].id if model else EventId(1, 0)
        first = EventId(
            max(1, near.attempt + seeded.choice([-1, 0, 0, 0, 0, 0, 1])),
            seeded.choice([0, 0, near.n, near.n + 1, near.n + 1, near.n + 1, near.n + 2, max(0, near.n - 1)]),
        )
        batch = [
            delta(message_id, EventId(first.attempt, first.n + offset), seeded.choice(["a", "a", "a", "b"]))
            for offset in range(seeded.choice([1, 1, 1, 2, 3]))
        ]
        word, new = _expected(model, batch)
        model += new
        appended += new
        assert appender.append(message_id, batch) == Answer(word, model[-1].id if model else None), f"seed {seed}"
        assert stored(redis_client, message_id) == model, f"seed {seed}"
    assert [payload for _, payload in ear.heard()] == [one.payload for one in appended], f"seed {seed}"


# --- two writers ------------------------------------------------------------------------------------------------


class _Row:
    """The fencing token, as the message's row gives it out."""

    def __init__(self) -> None:
        self._attempt = 0
        self._lock = threading.Lock()

    def next_attempt(self) -> int:
        with self._lock:
            self._attempt += 1
            return self._attempt


def _write(appender: Appender, row: _Row, message_id: str, seed: int, results: list[list[Entry]]) -> None:
    """A writer that goes on, repeats itself, begins anew, and knows nothing of the other one."""
    seeded = random.Random(seed)
    accepted: list[Entry] = []
    at = EventId(row.next_attempt(), 0)
    batch = [opening(message_id, at.attempt)]
    for _ in range(120):
        answer = appender.append(message_id, batch)
        if answer.word is Word.OK:
            accepted += batch
        if answer.word in (Word.STALE, Word.LOST) or seeded.random() < 0.05:
            at = EventId(row.next_attempt(), 0)
            batch = [opening(message_id, at.attempt)]
        elif seeded.random() < 0.8:
            first = batch[-1].id.next
            batch = [
                delta(message_id, EventId(first.attempt, first.n + offset), f"{seed}:{seeded.random()}")
                for offset in range(seeded.randint(1, 3))
            ]
        # else: the same once more, as after a lost reply
    results.append(accepted)


@pytest.mark.parametrize(
    "pair", [("EventLog", "EventLog"), ("EventLog", "LoopEventLog"), ("LoopEventLog", "LoopEventLog")]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_two_writers_on_one_log_leave_a_log_that_a_reader_may_be_sent(
    redis_url: str, redis_client: redis.Redis, ear: Ear, message_id: str, pair: tuple[str, str], seed: int
) -> None:
    """Whatever is accepted stands in the log, and was published, in one and the same legal order."""
    row, results = _Row(), list[list[Entry]]()
    with ExitStack() as exits:
        appenders = [exits.enter_context(APPENDERS[name](redis_url)) for name in pair]
        writers = [
            threading.Thread(target=_write, args=(appender, row, message_id, 10 * seed + number, results))
            for number, appender in enumerate(appenders)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    log = stored(redis_client, message_id)
    check_trace([one.payload for one in log], from_start=log[0].id == EventId(1, 0))
    assert sorted(one for accepted in results for one in accepted) == log, f"seed {seed}"
    assert [payload for _, payload in ear.heard()] == [one.payload for one in log], f"seed {seed}"


# --- reading ----------------------------------------------------------------------------------------------------


def test_a_replay_is_the_newest_attempt_from_its_start(log: EventLog, message_id: str) -> None:
    for attempt, count in ((1, 4), (2, 3), (10, 2)):
        log.append(message_id, [delta(message_id, EventId(attempt, n)) for n in range(count)])
    assert [str(one.id) for one in log.replay(message_id)] == ["10-0", "10-1"]


def test_a_replay_after_an_event_of_the_newest_attempt_is_what_follows_it(log: EventLog, message_id: str) -> None:
    log.append(message_id, [delta(message_id, EventId(2, n)) for n in range(12)])
    assert [str(one.id) for one in log.replay(message_id, EventId(2, 9))] == ["2-10", "2-11"]
    assert not log.replay(message_id, EventId(2, 11))
    assert not log.replay(message_id, EventId(2, 500))


def test_a_replay_after_an_event_of_another_attempt_begins_at_the_newest_one_s_start(
    log: EventLog, message_id: str
) -> None:
    log.append(message_id, [delta(message_id, EventId(1, n)) for n in range(3)])
    log.append(message_id, [delta(message_id, EventId(2, n)) for n in range(2)])
    for after in (EventId(1, 1), EventId(3, 0)):
        assert [str(one.id) for one in log.replay(message_id, after)] == ["2-0", "2-1"]


def test_any_attempt_that_the_log_still_has_can_be_read(log: EventLog, message_id: str) -> None:
    for attempt in (1, 2, 10):
        log.append(message_id, [delta(message_id, EventId(attempt, n)) for n in range(2)])
    for attempt in (1, 2, 10):
        assert [str(one.id) for one in log.attempt(message_id, attempt)] == [f"{attempt}-0", f"{attempt}-1"]
    assert not log.attempt(message_id, 3)


def test_a_log_that_is_not_there_replays_nothing(log: EventLog, message_id: str) -> None:
    assert not log.replay(message_id)
    assert not log.replay(message_id, EventId(1, 1))


def test_the_ends_of_many_logs_are_told_in_one_go(log: EventLog, message_id: str) -> None:
    other = str(uuid.uuid4())
    log.append(message_id, [delta(message_id, EventId(1, n)) for n in range(3)])
    assert log.last_ids([other, message_id]) == [None, EventId(1, 2)]
    assert log.last_ids([]) == []


def test_the_newest_attempt_is_the_greatest_number_not_the_greatest_text(log: EventLog, message_id: str) -> None:
    for attempt in (9, 10, 100):
        log.append(message_id, [delta(message_id, EventId(attempt, 0))])
    assert log.last_ids([message_id]) == [EventId(100, 0)]


# --- Redis away -------------------------------------------------------------------------------------------------


@pytest.fixture(params=list(APPENDERS))
def far_appender(request: pytest.FixtureRequest, own_valkey: EmbeddedValkey) -> Iterator[Appender]:
    with APPENDERS[request.param](own_valkey.url) as made:
        yield made


def test_where_redis_is_killed_an_append_says_so_and_goes_on_when_it_is_back(
    far_appender: Appender, own_valkey: EmbeddedValkey, message_id: str
) -> None:
    far_appender.append(message_id, [opening(message_id, 1)])
    own_valkey.kill()
    with pytest.raises(LogUnavailable):
        far_appender.append(message_id, [delta(message_id, EventId(1, 1))])
    own_valkey.restart()
    _until_up(far_appender, message_id)


def test_where_redis_is_frozen_an_append_gives_up(
    far_appender: Appender, own_valkey: EmbeddedValkey, message_id: str
) -> None:
    """It does not wait for ever; the outcome is unknown, and a repeated append settles it."""
    import os
    import signal

    far_appender.append(message_id, [opening(message_id, 1)])
    event = delta(message_id, EventId(1, 1))
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LogUnavailable):
            far_appender.append(message_id, [event])
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)
    word = _until_up(far_appender, message_id, event)
    assert word in (Word.OK, Word.THERE)
    client = event_log.connect(own_valkey.url)
    assert [one.id for one in stored(client, message_id)] == [EventId(1, 0), EventId(1, 1)], "it is there once"
    client.close()


def test_reading_says_so_where_redis_is_away(own_valkey: EmbeddedValkey, message_id: str) -> None:
    client = event_log.connect(own_valkey.url)
    log = EventLog(client)
    own_valkey.kill()
    for question in (
        lambda: log.replay(message_id),
        lambda: log.attempt(message_id, 1),
        lambda: log.last_ids([message_id]),
        lambda: log.publish(Publication("x", b"y")),
    ):
        with pytest.raises(LogUnavailable):
            question()
    client.close()


def _until_up(appender: Appender, message_id: str, event: Entry | None = None) -> Word:
    """The answer to this append once there is one: the blocking side connects at once, the loop's in the background."""
    ready = threading.Event()
    for _ in range(200):
        try:
            return appender.append(message_id, [event or opening(message_id, 9)]).word
        except LogUnavailable:
            ready.wait(0.05)
    raise TimeoutError("Redis is back and nobody can append")
