"""The relay's first promise: every reader sees one story, whenever it joins."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from api import hub
from shared import events, keys, notices
from shared.events import Delta, EventId, Finalized, Snapshot, StreamEvent
from shared.transcript import Transcript, fold
from tests.integration.relay_parts import PATIENCE_S, Stage, Story, eventually

SetUp = Callable[..., Stage]
SEED = 20261123


@pytest.fixture
def set_up(redis_url: str) -> Iterator[SetUp]:
    stages: list[Stage] = []

    def make(**environment: Any) -> Stage:
        stages.append(Stage(redis_url, **environment))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def test_readers_that_join_at_any_moment_of_a_stream_each_see_every_event_once_and_in_order(set_up: SetUp) -> None:
    """Fifty readers join a stream of 1,500 events and three attempts while it is written."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    stage = set_up()
    story = stage.story()
    story.begin()
    joins = sorted(chance.randrange(1, 1500) for _ in range(50))
    reached = {at: threading.Event() for at in set(joins)}

    def write() -> None:
        for step in range(1500):
            if step in reached:
                reached[step].set()
            if step in (500, 1000):
                story.new_attempt()
            else:
                story.say(f"{step} ")
        story.finish()

    writer = threading.Thread(target=write)
    writer.start()
    clients = []
    for index, at in enumerate(joins):
        assert reached[at].wait(PATIENCE_S)
        target = story.target(after=chance.choice([None, EventId(1, 3)]))
        clients.append((index, target, stage.socket(target) if index % 2 else stage.stream(target)))
    writer.join()
    for index, target, client in clients:
        client.until_end()
        assert client.position == story.transcript.position, index
        before = Transcript()
        if isinstance(client.events[0], Delta) and target.after is not None:
            before = Transcript(position=target.after, content="0 1 2 ")
        assert fold(before, client.events) == story.transcript, index


def test_two_relays_tell_the_same_story(set_up: SetUp) -> None:
    """A reader on another process's relay gets the same events."""
    here, there = set_up(), set_up()
    story = here.story()
    there.rows.put(here.rows.reader_rows([story.message_id])[story.message_id])
    story.begin()
    a, b = here.socket(story.target()), there.socket(story.target())
    a.until(EventId(1, 0))
    b.until(EventId(1, 0))
    story.say("one", " two")
    story.finish()
    assert (a.until_closed(), b.until_closed()) == (1000, 1000)
    assert a.events == b.events


