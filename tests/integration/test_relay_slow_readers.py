"""A reader that does not keep up costs a bounded buffer, and gets one snapshot for what it missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api import readers
from shared.events import Error, EventId, Finalized, Snapshot
from tests.integration.relay_parts import PATIENCE_S, Client, Stage, Story, eventually

SetUp = Callable[..., Stage]
PIECE = "a piece of text " * 400


@pytest.fixture
def set_up(redis_url: str) -> Iterator[SetUp]:
    stages: list[Stage] = []

    def make(**environment: Any) -> Stage:
        stages.append(Stage(redis_url, **environment))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def flood(stage: Stage, story: Story, pieces: int = 150) -> None:
    """More than a socket's buffers take; returns when a reader that keeps up has all of it."""
    watcher = stage.socket(story.target(after=story.transcript.position))
    for _ in range(pieces):
        story.say(PIECE)
        watcher.until(story.transcript.position)


def started(stage: Stage, kind: str) -> tuple[Story, Client]:
    story = stage.story()
    story.begin()
    client: Client = stage.socket(story.target()) if kind == "socket" else stage.stream(story.target())
    client.until(EventId(1, 0))
    return story, client


@pytest.mark.parametrize("kind", ["socket", "stream"])
def test_a_reader_that_stalled_and_reads_again_gets_one_snapshot_and_goes_on(set_up: SetUp, kind: str) -> None:
    stage = set_up(socket_buffer_bytes=20_000)
    story, client = started(stage, kind)
    flood(stage, story)
    client.until(story.transcript.position)
    snapshots = [event for event in client.events if isinstance(event, Snapshot)]
    assert [snapshot.reason for snapshot in snapshots] == ["compacted"]
    assert client.transcript.content == story.transcript.content
    assert len(client.events) < 100
    story.say("live again")
    client.until(story.transcript.position)
    story.finish()
    client.until_end()
    assert client.transcript == story.transcript


def test_what_ended_while_a_reader_stalled_ends_it_after_its_snapshot(set_up: SetUp) -> None:
    """The terminal event, and the error before it, are sent as they are."""
    stage = set_up(socket_buffer_bytes=20_000)
    story, client = started(stage, "socket")
    flood(stage, story)
    ending = story.commit(
        "error",
        [
            Error(
                **story.base(),
                error="It broke.",
                code="internal",
                retryable=True,
                final_content=story.transcript.content,
            ),
            Finalized(**story.base(), status="error"),
        ],
    )
    story.log.append(story.message_id, ending)
    client.until_end()
    assert [type(event).__name__ for event in client.events[-3:]] == ["Snapshot", "Error", "Finalized"]
    assert client.transcript.content == story.transcript.content
    assert client.transcript.status == "error"


def test_a_reader_that_stalls_for_too_long_is_closed_with_4008_or_dropped(
    set_up: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "TOO_SLOW_GRACE_S", 0.1)
    stage = set_up(socket_buffer_bytes=20_000, slow_reader_s=0.2)
    story, client = started(stage, "socket")
    _, stream = started(stage, "stream")
    for _ in range(100):
        story.say(PIECE)
    keeps_up = stage.socket(story.target())
    keeps_up.until(story.transcript.position)
    eventually(lambda: stage.relay.readers == 2)
    assert not stream.is_ended
    client.until_end()
    assert client.position is not None
    assert client.position < story.transcript.position


def test_a_slow_reader_that_reads_the_rest_in_time_is_told_4008(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "TOO_SLOW_GRACE_S", PATIENCE_S)
    stage = set_up(socket_buffer_bytes=20_000, slow_reader_s=0.2)
    story = stage.story()
    story.begin()
    client = stage.socket(story.target())
    client.until(EventId(1, 0))
    for _ in range(100):
        story.say(PIECE)
    hub = stage.relay._hub
    assert hub is not None
    (reader,) = hub.readers
    eventually(lambda: reader.state is readers.State.LEFT)
    assert client.until_closed() == 4008


def test_one_that_stalls_delays_nobody_else(set_up: SetUp) -> None:
    stage = set_up(socket_buffer_bytes=20_000)
    story, _stalled = started(stage, "socket")
    others = [stage.socket(story.target()) for _ in range(5)]
    for _ in range(100):
        story.say(PIECE)
        for other in others:
            other.until(story.transcript.position)
    assert all(not isinstance(event, Snapshot) for other in others for event in other.events)


def test_a_late_joiner_that_stalls_in_its_replay_gets_the_rest_as_a_snapshot(set_up: SetUp) -> None:
    stage = set_up(socket_buffer_bytes=20_000)
    story = stage.story()
    story.begin()
    for _ in range(160):
        story.say(PIECE)
    client = stage.socket(story.target())
    watcher = stage.socket(story.target(after=story.transcript.position))
    story.say("the end")
    watcher.until(story.transcript.position)
    client.until(story.transcript.position)
    assert client.transcript.content == story.transcript.content
