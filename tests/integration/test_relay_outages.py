"""Readers get the whole story through what Redis and the database do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from dev.embedded import EmbeddedValkey
from shared import event_log, keys
from shared.events import Complete, EventId, Finalized, Snapshot
from tests import rights
from tests.integration.relay_parts import Stage, Story

SetUp = Callable[..., Stage]


@pytest.fixture
def set_up(own_valkey: EmbeddedValkey) -> Iterator[SetUp]:
    """Relays on a server that the test may mistreat."""
    stages: list[Stage] = []

    def make(**environment: Any) -> Stage:
        stages.append(Stage(own_valkey.url, **environment))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def client(own_valkey: EmbeddedValkey) -> Iterator[redis.Redis]:
    made = event_log.connect(rights.as_admin(own_valkey.url))
    yield made
    made.close()


def begun(stage: Stage) -> Story:
    story = stage.story()
    story.begin()
    return story


def test_a_cut_subscription_loses_nothing(set_up: SetUp, client: redis.Redis) -> None:
    """The subscription is killed again and again while a stream runs; each reader sees all of it, in order."""
    stage = set_up(idle_check_s=30)
    story = begun(stage)
    readers = [stage.socket(story.target()) for _ in range(10)]
    for reader in readers:
        reader.until(EventId(1, 0))

    def write() -> None:
        for step in range(600):
            if step % 60 == 30:
                client.client_kill_filter(_type="pubsub")
            story.say(f"{step} ")
        story.finish()

    writer = threading.Thread(target=write)
    writer.start()
    for reader in readers:
        assert reader.until_closed() == 1000
        assert reader.transcript == story.transcript
    writer.join()


def test_what_was_appended_while_the_subscription_was_cut_comes_as_soon_as_it_is_back(
    set_up: SetUp, client: redis.Redis
) -> None:
    """Long before any idle check."""
    stage = set_up(idle_check_s=60)
    story = begun(stage)
    reader = stage.socket(story.target())
    reader.until(EventId(1, 0))
    with client.pipeline() as pipeline:
        pipeline.client_kill_filter(_type="pubsub")
        (entry,) = story.make([Complete(**story.base(), final_content="meanwhile")])
        pipeline.xadd(keys.log(story.message_id), {"e": entry.payload}, id=str(entry.id))
        pipeline.execute()
    reader.until(EventId(1, 1))


def test_a_log_emptied_in_mid_stream_is_followed_by_the_new_attempts_snapshot(
    set_up: SetUp, client: redis.Redis
) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("before ")
    reader = stage.socket(story.target())
    reader.until(EventId(1, 1))
    client.flushall()
    stage.rows.wait_reads(2)
    story.new_attempt()
    story.say("after")
    late = stage.socket(story.target(after=EventId(1, 1)))
    story.finish()
    for one in (reader, late):
        assert one.until_closed() == 1000
        assert one.transcript.content == "before after"
    assert isinstance(reader.events[2], Snapshot)
    assert reader.events[2].id == "2-0"


def test_an_unfinished_row_whose_log_is_gone_is_shown_as_a_snapshot_under_its_last_id(
    set_up: SetUp, client: redis.Redis
) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("stored")
    story.commit("pending")
    client.flushall()
    reader = stage.socket(story.target())
    snapshot = reader.until(EventId(1, 1))
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.content, snapshot.status, snapshot.reason) == ("stored", "pending", "restored")
    behind = stage.socket(story.target(after=EventId(1, 0)))
    assert isinstance(behind.until(EventId(1, 1)), Snapshot)
    story.new_attempt()
    assert reader.until(EventId(2, 0)) == behind.until(EventId(2, 0))


@pytest.mark.parametrize("after", [None, EventId(1, 0), EventId(1, 1)])
def test_a_final_row_whose_log_is_gone_is_a_snapshot_and_its_end(
    set_up: SetUp, client: redis.Redis, after: EventId | None
) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("all of it")
    story.finish()
    client.flushall()
    reader = stage.socket(story.target(after=after))
    assert reader.until_closed() == 1000
    snapshot, finalized = reader.events
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.id, snapshot.content, snapshot.status) == ("1-2", "all of it", "success")
    assert isinstance(finalized, Finalized)
    assert finalized.id == "1-3"


def test_a_reader_that_has_all_but_the_last_event_of_a_lost_log_gets_only_that(
    set_up: SetUp, client: redis.Redis
) -> None:
    stage = set_up()
    story = begun(stage)
    story.finish()
    client.flushall()
    reader = stage.socket(story.target(after=EventId(1, 1)))
    assert reader.until_closed() == 1000
    assert [event.id for event in reader.events] == ["1-2"]


def test_an_ending_that_is_appended_right_after_its_commit_comes_from_the_log(set_up: SetUp) -> None:
    """A reader that joins between commit and append sees the ending's own events, not a restored snapshot."""
    stage = set_up(idle_check_s=5)
    story = begun(stage)
    story.say("all of it")
    ending = story.commit(
        "success",
        [
            Complete(**story.base(), final_content="all of it"),
            Finalized(**story.base(), status="success"),
        ],
    )
    reader = stage.socket(story.target())
    reader.until(EventId(1, 1))
    story.log.append(story.message_id, ending)
    assert reader.until_closed() == 1000
    assert [type(event).__name__ for event in reader.events] == ["Status", "Delta", "Complete", "Finalized"]