def test_a_reader_that_comes_back_with_after_gets_what_follows(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    story.say("one ", "two ", "three")
    client = stage.socket(story.target(after=EventId(1, 2)))
    client.until(EventId(1, 3))
    assert client.events == [Delta(id="1-3", message_id=str(story.message_id), ts=1, content="three")]
    story.say("!")
    client.until(EventId(1, 4))


def test_after_an_older_attempt_a_reader_gets_the_newest_one_from_its_start(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    story.say("one ")
    story.new_attempt()
    client = stage.socket(story.target(after=EventId(1, 1)))
    client.until(EventId(2, 0))
    assert isinstance(client.events[0], Snapshot)


@pytest.mark.parametrize("after", [EventId(9, 9), EventId(9_999_999_999, 9_999_999_999), EventId(1, 9_999_999_999)])
def test_an_after_that_nobody_sent_does_no_harm(set_up: SetUp, after: EventId) -> None:
    """Its reader gets what is above it, which is the end of the message."""
    stage = set_up()
    story = stage.story()
    story.begin()
    story.say("one ")
    stranger = stage.socket(story.target(after=after))
    client = stage.socket(story.target())
    client.until(EventId(1, 1))
    story.finish()
    assert client.until_closed() == 1000
    assert stranger.until_closed() == 1000
    assert stranger.events == []


def test_a_reader_that_has_had_the_end_is_done_at_once(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    story.finish()
    client = stage.socket(story.target(after=story.transcript.position))
    assert client.until_closed() == 1000
    assert client.events == []


def test_a_finished_message_is_replayed_and_closed(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    story.say("all of it")
    story.finish()
    client = stage.socket(story.target())
    assert client.until_closed() == 1000
    assert client.transcript == story.transcript


def test_a_late_joiner_of_five_thousand_deltas_gets_a_few_merged_frames(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    for start in range(0, 5000, 500):
        story.say(*(f"{n} " for n in range(start, start + 500)))
    client = stage.socket(story.target())
    client.until(story.transcript.position)
    assert len(client.events) <= 2
    assert client.transcript == story.transcript


def test_building_does_not_end_a_stream(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    client = stage.socket(story.target())
    client.until(EventId(1, 0))
    ending = story.commit("building", [Finalized(**story.base(), status="building")])
    story.log.append(story.message_id, ending)
    client.until(EventId(1, 1))
    story.new_attempt()
    client.until(EventId(2, 0))
    late = stage.socket(story.target())
    late.until(EventId(2, 0))
    story.finish()
    assert (client.until_closed(), late.until_closed()) == (1000, 1000)


def test_the_end_of_a_run_that_is_being_retried_ends_nobody(set_up: SetUp) -> None:
    """Between the retry and the next claim a reader joins: it waits for the new attempt."""
    stage = set_up()
    story = stage.story()
    story.begin()
    story.finish()
    story.retry()
    client = stage.socket(story.target())
    client.until(EventId(1, 1))
    stage.rows.wait_reads(3)
    assert not client.is_ended
    story.new_attempt()
    story.say("more")
    client.until(EventId(2, 1))
    assert not any(isinstance(event, Finalized) for event in client.events)
    story.finish()
    assert client.until_closed() == 1000


def test_an_event_whose_publication_was_lost_is_found_while_all_is_quiet(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    clients = [stage.socket(story.target()) for _ in range(3)]
    for client in clients:
        client.until(EventId(1, 0))
    story.say_unheard("only in the log")
    for client in clients:
        client.until(EventId(1, 1))
        assert client.transcript == story.transcript


def test_a_gap_is_filled_from_the_log_before_what_follows_it(set_up: SetUp) -> None:
    stage = set_up(idle_check_s=60)
    story = stage.story()
    story.begin()
    client = stage.socket(story.target())
    client.until(EventId(1, 0))
    story.say_unheard("lost ", "lost too ")
    story.say("heard")
    client.until(EventId(1, 3))
    assert client.transcript == story.transcript


def test_a_deleted_message_withdraws_its_readers(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    client = stage.socket(story.target())
    story.rows.delete(story.message_id)
    assert client.until_closed() == 4403


def test_withdrawing_closes_the_projects_readers_here_and_in_other_processes(set_up: SetUp) -> None:
    here, there = set_up(), set_up()
    story, other = here.story(), here.story()
    for row in here.rows.reader_rows([story.message_id, other.message_id]).values():
        there.rows.put(row)
    other.begin()
    theirs, stays = there.socket(story.target()), there.socket(other.target())
    alice = uuid.uuid4()
    ours, alices = here.socket(story.target()), here.socket(story.target(user_id=alice))
    story.begin()
    for client in (theirs, ours, alices):
        client.until(EventId(1, 0))
    here.relay.withdraw_user(story.project_id, alice)
    assert alices.until_closed() == 4403
    here.relay.withdraw(story.project_id)
    assert ours.until_closed() == 4403
    here.log.publish(notices.access_withdrawn(story.project_id))
    assert theirs.until_closed() == 4403
    stays.until(EventId(1, 0))


def test_the_last_reader_to_leave_ends_the_subscription(
    set_up: SetUp, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LINGER_S", 0.05)
    stage = set_up()
    story = stage.story()
    story.begin()
    name = keys.message_channel(story.message_id)
    first, second = stage.socket(story.target()), stage.socket(story.target())
    first.until(EventId(1, 0))
    second.until(EventId(1, 0))
    assert stage.relay.channels == 1
    first.sock.close()
    story.say("still heard")
    second.until(EventId(1, 1))
    second.sock.close()
    eventually(lambda: redis_client.pubsub_numsub(name) == [(name.encode(), 0)])
    assert (stage.relay.channels, stage.relay.readers) == (0, 0)
    back = stage.socket(story.target())
    back.until(EventId(1, 1))
    story.say("again")
    back.until(EventId(1, 2))


def test_following_in_a_thread_is_the_same_join(set_up: SetUp) -> None:
    stage = set_up(socket_heartbeat_s=0.2)
    story = stage.story()
    story.begin()
    story.say("one ")
    got: list[Any] = []
    following = stage.relay.follow(story.target())
    got.append(next(following))
    got.append(next(following))
    heartbeat = next(following)
    story.say("two")
    story.finish()
    got += [item for item in following if isinstance(item, bytes)]
    assert not isinstance(heartbeat, bytes)
    assert fold(Transcript(), _decoded(got)) == story.transcript
    eventually(lambda: stage.relay.readers == 0)


def test_a_following_that_nobody_takes_from_is_bounded_and_gets_a_snapshot(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    following = stage.relay.follow(story.target())
    got: list[Any] = [next(following)]
    watcher = stage.socket(story.target())
    for start in range(0, 2000, 100):
        story.say(*(f"{n} " for n in range(start, start + 100)))
    watcher.until(story.transcript.position)
    story.finish()
    got += [item for item in following if isinstance(item, bytes)]
    assert len(got) < 400
    decoded = _decoded(got)
    assert any(isinstance(event, Snapshot) and event.reason == "compacted" for event in decoded)
    assert fold(Transcript(), decoded) == story.transcript


def test_a_following_that_is_given_up_leaves_nothing_behind(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    following = stage.relay.follow(story.target())
    next(following)
    assert stage.relay.readers == 1
    following.close()  # type: ignore[attr-defined]  # an iterator here, a generator in truth
    other = stage.socket(story.target())
    other.until(EventId(1, 0))
    assert stage.relay.readers == 1


def test_waiting_for_the_end_says_whether_it_came(set_up: SetUp) -> None:
    stage = set_up()
    story: Story = stage.story()
    story.begin()
    assert not stage.relay.wait_final(story.message_id, 0.01)
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(stage.relay.wait_final(story.message_id, PATIENCE_S)))
    waiting.start()
    story.say("one")
    story.finish()
    waiting.join()
    assert answers == [True]
    assert stage.relay.wait_final(story.message_id, PATIENCE_S)


def _decoded(payloads: list[bytes]) -> list[StreamEvent]:
    return [events.decode(payload) for payload in payloads]
