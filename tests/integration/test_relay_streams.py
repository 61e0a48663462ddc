"""Server-Sent Events as the relay writes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api import readers
from shared.events import EventId
from tests.integration.relay_parts import PATIENCE_S, Stage

SetUp = Callable[..., Stage]


@pytest.fixture
def set_up(redis_url: str) -> Iterator[SetUp]:
    stages: list[Stage] = []

    def make(**environment: Any) -> Stage:
        stages.append(Stage(redis_url, **environment))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def test_an_event_stream_has_its_head_its_hint_its_ids_and_a_proper_end(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    client = stage.stream(
        story.target(), headers=[("X-Content-Type-Options", "nosniff"), ("Content-Type", "text/html")]
    )
    client.until(EventId(1, 0))
    story.say("a line\nand another\r\n\n")
    story.finish()
    client.until_end()
    assert client.head.decode().split("\r\n") == [
        "HTTP/1.1 200 OK",
        "Content-Type: text/event-stream; charset=utf-8",
        "Cache-Control: no-store",
        "X-Accel-Buffering: no",
        "Connection: close",
        "Transfer-Encoding: chunked",
        "X-Content-Type-Options: nosniff",
    ]
    assert client.retry_ms in readers.RETRY_MS
    assert client.transcript == story.transcript
    assert client.ended_well


def test_a_client_of_http_1_0_gets_the_same_without_chunks(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    client = stage.stream(story.target(), chunked=False)
    client.until(EventId(1, 0))
    story.finish()
    client.until_end()
    assert b"chunked" not in client.head
    assert client.transcript == story.transcript


def test_a_quiet_stream_gets_comments(set_up: SetUp) -> None:
    stage = set_up(socket_heartbeat_s=0.1)
    client = stage.stream(stage.story().target())
    while client.comments < 3:
        client.receive()


def test_a_stopping_relay_ends_streams_so_that_they_come_back(set_up: SetUp) -> None:
    """At different times: a herd that came at once would keep the processes busy that are left."""
    stage = set_up()
    story = stage.story()
    story.begin()
    clients = [stage.stream(story.target()) for _ in range(20)]
    for client in clients:
        client.until(EventId(1, 0))
    stopping = threading.Thread(target=stage.relay.stop, args=(PATIENCE_S,))
    stopping.start()
    for client in clients:
        client.until_end()
        assert client.ended_well
        assert client.transcript.status != "success"
    stopping.join()
    told = {client.retry_ms for client in clients}
    assert len(told) > 10
    assert told <= set(readers.RETRY_AFTER_RESTART_MS)


def test_a_client_that_goes_on_sending_is_dropped(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    story.begin()
    client = stage.stream(story.target())
    client.until(EventId(1, 0))
    with pytest.raises(ConnectionError):
        client.sock.sendall(b"x" * 10_000_000)