def test_an_ending_that_nobody_appends_comes_from_the_row(set_up: SetUp) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("all of it")
    reader = stage.socket(story.target())
    reader.until(EventId(1, 1))
    story.finish(append=False)
    assert reader.until_closed() == 1000
    assert reader.transcript == story.transcript


def test_a_restarted_redis_goes_on_with_the_same_readers(set_up: SetUp, own_valkey: EmbeddedValkey) -> None:
    stage = set_up()
    story = begun(stage)
    readers = [stage.socket(story.target()) for _ in range(5)]
    for reader in readers:
        reader.until(EventId(1, 0))
    own_valkey.kill()
    own_valkey.restart()
    story.say("after the restart")
    for reader in readers:
        reader.until(EventId(1, 1))
    story.finish()
    assert {reader.until_closed() for reader in readers} == {1000}


def test_while_redis_is_down_the_row_answers(set_up: SetUp, own_valkey: EmbeddedValkey) -> None:
    """Readers that follow, and readers that come, get the end that is committed meanwhile."""
    stage = set_up()
    story, other = begun(stage), begun(stage)
    story.say("said ")
    follows = stage.socket(story.target())
    follows.until(EventId(1, 1))
    stays = stage.socket(other.target())
    stays.until(EventId(1, 0))
    own_valkey.kill()
    comes = stage.socket(story.target())
    story.finish(append=False)
    assert (follows.until_closed(), comes.until_closed()) == (1000, 1000)
    assert follows.transcript == story.transcript
    assert comes.transcript == story.transcript
    own_valkey.restart()
    other.say("and on it goes")
    stays.until(EventId(1, 1))


def test_while_the_database_is_down_the_log_answers(set_up: SetUp) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("said")
    stage.rows.is_down = True
    reader = stage.socket(story.target())
    reader.until(EventId(1, 1))
    story.finish()
    assert reader.until_closed() == 1000


def test_with_both_down_a_reader_is_kept_until_one_is_back(set_up: SetUp, own_valkey: EmbeddedValkey) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("said")
    own_valkey.kill()
    stage.rows.is_down = True
    reader = stage.socket(story.target())
    stage.rows.wait_reads(3)
    assert reader.events == []
    story.finish(append=False)
    stage.rows.is_down = False
    assert reader.until_closed() == 1000
    assert reader.transcript == story.transcript


def test_a_relay_that_starts_without_redis_answers_from_the_row_and_goes_on_when_it_comes(
    set_up: SetUp, own_valkey: EmbeddedValkey
) -> None:
    stage = set_up()
    story = begun(stage)
    story.say("stored")
    story.commit("pending")
    own_valkey.kill()
    late = set_up()
    late.rows.put(stage.rows.reader_rows([story.message_id])[story.message_id])
    reader = late.socket(story.target())
    assert isinstance(reader.until(EventId(1, 1)), Snapshot)
    assert not late.relay.is_connected
    own_valkey.restart()
    story.say(" and said")
    reader.until(EventId(1, 2))


def test_a_relay_that_has_just_started_reads_the_log(set_up: SetUp) -> None:
    """Its first reader does not find it without Redis for the moment that connecting takes."""
    story = begun(set_up())
    story.finish()
    for _ in range(10):
        stage = set_up()
        stage.rows.put(story.rows.reader_rows([story.message_id])[story.message_id])
        reader = stage.socket(story.target())
        assert reader.until_closed() == 1000
        assert not any(isinstance(event, Snapshot) for event in reader.events)


def test_a_payload_that_no_writer_made_is_passed_over(
    set_up: SetUp, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stage = set_up()
    story = begun(stage)
    reader = stage.socket(story.target())
    reader.until(EventId(1, 0))
    for payload in (b"", b"not json", b'{"type":"delta"}', b'{"type":"finalized","id":"1-1"}'):
        client.publish(keys.message_channel(story.message_id), payload)
        client.publish(keys.CONTROL, payload)
    client.publish(keys.CONTROL, b'{"type":"withdraw","projectId":"nonsense"}')
    story.say("still here")
    reader.until(EventId(1, 1))
    assert reader.transcript == story.transcript
    assert "could not be handled" in caplog.text
