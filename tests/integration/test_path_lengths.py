"""How many steps a message takes, counted where they are taken: who makes the path longer is told here.

Counts, and no times: they are the same on every machine. `benchmarks/` measures what the steps cost.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from sqlalchemy import Engine, event

from benchmarks.redis_calls import RedisCalls
from dev.embedded import EmbeddedValkey
from dev.scripted_model.control import ScriptedModel
from shared import events
from shared.batches import BatchFilter
from shared.events import Delta, EventId, Status
from shared.lifecycle import MessageStatus
from tests.integration.relay_parts import Stage
from tests.integration.worker_parts import Bench, opened_bench
from worker.turn import run_turn

_PIECES: Final = 20
_LATE: Final = 2_000
SQL_OF_A_TURN: Final = 9
AGAIN: Final = 2
"""A message that is answered again has stored rounds and effects to be read."""


@pytest.fixture
def bench(database_url: str, own_valkey: EmbeddedValkey, scripted: ScriptedModel) -> Iterator[Bench]:
    """With a Valkey that nobody else asks anything of."""
    with opened_bench(database_url=database_url, redis_url=own_valkey.url, model=scripted) as made:
        yield made


@pytest.fixture
def stage(own_valkey: EmbeddedValkey) -> Iterator[Stage]:
    """A relay that is alone with its Valkey, and looks by itself at nothing while a test runs."""
    made = Stage(own_valkey.url, idle_check_s=600)
    yield made
    made.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL that this thread sends; leases are renewed on another one."""
    sent: list[str] = []
    thread = threading.get_ident()

    def on_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
        if threading.get_ident() == thread:
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", on_statement)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", on_statement)


def test_an_event_takes_one_round_trip_to_redis_and_four_commands_in_it(bench: Bench) -> None:
    """The script looks at the log's end, appends, sets the expiry and publishes; nothing else is asked for a delta."""
    workshop = bench.workshop()
    bench.model.say("warm", {"text": "up"})
    run_turn(workshop, bench.ask("warm"))
    bench.model.say("go", {"text": "word " * _PIECES, "chunks": _PIECES, "pace": 0.03})
    message_id = bench.ask()
    counted = RedisCalls(bench.client)
    run_turn(workshop, message_id)
    calls = counted.calls()
    appended = len(bench.check(message_id)[1])
    assert calls["xadd"] == appended
    assert calls["evalsha"] <= appended - 1, "the ending's two events go in one call"
    assert calls["xrevrange"] == calls["expire"] == calls["evalsha"]
    beside = set(calls) - {"evalsha", "xadd", "xrevrange", "expire", "publish"}
    assert not beside, f"a turn asks Redis for {beside}"
    lifecycle = 3  # the status, complete and finalized are told to the project's watchers as well
    operators = 2  # started, finalized
    assert calls["publish"] == appended + lifecycle + operators


def test_events_that_come_together_take_one_round_trip(bench: Bench) -> None:
    workshop = bench.workshop()
    bench.model.say("warm", {"text": "up"})
    run_turn(workshop, bench.ask("warm"))
    bench.model.say("go", {"text": "word " * 200, "chunks": 200})
    message_id = bench.ask()
    counted = RedisCalls(bench.client)
    run_turn(workshop, message_id)
    assert bench.row(message_id).content == "word " * 200
    assert counted.calls()["evalsha"] <= 50, "what comes faster than the window is merged"


def test_a_plain_answer_takes_so_many_sql_statements_however_long_it_is(bench: Bench) -> None:
    """Claim, context, end: none for a delta."""
    workshop = bench.workshop()
    counts = []
    for pieces in (1, 1, 60):
        bench.model.say("go", {"text": "word " * pieces, "chunks": pieces, "pace": 0.001})
        message_id = bench.ask(project_id=bench.new_project())
        with statements() as sent:
            run_turn(workshop, message_id)
        bench.check(message_id)
        counts.append(len(sent))
    assert counts[1] == counts[2]
    assert counts[2] <= SQL_OF_A_TURN, "\n".join(sent)


def test_a_message_of_a_batch_takes_as_many_statements_and_a_step_of_a_batch_few(bench: Bench) -> None:
    """What sends it needs one for each item, and as many for twenty items as for ten; its turn none more than a person's."""
    workshop = bench.workshop()
    counts = {}
    for count in (10, 20):
        bench.model.say("go", {"refusal": "No."})
        ids = [bench.ask(project_id=bench.new_project()) for _ in range(count)]
        for message_id in ids:
            run_turn(workshop, message_id)
        bench.model.say("go", {"text": "word"})
        bench.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="ops")
        with statements() as sent:
            step = bench.store.send_batch_items(limit=count, window=100)
        assert step is not None
        assert len(step.again) == count
        counts[count] = len(sent)
        for message_id in ids:
            with statements() as sent:
                run_turn(workshop, message_id)
            assert bench.row(message_id).status == "success"
            assert len(sent) <= SQL_OF_A_TURN + AGAIN, "\n".join(sent)
    # projects are updated one by one as well
    assert counts[20] - counts[10] <= 2 * 10
    assert counts[10] <= 2 * 10 + 14


def test_a_live_event_asks_nothing_of_redis_or_the_rows_whoever_reads_it(stage: Stage) -> None:
    """Twenty readers of one channel: what is published is all that they need."""
    story = stage.story()
    story.begin()
    clients = [stage.socket(story.target()) for _ in range(20)]
    for client in clients:
        client.until(EventId(1, 0))
    counted, reads = RedisCalls(stage.log._client), stage.rows.reads  # the test is a second client of the same Valkey
    for number in range(_PIECES):
        story.say(f"{number} ")
    for client in clients:
        client.until(EventId(1, _PIECES))
    calls = counted.calls()
    assert calls == dict.fromkeys(("evalsha", "xadd", "xrevrange", "expire", "publish"), _PIECES)
    assert stage.rows.reads == reads


def test_a_late_reader_gets_thousands_of_deltas_in_one_frame_of_about_the_texts_size(stage: Stage) -> None:
    story = stage.story()
    story.begin()
    for start in range(0, _LATE, 100):
        story.say(*(f"{number:05} " for number in range(start, start + 100)))
    client = stage.socket(story.target())
    client.until(EventId(1, _LATE))
    assert [type(told) for told in client.events] == [Status, Delta]
    assert client.transcript == story.transcript
    assert len(events.encode(client.events[1])) < len(story.transcript.content) + 200
