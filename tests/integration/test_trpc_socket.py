"""tRPC's socket by hand: what is bounded, refused, stopped, and that nothing of it disturbs anything else on the socket."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text
from websockets.exceptions import InvalidStatus

from shared import events
from shared.event_log import Entry
from shared.events import EventId, Snapshot, Status, StreamEvent
from tests.integration.api_parts import Api, Person, answered, job_made, refused, serving
from tests.integration.trpc_parts import Json, Line, Writer, fold, follow, line, query, stop


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


def token(person: Person) -> Json:
    return {"token": person.token}


def code_of(frame: Json) -> str:
    code: str = frame["error"]["data"]["code"]
    return code


# --- who is let in ----------------------------------------------------------------------------------------------


def test_what_is_refused_before_the_handshake_is_answered_over_http(api: Api, served: str, anna: Person) -> None:
    """No token and none announced: 401. A foreign page: 403, also where the token is to come later."""
    cases: list[tuple[Any, dict[str, str], int]] = [
        (..., {}, 401),
        (..., {"Authorization": "Bearer wrong"}, 401),
        (..., {"Authorization": f"Bearer {anna.token}", "Origin": "https://evil.example"}, 403),
        (token(anna), {"Origin": "https://evil.example"}, 403),
    ]
    for params, headers, status in cases:
        with pytest.raises(InvalidStatus) as caught, line(served, None, params=params, headers=headers):
            pass
        assert caught.value.response.status_code == status


def test_the_address_without_an_upgrade_says_what_it_wants(anna: Person) -> None:
    refused(anna.get("/trpc"), 426, "upgrade_required")


@pytest.mark.parametrize("params", [{"token": "wrong"}, {}, None, {"token": 1}, [], "x"])
def test_who_brings_no_good_token_is_answered_each_call_with_a_refusal(served: str, anna: Person, params: Any) -> None:
    """The socket lives for a moment; nothing is read or changed on it."""
    pair = anna.pair(anna.project()["id"])
    given = {"projectId": pair["assistantMessage"]["projectId"]}
    with line(served, None, params=params) as socket:
        socket.send(
            query(1, "chat.getMessages", given),
            query(2, "chat.initiateChat", {**given, "message": "x"}, "mutation"),
            follow(3, pair),
        )
        heard = [frame for _ in range(3) if (frame := socket.hear())["id"] is not None]
        if len(heard) < 3:
            heard.append(socket.hear())
    assert {frame["id"] for frame in heard} == {1, 2, 3}
    assert all(code_of(frame) in ("UNAUTHORIZED", "PARSE_ERROR") for frame in heard)
    assert len(answered(anna.get(f"/v1/projects/{given['projectId']}/messages"), 200)["items"]) == 2


def test_who_does_not_say_who_they_are_is_sent_away(api: Api) -> None:
    """Within a heartbeat, whether silent or unknown: an error to the whole socket, then 4401."""
    with serving(api.new_app(heartbeat_socket_s=0.2)) as address:
        for said in (None, {"method": "connectionParams", "data": {"token": "wrong"}}):
            with line(address, None, headers={"Authorization": "Bearer wrong"}, params=None) as socket:
                if said is not None:
                    socket.send(said)
                heard, code = socket.until_closed()
                assert code == 4401
                assert heard[-1]["id"] is None
                assert code_of(heard[-1]) == "UNAUTHORIZED"


def test_a_token_that_is_revoked_does_nothing_more_on_an_open_socket(served: str, anna: Person, engine: Engine) -> None:
    given = {"projectId": anna.project()["id"]}
    with line(served, None, params=token(anna)) as socket:
        socket.send(query(1, "chat.getMessages", given))
        assert socket.hear()["result"]["data"] == {"items": [], "nextCursor": None}
        with engine.begin() as connection:
            connection.execute(text("UPDATE tokens SET revoked_at = now()"))
        socket.send(query(2, "chat.getMessages", given))
        assert code_of(socket.hear()) == "UNAUTHORIZED"


def test_every_subscription_is_a_reader_of_its_user(api: Api) -> None:
    """The socket and two subscriptions are three; the next is refused alone, and one that is stopped makes room."""
    with serving(api.new_app(max_sockets_per_user=3)) as address:
        anna = api.person()
        project_id = anna.project()["id"]
        pairs = [anna.pair(project_id) for _ in range(3)]
        with line(address, None, params=token(anna)) as socket:
            for number, pair in enumerate(pairs):
                socket.send(follow(number, pair))
            frames = {frame["id"]: frame for frame in (socket.hear() for _ in range(3))}
            assert [frames[number].get("result", {}).get("type") for number in range(3)] == ["started", "started", None]
            assert code_of(frames[2]) == "TOO_MANY_REQUESTS"
            socket.send(stop(0))
            assert socket.hear() == {"id": 0, "result": {"type": "stopped"}}
            socket.send(follow(2, pairs[2]))
            assert socket.hear() == {"id": 2, "result": {"type": "started"}}
        with (
            line(address, anna),
            line(address, anna),
            line(address, anna),
            pytest.raises(InvalidStatus) as caught,
            line(address, anna),
        ):
            pass
        assert caught.value.response.status_code == 429


# --- what is said -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("{", "PARSE_ERROR"),
        ("null", "PARSE_ERROR"),
        ([{"id": 9, "method": "dance"}], "PARSE_ERROR"),
        ({"id": None, "method": "query", "params": {"path": "x"}}, "PARSE_ERROR"),
        (query(9, "chat.shutdown", {}), "NOT_FOUND"),
        (query(9, "chat.getMessages", {}, "mutation"), "NOT_FOUND"),
        (query(9, "chat.getMessages", {}), "BAD_REQUEST"),
        (query(9, "chat.getMessages", {"projectId": "x", "limit": 10_000}), "BAD_REQUEST"),
        (query(9, "chat.getMessages", {"projectId": "x"}), "NOT_FOUND"),
        (query(9, "chat.initiateChat", {"projectId": "x"}, "mutation"), "BAD_REQUEST"),
        (query(9, "chat.streamResponse", {"projectId": "x"}, "subscription"), "BAD_REQUEST"),
    ],
)
def test_what_is_wrong_is_told_so_and_closes_nothing(api: Api, served: str, anna: Person, said: Any, code: str) -> None:
    """A subscription on the same socket is told its answer to the end."""
    pair = anna.pair(anna.project()["id"])
    writer = Writer(api, pair)
    with line(served, anna) as socket:
        socket.send(follow(1, pair))
        socket.until_type("status", 1)
        socket.send(json.dumps(said) if not isinstance(said, str) else said)
        frame = socket.hear()
        assert frame["id"] in (None, 9)
        assert code_of(frame) == code
        writer.say("Here I am.")
        row = writer.finish()
        assert fold(socket.until_type("finalized", 1)) == row
        assert socket.hear() == {"id": 1, "result": {"type": "stopped"}}


def test_pings_are_answered_and_pongs_are_not(served: str, anna: Person) -> None:
    with line(served, anna) as socket:
        socket.send("PONG")
        socket.send("PING")
        assert socket.hear() == "PONG"
        socket.socket.send(b"\x00")
        assert code_of(socket.hear()) == "PARSE_ERROR"


def test_json_rpc_is_answered_in_kind(served: str, anna: Person) -> None:
    with line(served, anna) as socket:
        socket.send({**query("a", "chat.getMessages", {"projectId": anna.project()["id"]}), "jsonrpc": "2.0"})
        assert socket.hear() | {"result": ...} == {"id": "a", "jsonrpc": "2.0", "result": ...}


def test_a_subscription_is_stopped_and_its_id_is_free_again(api: Api, served: str, anna: Person) -> None:
    """While it runs its id is taken; to stop one that is not there means nothing."""
    pair = anna.pair(anna.project()["id"])
    writer = Writer(api, pair)
    with line(served, anna) as socket:
        socket.send(stop(1), follow(1, pair), follow(1, pair))
        heard = [socket.hear(), socket.hear(), socket.hear()]
        assert {"id": 1, "result": {"type": "started"}} in heard
        assert "BAD_REQUEST" in [code_of(frame) for frame in heard if "error" in frame]
        socket.send(stop(1))
        assert socket.hear() == {"id": 1, "result": {"type": "stopped"}}
        writer.say("Nobody hears this.")
        socket.send(follow(1, pair, after="1-0"))
        assert socket.hear() == {"id": 1, "result": {"type": "started"}}
        assert [event["content"] for event in socket.until_type("delta", 1)] == ["Nobody hears this."]


def test_a_subscription_that_is_stopped_before_it_began_does_not_begin(served: str, anna: Person) -> None:
    pair = anna.pair(anna.project()["id"])
    with line(served, anna) as socket:
        socket.send(follow(1, pair), stop(1))
        socket.send(query(2, "chat.getMessages", {"projectId": pair["assistantMessage"]["projectId"]}))
        assert socket.hear() == {"id": 1, "result": {"type": "stopped"}}
        assert socket.hear()["id"] == 2


def test_many_answers_are_told_on_one_socket_each_in_its_order(api: Api, served: str, anna: Person) -> None:
    """Three, asked for in one frame; a last event id that is none is refused alone."""
    project_id = anna.project()["id"]
    pairs = [anna.pair(project_id) for _ in range(3)]
    texts: dict[int, str] = {}
    with line(served, anna) as socket:
        socket.send(*(follow(number, pair) for number, pair in enumerate(pairs)), follow(99, pairs[0], after="x"))
        for number, pair in enumerate(pairs):
            writer = Writer(api, pair)
            for piece in range(20):
                writer.say(f"{number}:{piece} ")
            texts[number] = writer.finish()
        told: dict[int, list[Json]] = {number: [] for number in texts}
        stopped: set[int] = set()
        while stopped != set(texts):
            frame = socket.hear()
            if frame["id"] == 99:
                assert code_of(frame) == "BAD_REQUEST"
            elif frame["result"]["type"] == "data":
                told[frame["id"]].append(frame["result"]["data"]["data"])
            elif frame["result"]["type"] == "stopped":
                stopped.add(frame["id"])
    assert {number: fold(events) for number, events in told.items()} == texts


# --- floods, and slow readers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["frames", "bytes", "calls"])
def test_a_flood_is_closed_with_1008(served: str, anna: Person, manner: str) -> None:
    """Too many frames, one that is too large, or one with more calls than may wait; the whole socket is told why first."""
    with line(served, anna) as socket:
        if manner == "frames":
            for _ in range(100):
                socket.send("PING")
        elif manner == "bytes":
            socket.send("x" * (64 * 1024 + 1))
        else:
            socket.send(*(query(number, "chat.getMessages", {}) for number in range(500)))
        heard, code = socket.until_closed()
    assert code == 1008
    assert heard[-1]["id"] is None
    assert code_of(heard[-1]) == "TOO_MANY_REQUESTS"


def test_a_client_that_did_not_read_is_told_the_text_so_far_as_one(api: Api) -> None:
    """Of both its subscriptions, as a `complete` each; then they go on."""
    piece = "a piece of text " * 400
    with serving(api.new_app(socket_buffer_bytes=20_000)) as address:
        anna = api.person()
        pairs = [anna.pair(anna.project()["id"]) for _ in range(2)]
        writers = [Writer(api, pair) for pair in pairs]
        with line(address, anna) as socket:
            socket.send(*(follow(number, pair) for number, pair in enumerate(pairs)))
            told: dict[int, list[Json]] = {0: [], 1: []}
            while not all(told.values()):
                hear_one(socket, told)
            for _ in range(150):
                for writer in writers:
                    writer.say(piece)
            rows = [writer.finish() for writer in writers]
            while not all(events[-1]["type"] == "finalized" for events in told.values()):
                hear_one(socket, told)
    for number, row in enumerate(rows):
        assert fold(told[number]) == row
        assert len(told[number]) < 150
        assert "complete" in [event["type"] for event in told[number]]


def hear_one(socket: Line, told: dict[int, list[Json]]) -> None:
    frame = socket.hear()
    if frame["result"]["type"] == "data":
        told[frame["id"]].append(frame["result"]["data"]["data"])


# --- access that ends, and servers that end ---------------------------------------------------------------------


def test_who_loses_a_project_loses_its_subscriptions_and_nothing_else(api: Api) -> None:
    """At once, and not when somebody next looks; the socket goes on, and so does what it follows in another project."""
    owner, member = api.person(), api.person()
    theirs, mine = owner.project()["id"], member.project()["id"]
    path = f"/v1/projects/{theirs}/members/{member.name}"
    answered(owner.call("PUT", path, body={"role": "viewer"}), 200)
    lost, kept = owner.pair(theirs), member.pair(mine)
    writer = Writer(api, kept)
    Writer(api, lost)
    with serving(api.new_app(idle_check_s=3600.0)) as address, line(address, member) as socket:
        socket.send(follow(1, lost), follow(2, kept))
        statuses = 0
        while statuses < 2:
            statuses += socket.hear()["result"]["type"] == "data"
        answered(owner.call("DELETE", path), 204)
        frame = socket.hear()
        assert (frame["id"], code_of(frame)) == (1, "FORBIDDEN")
        writer.say("Still here.")
        assert fold(socket.until_type("delta", 2)) == "Still here."
        socket.send(follow(1, lost))
        assert code_of(socket.hear()) == "NOT_FOUND"


def test_a_server_that_stops_asks_to_reconnect_and_serves_until_the_client_has_gone(
    api: Api, served: str, anna: Person
) -> None:
    """The answer is told on; once the subscription is stopped, the socket is closed with 1012."""
    pair = anna.pair(anna.project()["id"])
    writer = Writer(api, pair)
    relay = api.app.extensions["chatrelay"].relay
    with line(served, anna) as socket:
        socket.send(follow(1, pair))
        socket.until_type("status", 1)
        stopping = threading.Thread(target=relay.stop, args=(20.0,))
        stopping.start()
        assert socket.hear() == {"id": None, "method": "reconnect"}
        writer.say("Still served.")
        assert fold(socket.until_type("delta", 1)) == "Still served."
        socket.send(stop(1))
        heard, code = socket.until_closed()
        stopping.join()
    assert heard[0] == {"id": 1, "result": {"type": "stopped"}}
    assert code == 1012


def test_a_client_that_does_not_go_is_closed_before_the_server_is_gone(api: Api) -> None:
    app = api.new_app(drain_s=1.0)
    with serving(app) as address:
        anna = api.person()
        pair = anna.pair(anna.project()["id"])
        Writer(api, pair)
        with line(address, anna) as socket:
            socket.send(follow(1, pair))
            socket.until_type("status", 1)
            app.extensions["chatrelay"].relay.stop(30.0)
            heard, code = socket.until_closed()
    assert heard[0] == {"id": None, "method": "reconnect"}
    assert code_of(heard[-1]) == "SERVICE_UNAVAILABLE"
    assert code == 1012


# --- the synchronous call ---------------------------------------------------------------------------------------


def test_a_synchronous_call_holds_up_nothing_and_is_answered_once_its_answer_is_final(
    api: Api, served: str, anna: Person
) -> None:
    project_id = anna.project()["id"]
    with line(served, anna) as socket:
        socket.send(
            query(1, "chat.sendMessage", {"projectId": project_id, "message": "Hello?"}, "mutation"),
            query(2, "chat.getMessages", {"projectId": project_id}),
        )
        listed = socket.hear()
        assert listed["id"] == 2
        api.finish(listed["result"]["data"]["items"][0]["id"], "Hello!")
        answer = socket.hear()
    assert answer["id"] == 1
    exchange = answer["result"]["data"]
    assert exchange["userMessage"]["content"] == "Hello?"
    assert (exchange["assistantMessage"]["content"], exchange["assistantMessage"]["status"]) == ("Hello!", "success")


# --- after a job was handed over --------------------------------------------------------------------------------


def test_who_comes_back_after_the_builder_has_begun_goes_on_with_its_attempt(
    api: Api, served: str, anna: Person
) -> None:
    """A `complete` with the text so far, then what the builder tells."""
    project_id = anna.project()["id"]
    _, message_id = job_made(api, anna, project_id)
    claim = api.store.claim_build(uuid.UUID(message_id), "test", lease_s=60, max_tries=3)
    assert claim is not None
    base: Json = {"message_id": message_id, "ts": 1}
    begun: list[StreamEvent] = [
        Snapshot(id="2-0", content="I build it.", status="building", tool_calls=(), reason="attempt", **base),
        Status(id="2-1", status="building", **base),
    ]
    entries = [Entry(EventId.parse(event.id), events.encode(event)) for event in begun]
    assert api.log.append(uuid.UUID(message_id), entries).word == "ok"
    pair = {"assistantMessage": {"id": message_id, "projectId": project_id}}
    with line(served, anna) as socket:
        socket.send(follow(1, pair, after="1-0"))
        assert [(event["id"], event["type"]) for event in socket.until_type("status", 1)] == [
            ("2-0", "complete"),
            ("2-1", "status"),
        ]
        socket.send(follow(2, pair, after="2-0"))
        assert [event["id"] for event in socket.until_type("status", 2)] == ["2-1"]
