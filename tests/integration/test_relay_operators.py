"""Operators are told what happens as it happens, and what they were not told: `/v1/ops/socket` and what stands behind it."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from api import ops_channel
from api.readers import State
from api.relay import OpsTarget
from dev.embedded_valkey import EmbeddedValkey
from shared import event_log, keys, ops_events
from shared.ops_events import Filter
from tests import rights
from tests.integration.relay_parts import PATIENCE_S, SocketClient, Stage, StreamClient, eventually

OPENING = b'{"type":"ready","summary":null}'
SetUp = Callable[..., Stage]


class Operator(SocketClient):
    """The other end of an operator's socket."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.frames: list[dict[str, Any]] = []
        self._taken = 0

    def on_text(self, text: str) -> None:
        self.frames.append(msgspec.json.decode(text))

    def next(self) -> dict[str, Any]:
        while self._taken == len(self.frames):
            assert not self.is_ended, self.close_code
            self.receive()
        self._taken += 1
        return self.frames[self._taken - 1]


class OperatorStream(StreamClient):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.frames: list[dict[str, Any]] = []

    def on_block(self, block: str) -> None:
        if block.startswith("data: "):
            self.frames.append(msgspec.json.decode(block.removeprefix("data: ")))


@pytest.fixture
def set_up(own_valkey: EmbeddedValkey) -> Iterator[SetUp]:
    """On a Valkey where nobody else says anything."""
    stages: list[Stage] = []

    def make(**environment: Any) -> Stage:
        stages.append(Stage(own_valkey.url, **environment))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


def target(**changes: Any) -> OpsTarget:
    defaults: dict[str, Any] = {
        "user_id": uuid.uuid4(),
        "wanted": Filter(),
        "opening": lambda: OPENING,
        "may_watch": lambda: True,
    }
    return OpsTarget(**(defaults | changes))


def watch(stage: Stage, **changes: Any) -> Operator:
    wanted = target(**changes)
    theirs, ours = socket.socketpair()
    stage.relay.adopt_socket(ours, wanted, stage.relay.admit(wanted.user_id))
    client = Operator(theirs)
    stage._clients.append(client)
    return client


PROJECT = uuid.UUID(int=7)


def line(number: int, *, project: uuid.UUID = PROJECT, status: str | None = None, pad: str = "") -> bytes:
    common: dict[str, Any] = {"message_id": uuid.UUID(int=number), "project_id": project, "ts": 1, "model": pad or None}
    if status is None:
        return ops_events.encode(ops_events.StartedLine(**common, attempt=1, run=1))
    return ops_events.encode(ops_events.FinalizedLine(**common, status=status, attempt=1))  # type: ignore[arg-type]


def say(stage: Stage, payload: bytes) -> None:
    stage.log._client.publish(keys.OPS, payload)


def test_first_comes_a_summary_then_every_line_as_it_was_published(set_up: SetUp) -> None:
    """To the byte, on the socket and as Server-Sent Events; a ping is answered."""
    stage = set_up()
    client = watch(stage)
    wanted = target()
    theirs, ours = socket.socketpair()
    stage.relay.adopt_sse(ours, wanted, stage.relay.admit(wanted.user_id))
    stream = OperatorStream(theirs)
    stage._clients.append(stream)
    assert client.next() == {"type": "ready", "summary": None}
    while not stream.frames:
        stream.receive()
    for number in range(5):
        say(stage, line(number))
    told = [client.next() for _ in range(5)]
    assert told == [msgspec.json.decode(line(number)) for number in range(5)]
    while len(stream.frames) < 6:
        stream.receive()
    assert stream.frames[1:] == told
    client.send_text('{"type":"ping"}')
    assert client.next() == {"type": "pong"}
    client.send_text('{"type":"cancel","messageId":"00000000-0000-0000-0000-000000000001"}')
    assert client.next()["code"] == "forbidden"


def test_what_happens_while_the_summary_is_read_follows_it(set_up: SetUp) -> None:
    """Nothing lies between the two."""
    stage = set_up()
    is_asked, may_answer = threading.Event(), threading.Event()

    def opening() -> bytes:
        is_asked.set()
        assert may_answer.wait(PATIENCE_S)
        return OPENING

    client = watch(stage, opening=opening)
    assert is_asked.wait(PATIENCE_S)
    for number in range(3):
        say(stage, line(number))
    live = watch(stage)
    assert live.next()["type"] == "ready"
    say(stage, line(3))
    assert live.next()["messageId"] == str(uuid.UUID(int=3))
    may_answer.set()
    assert client.next()["type"] == "ready"
    assert [client.next()["messageId"] for _ in range(4)] == [str(uuid.UUID(int=number)) for number in range(4)]


def test_an_operator_gets_what_was_asked_for_alone(set_up: SetUp) -> None:
    """By type, status, project and message; what is no line is nobody's who chooses."""
    stage = set_up()
    other = uuid.uuid4()
    failed = watch(stage, wanted=Filter(types=frozenset({"finalized"}), statuses=frozenset({"error", "cancelled"})))
    theirs = watch(stage, wanted=Filter(projects=frozenset({str(other)})))
    one = watch(stage, wanted=Filter(messages=frozenset({str(uuid.UUID(int=2))})))
    everything = watch(stage)
    for client in (failed, theirs, one, everything):
        assert client.next()["type"] == "ready"
    say(stage, line(1))
    say(stage, line(1, status="error"))
    say(stage, line(2, status="success", project=other))
    say(stage, b"[1]")
    say(stage, b'{"type":"reprocess","status":"cancelled","batchId":"b"}')
    say(stage, line(9, status="cancelled", project=other))
    say(stage, line(2))
    assert [failed.next()["messageId"] for _ in range(2)] == [str(uuid.UUID(int=number)) for number in (1, 9)]
    assert [theirs.next()["messageId"] for _ in range(2)] == [str(uuid.UUID(int=number)) for number in (2, 9)]
    assert [one.next()["type"] for _ in range(2)] == ["finalized", "started"]
    assert len([everything.next() for _ in range(7)]) == 7


