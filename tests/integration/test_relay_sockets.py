"""What a socket's client may say, how sockets end, and what an idle one costs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as PingFrame
from wsproto.frame_protocol import CloseReason

from api import readers
from api.relay import TooManyReaders
from shared import errors
from shared.events import EventId
from tests.integration.relay_parts import PATIENCE_S, SocketClient, Stage, eventually

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


def opened(stage: Stage, **changes: Any) -> SocketClient:
    story = stage.story()
    story.begin()
    client = stage.socket(story.target(**changes))
    client.until(EventId(1, 0))
    return client


# --- what a client says -----------------------------------------------------------------------------------------


def test_a_cancel_frame_cancels_the_message(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    user_id = uuid.uuid4()
    client = stage.socket(story.target(user_id=user_id, may_cancel=True))
    client.send_text('{"type":"cancel"}')
    assert stage.cancelled.wait(PATIENCE_S)
    assert stage.cancels == [(story.message_id, user_id)]


def test_a_cancel_frame_of_somebody_who_may_only_read_is_refused(set_up: SetUp) -> None:
    stage = set_up()
    client = opened(stage, may_cancel=False)
    client.send_text('{"type":"cancel"}')
    assert client.until_reply()["code"] == "forbidden"
    assert stage.cancels == []


def test_a_refused_cancel_is_told_in_an_error_frame(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = set_up()

    def refuse(message_id: uuid.UUID, user_id: uuid.UUID) -> None:
        raise errors.AlreadyFinal

    monkeypatch.setattr(stage.relay._hub, "_on_cancel", refuse)
    client = opened(stage, may_cancel=True)
    client.send_text('{"type":"cancel"}')
    assert client.until_reply() == {"type": "error", "code": "already_final", "detail": "The message is final."}


def test_a_ping_frame_is_answered(set_up: SetUp) -> None:
    client = opened(set_up())
    client.send_text('{"type":"ping"}')
    assert client.until_reply() == {"type": "pong"}


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[]", "{}", '{"type":7}', '{"type":"shout"}', "[" * 50_000, '{"type":"ping","a":' + "[" * 50_000],
)
def test_a_frame_that_says_nothing_is_answered_with_an_error_and_otherwise_ignored(set_up: SetUp, text: str) -> None:
    client = opened(set_up())
    client.send_text(text)
    assert client.until_reply()["code"] == "bad_frame"
    client.send_text('{"type":"ping"}')
    assert client.until_reply() == {"type": "pong"}


def test_a_binary_frame_is_answered_with_an_error(set_up: SetUp) -> None:
    client = opened(set_up())
    client.sock.sendall(client.connection.send(BytesMessage(data=b'{"type":"ping"}')))
    assert client.until_reply()["code"] == "bad_frame"


def test_a_message_in_fragments_is_one_message(set_up: SetUp) -> None:
    client = opened(set_up())
    for part, is_last in (('{"ty', False), ('pe":"', False), ('ping"}', True)):
        client.sock.sendall(client.connection.send(TextMessage(data=part, message_finished=is_last)))
    assert client.until_reply() == {"type": "pong"}


def test_a_ping_control_frame_is_answered_with_its_payload(set_up: SetUp) -> None:
    client = opened(set_up())
    client.sock.sendall(client.connection.send(PingFrame(payload=b"are you there")))
    assert client.sock.recv(100) == b"\x8a\x0dare you there"


# --- floods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "ping", "pong", "empty fragments"])
def test_more_frames_a_second_than_allowed_close_with_1008(set_up: SetUp, kind: str) -> None:
    client = opened(set_up())
    frame = {
        "text": client.connection.send(TextMessage(data='{"type":"ping"}')),
        "ping": client.connection.send(PingFrame()),
        "pong": b"\x8a\x80\0\0\0\0",
        "empty fragments": b"\x00\x80\0\0\0\0",
    }[kind]
    opening = b"\x01\x80\0\0\0\0" if kind == "empty fragments" else b""
    client.sock.sendall(opening + bytes(frame) * 60)
    assert client.until_closed() == 1008


def taken(client: SocketClient, data: bytes) -> int:
    """How many bytes are taken before the connection ends."""
    sent = 0
    while True:
        try:
            sent += client.sock.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return sent


def test_a_flood_that_goes_on_is_read_no_more_and_sees_why_it_was_closed(set_up: SetUp) -> None:
    """Reading only to throw away would cost the others what the flood is meant to cost them."""
    stage = set_up()
    client = opened(stage)
    frame = bytes(client.connection.send(TextMessage(data='{"type":"ping"}')))
    assert taken(client, frame * 1000) < 5_000_000, "what was sent was read"
    assert client.until_closed() == 1008
    eventually(lambda: stage.relay.readers == 0)


@pytest.mark.parametrize("fragments", [1, 4])
def test_a_message_larger_than_allowed_closes_with_1008(set_up: SetUp, fragments: int) -> None:
    client = opened(set_up(max_frame_bytes=1000))
    for part in range(fragments):
        text = "x" * (1200 // fragments)
        frame = TextMessage(data=text, message_finished=part == fragments - 1)
        client.sock.sendall(client.connection.send(frame))
    assert client.until_closed() == 1008


def test_an_announced_giant_is_refused_before_it_arrives(set_up: SetUp) -> None:
    """A header that promises 2^40 bytes makes nobody wait for them or keep them."""
    client = opened(set_up())
    client.sock.sendall(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 70_000)
    assert client.until_closed() == 1008


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\x81\x01x", 1002), (b"\xf1\x80\0\0\0\0", 1002), (b"\x83\x80\0\0\0\0", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)],
)
def test_what_is_no_frame_closes_with_the_protocols_own_code(set_up: SetUp, data: bytes, code: int) -> None:
    client = opened(set_up())
    client.sock.sendall(data)
    assert client.until_closed() == code


def test_a_user_has_only_so_many_readers_and_gets_the_places_back(set_up: SetUp) -> None:
    stage = set_up(max_sockets_per_user=2)
    story = stage.story()
    story.begin()
    user_id = uuid.uuid4()
    first = stage.socket(story.target(user_id=user_id))
    second = stage.stream(story.target(user_id=user_id))
    with pytest.raises(TooManyReaders):
        stage.relay.admit(user_id)
    stage.relay.admit(uuid.uuid4()).release()
    first.until(EventId(1, 0))
    story.finish()
    first.until_closed()
    second.until_end()
    eventually(lambda: stage.relay.readers == 0)
    admission = stage.relay.admit(user_id)
    admission.release()
    admission.release()
    for _ in range(2):
        stage.relay.admit(user_id)
    with pytest.raises(TooManyReaders):
        stage.relay.admit(user_id)


# --- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "answered"), [(1000, 1000), (1001, 1001), (None, 1005)])
def test_a_clients_close_is_answered(set_up: SetUp, code: int | None, answered: int) -> None:
    stage = set_up()
    client = opened(stage)
    client.sock.sendall(client.connection.send(CloseConnection(code=code or CloseReason.NO_STATUS_RCVD)))
    assert client.until_closed() == answered
    assert client.sock.recv(1) == b""
    eventually(lambda: stage.relay.readers == 0)


def test_a_stopping_relay_closes_every_socket_with_1012(set_up: SetUp) -> None:
    stage = set_up()
    clients = [opened(stage) for _ in range(20)]
    follower = stage.relay.follow(stage.story().target())
    stopping = threading.Thread(target=stage.relay.stop, args=(PATIENCE_S,))
    stopping.start()
    assert {client.until_closed() for client in clients} == {1012}
    stopping.join()
    eventually(lambda: stage.relay.readers == 0)
    with pytest.raises(Exception, match="the server restarts"):
        next(follower)
    stage.relay.stop(1.0)


def test_a_client_that_does_not_answer_the_close_holds_nobody_up(set_up: SetUp) -> None:
    stage = set_up()
    client = opened(stage)
    stage.relay.stop(0.05)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relay")]
    assert client.until_closed() == 1012


def test_a_socket_handed_to_a_stopped_relay_is_closed(set_up: SetUp) -> None:
    stage = set_up()
    story = stage.story()
    stage.relay.stop(1.0)
    user_id = uuid.uuid4()
    client = stage.socket(story.target(user_id=user_id))
    assert client.until_closed() == 1012
    assert not stage.relay.wait_final(story.message_id, PATIENCE_S)


def test_a_silent_socket_is_pinged(set_up: SetUp) -> None:
    client = opened(set_up(socket_heartbeat_s=0.1))
    while client.pings < 3:
        client.receive()


def test_a_socket_that_answers_no_ping_is_dropped(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "VANISHED_GRACE_S", 0.1)
    stage = set_up(socket_heartbeat_s=0.1)
    client = opened(stage)
    data = b"x"
    while data:
        data = client.sock.recv(1000)
    eventually(lambda: stage.relay.readers == 0)


def test_a_socket_that_only_listens_to_a_busy_stream_is_not_taken_for_dead(
    set_up: SetUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "VANISHED_GRACE_S", 0.1)
    stage = set_up(socket_heartbeat_s=0.1)
    story = stage.story()
    story.begin()
    client = stage.socket(story.target())
    while client.pings < 5:
        story.say("word ")
        client.until(story.transcript.position)
    assert not client.is_ended


# --- what it costs ----------------------------------------------------------------------------------------------


def test_a_thousand_idle_sockets_take_no_thread(set_up: SetUp) -> None:
    stage = set_up(max_sockets_per_user=100_000)
    story = stage.story()
    story.begin()
    opened(stage)
    threads = threading.active_count()
    clients = [stage.socket(story.target()) for _ in range(1000)]
    for client in clients:
        client.until(EventId(1, 0))
    assert stage.relay.readers == 1001
    assert threading.active_count() <= threads + 3  # the pool's, which are at most four
    story.say("hello")
    for client in clients:
        client.until(EventId(1, 1))
    story.finish()
    assert {client.until_closed() for client in clients} == {1000}
    eventually(lambda: stage.relay.readers == 1)


def test_every_reply_is_json(set_up: SetUp) -> None:
    client = opened(set_up())
    client.send_text('{"type":"\u2028\\ud83d\\ude00"}')
    reply = client.until_reply()
    assert set(reply) == {"type", "code", "detail"}
    assert msgspec.json.encode(reply)