def test_however_many_operators_watch_there_is_one_subscription(set_up: SetUp) -> None:
    stage = set_up()
    clients = [watch(stage) for _ in range(20)]
    for client in clients:
        assert client.next()["type"] == "ready"
    with event_log.connect(rights.as_admin(stage.url)) as onlooker:
        assert onlooker.pubsub_numsub(keys.OPS) == [(keys.OPS.encode(), 1)]
    assert stage.relay.channels == 1


def test_an_operator_that_does_not_keep_up_is_told_how_many_lines_it_lacks(set_up: SetUp) -> None:
    """A bounded buffer; once it reads again, lines and missed make all that were published, and it goes on live."""
    count = 3000
    stage = set_up(socket_buffer_bytes=20_000)
    slow, quick = watch(stage), watch(stage)
    assert (slow.next()["type"], quick.next()["type"]) == ("ready", "ready")
    for number in range(count):
        say(stage, line(number, pad="x" * 400))
        assert quick.next()["messageId"] == str(uuid.UUID(int=number))
    told, missed = 0, 0
    while told + missed < count:
        frame = slow.next()
        if frame["type"] == "missed":
            assert (frame["reason"], frame["since"] > 0) == ("slow", True)
            missed += frame["count"]
        else:
            assert frame["messageId"] == str(uuid.UUID(int=told))
            told += 1
    assert told + missed == count
    assert missed > count // 4
    say(stage, line(count))
    assert slow.next()["messageId"] == str(uuid.UUID(int=count))


def test_what_was_left_out_while_the_summary_was_read_is_counted_for_who_is_slow_then(
    set_up: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines and missed make all that were published, though the first lines fill the buffer before `missed` is told."""
    kept, count = 200, 300
    monkeypatch.setattr(ops_channel, "BACKLOG_LINES", kept)
    stage = set_up(socket_buffer_bytes=20_000)
    is_asked, may_answer = threading.Event(), threading.Event()

    def opening() -> bytes:
        is_asked.set()
        assert may_answer.wait(PATIENCE_S)
        return OPENING

    slow, quick = watch(stage, opening=opening), watch(stage)
    assert is_asked.wait(PATIENCE_S)
    assert quick.next()["type"] == "ready"
    for number in range(count):
        say(stage, line(number, pad="x" * 4000))
        assert quick.next()["messageId"] == str(uuid.UUID(int=number))
    may_answer.set()
    eventually(lambda: State.SLOW in {reader.state for reader in stage.relay._hub.readers})  # type: ignore[union-attr]
    assert slow.next()["type"] == "ready"
    told, missed = 0, 0
    while told + missed < count:
        frame = slow.next()
        if frame["type"] == "missed":
            missed += frame["count"]
        else:
            assert frame["messageId"] == str(uuid.UUID(int=told))
            told += 1
    assert told + missed == count
    assert missed > count - kept
    say(stage, line(count))
    assert slow.next()["messageId"] == str(uuid.UUID(int=count))


def test_an_operator_that_never_reads_is_closed(set_up: SetUp) -> None:
    """Its buffer is given back, and the others are not held up."""
    stage = set_up(socket_buffer_bytes=20_000, slow_reader_s=0.2)
    stuck, quick = watch(stage), watch(stage)
    assert (stuck.next()["type"], quick.next()["type"]) == ("ready", "ready")
    number = 0
    while stage.relay.readers == 2:
        say(stage, line(number, pad="x" * 4000))
        assert quick.next()["messageId"] == str(uuid.UUID(int=number))
        number += 1


def test_a_subscription_that_was_lost_is_told_with_since_when(set_up: SetUp, own_valkey: EmbeddedValkey) -> None:
    """Redis killed and started again: what was said before `since` was told, and what is said after it comes."""
    stage = set_up()
    client = watch(stage)
    assert client.next()["type"] == "ready"
    say(stage, line(1))
    assert client.next()["type"] == "started"
    own_valkey.kill()
    eventually(lambda: not stage.relay.is_connected)
    late = watch(stage)
    assert late.next()["type"] == "ready"
    own_valkey.restart()
    for missed in (client.next(), late.next()):
        assert (missed["type"], missed["count"], missed["reason"]) == ("missed", None, "subscription")
    say(stage, line(2))
    for operator in (client, late):
        assert operator.next()["messageId"] == str(uuid.UUID(int=2))


def test_who_is_no_operator_any_more_is_closed(set_up: SetUp) -> None:
    """4403, once the scope was taken back; a database that does not answer closes nobody."""
    stage = set_up(idle_check_s=0.05)
    is_operator, asked = threading.Event(), threading.Event()
    is_operator.set()

    def may_watch() -> bool:
        asked.set()
        return is_operator.is_set()

    client = watch(stage, may_watch=may_watch)
    assert client.next()["type"] == "ready"
    assert asked.wait(PATIENCE_S)
    assert {reader.state for reader in stage.relay._hub.readers} == {State.LIVE}  # type: ignore[union-attr]
    is_operator.clear()
    assert client.until_closed() == 4403


def test_a_stopping_relay_sends_operators_elsewhere(set_up: SetUp) -> None:
    stage = set_up()
    client = watch(stage)
    assert client.next()["type"] == "ready"
    threading.Thread(target=stage.relay.stop, args=(5.0,)).start()
    assert client.until_closed() == 1012
