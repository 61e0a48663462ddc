"""The AI SDK's socket by hand: what is bounded, refused and aborted, and that each request is told its answer to the end."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.integration.ai_sdk_parts import (
    ChatWriter,
    chat_path,
    frames,
    newest_answer,
    said,
    shown_by,
)
from tests.integration.api_parts import Api, Person, answered, refused, serving
from tests.ui_message import Json


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


@pytest.fixture
def project_id(anna: Person) -> str:
    made: str = anna.project()["id"]
    return made


def ticket_for(person: Person, project_id: str) -> str:
    path = chat_path(project_id, "socket")
    ticket: str = answered(person.post("/v1/tickets", {"path": path}), 201)["ticket"]
    return ticket


# --- who is let in ----------------------------------------------------------------------------------------------


def test_what_is_refused_before_the_handshake_is_answered_over_http(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """No token 401, a foreign page 403, a stranger the 404 of what does not exist."""
    stranger, nowhere = api.person(), str(uuid.uuid4())
    wrong = Person(api.app, "wrong", "wrong")
    cases: list[tuple[Person | None, str, dict[str, str], int]] = [
        (None, project_id, {}, 401),
        (wrong, project_id, {}, 401),
        (anna, project_id, {"Origin": "https://evil.example"}, 403),
        (stranger, project_id, {}, 404),
        (anna, nowhere, {}, 404),
    ]
    for person, project, headers, status in cases:
        with pytest.raises(InvalidStatus) as caught, frames(served, person, project, **headers):
            pass
        assert caught.value.response.status_code == status
    refused(anna.get(chat_path(project_id, "socket")), 426, "upgrade_required")


def test_a_ticket_opens_the_socket_once_and_no_other(api: Api, served: str, anna: Person, project_id: str) -> None:
    """What a browser puts into `params`; it is asked for anew for each connection."""
    ticket = ticket_for(anna, project_id)
    other = anna.project()["id"]
    for project, fits in ((other, False), (project_id, True), (project_id, False)):
        if fits:
            with frames(served, None, project, ticket=ticket) as socket:
                socket.resume("1")
                assert socket.hear() == {"type": "no-active", "requestId": "1"}
        else:
            with pytest.raises(InvalidStatus) as caught, frames(served, None, project, ticket=ticket):
                pass
            assert caught.value.response.status_code == 401
    refused(api.person().post("/v1/tickets", {"path": chat_path(project_id, "socket")}), 404, "not_found")


def test_every_request_is_a_reader_of_its_user(api: Api) -> None:
    """The socket and what it is told of count; one more is refused alone, before anything is changed."""
    with serving(api.new_app(max_sockets_per_user=2)) as address:
        anna = api.person()
        project_id = anna.project()["id"]
        with frames(address, anna, project_id) as socket:
            socket.send("1", said("One"))
            socket.until("chunk", "1", "start")
            socket.send("2", said("Two"))
            [refusal] = socket.until("error", "2")
            assert "too many" in refusal["errorText"]
            assert len(answered(anna.get(f"/v1/projects/{project_id}/messages"), 200)["items"]) == 2
            with pytest.raises(InvalidStatus) as caught, frames(address, anna, project_id):
                pass
            assert caught.value.response.status_code == 429


# --- requests ---------------------------------------------------------------------------------------------------


def test_a_message_is_answered_in_numbered_chunks_and_an_end(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """An attempt that takes text back is told as one: no version before 7 has this transport."""
    with frames(served, anna, project_id) as socket:
        socket.send("r1", said("I am made up."), said("Hello"))
        told = socket.until("chunk", "r1", "start")
        writer = ChatWriter(api, anna, project_id)
        writer.say("It was a dark and st")
        told += socket.until("chunk", "r1", "text-delta")
        writer.begin_anew()
        writer.say("It was a bright morning.")
        content = writer.finish()
        told += socket.until("end", "r1")
    message = shown_by(told)
    assert "reset-step" in [frame["chunk"]["type"] for frame in told[:-1]]
    assert (message.id, message.text, message.finish_reason) == (str(writer.message_id), content, "stop")
    items = answered(anna.get(f"/v1/projects/{project_id}/messages"), 200)["items"]
    assert [one["content"] for one in items] == [content, "Hello"]


def test_an_active_answer_is_resumed_from_its_start(api: Api, served: str, anna: Person, project_id: str) -> None:
    """`start`, and all of it from number 0 under the same id; `no-active` once it is over, but to who names it."""
    with frames(served, anna, project_id) as socket:
        socket.send("r1", said("Hello"))
        socket.until("chunk", "r1", "start")
        writer = ChatWriter(api, anna, project_id)
        writer.say("Before, ")
    with frames(served, anna, project_id) as socket:
        socket.resume("r2")
        assert socket.hear() == {"type": "start", "requestId": "r2"}
        told = socket.until("chunk", "r2", "text-delta")
        writer.say("and after.")
        writer.finish()
        message = shown_by([*told, *socket.until("end", "r2")])
        assert (message.id, message.text) == (str(writer.message_id), "Before, and after.")
        socket.resume("r3")
        assert socket.until("no-active", "r3") == [{"type": "no-active", "requestId": "r3"}]
        socket.resume("r4", messageId=str(writer.message_id))
        assert shown_by(socket.until("end", "r4")).text == "Before, and after."


def test_what_is_sent_again_on_another_socket_is_asked_once(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    question = said("Hello", "m1")
    with frames(served, anna, project_id) as socket, frames(served, anna, project_id) as other:
        ids = []
        for one in (socket, other):
            one.send("1", question)
            [start] = one.until("chunk", "1", "start")
            ids.append(start["chunk"]["messageId"])
        assert ids[0] == ids[1]
        ChatWriter(api, anna, project_id).finish()
        for one in (socket, other):
            one.until("end", "1")
        socket.send("2", question, trigger="regenerate-message")
        [start] = socket.until("chunk", "2", "start")
        assert start["chunk"]["messageId"] == ids[0]
        again = ChatWriter(api, anna, project_id)
        again.say("Anew.")
        again.finish()
        assert shown_by([start, *socket.until("end", "2")]).text == "Anew."


def test_many_answers_are_told_on_one_socket_each_in_its_order(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    told: dict[str, list[Json]] = {str(number): [] for number in range(3)}
    texts: dict[str, str] = {}
    with frames(served, anna, project_id) as socket:

        def hear_until(kind: str) -> None:
            while not all(any(frame["type"] == kind for frame in heard) for heard in told.values()):
                frame = socket.hear()
                told[frame["requestId"]].append(frame)

        for request_id in told:
            socket.send(request_id, said(f"Question {request_id}"), body={"onBusy": "parallel"})
        hear_until("chunk")
        for request_id, heard in told.items():
            writer = ChatWriter(api, anna, project_id, heard[0]["chunk"]["messageId"])
            for piece in range(20):
                writer.say(f"{request_id}:{piece} ")
            texts[request_id] = writer.finish()
        hear_until("end")
    assert {request_id: shown_by(heard).text for request_id, heard in told.items()} == texts


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "null",
        "[]",
        {"type": "dance", "requestId": "9"},
        {"type": "send", "requestId": 9},
        {"type": "send", "requestId": "x" * 201},
        {"type": "send", "requestId": "9", "messages": []},
        {"type": "send", "requestId": "9", "messages": [said("x")], "body": {"model": "unknown"}},
        {"type": "send", "requestId": "9", "messages": [said("x")], "body": {"model": 5}},
        {"type": "send", "requestId": "9", "messages": [said("x")], "trigger": "dance"},
        {"type": "send", "requestId": "9", "messages": [said("x" * 32_001)]},
        {"type": "resume", "requestId": "9", "body": {"messageId": 5}},
        {"type": "resume", "requestId": "9", "body": {"messageId": "x"}},
        b"\x00",
    ],
)
def test_what_is_wrong_fails_alone_and_closes_nothing(
    api: Api, served: str, anna: Person, project_id: str, frame: Any
) -> None:
    """Another request on the same socket is told its answer to the end."""
    with frames(served, anna, project_id) as socket:
        socket.send("1", said("Hello"))
        told = socket.until("chunk", "1", "start")
        socket.say(frame)
        while (heard := socket.hear())["requestId"] == "1":
            told.append(heard)
        assert heard["type"] == "error"
        assert heard["requestId"] in ("9", "")
        assert heard["errorText"]
        writer = ChatWriter(api, anna, project_id)
        writer.say("Here I am.")
        writer.finish()
        assert shown_by([*told, *socket.until("end", "1")]).text == "Here I am."
        assert len(answered(anna.get(f"/v1/projects/{project_id}/messages"), 200)["items"]) == 2


def test_an_id_in_use_is_refused(served: str, anna: Person, project_id: str) -> None:
    with frames(served, anna, project_id) as socket:
        socket.send("1", said("Hello"))
        socket.until("chunk", "1", "start")
        socket.send("1", said("Again"))
        assert "in use" in socket.until("error", "1")[-1]["errorText"]


def test_a_viewer_follows_and_asks_nothing(api: Api, served: str, anna: Person, project_id: str) -> None:
    viewer = api.person()
    answered(anna.call("PUT", f"/v1/projects/{project_id}/members/{viewer.name}", body={"role": "viewer"}), 200)
    anna.pair(project_id)
    with frames(served, viewer, project_id) as socket:
        socket.send("1", said("Let me in"))
        assert "role" in socket.until("error", "1")[-1]["errorText"]
        socket.resume("2")
        socket.until("chunk", "2", "start")
        socket.abort("2")
        socket.resume("3")
        socket.until("chunk", "3", "start")
    assert newest_answer(anna, project_id)["status"] == "pending"


# --- aborting, and going away -----------------------------------------------------------------------------------


def test_who_aborts_what_it_sent_cancels_the_answer(api: Api, served: str, anna: Person, project_id: str) -> None:
    """Nothing more is told of it, and its id is free again."""
    with frames(served, anna, project_id) as socket:
        socket.send("1", said("Hello"))
        socket.until("chunk", "1", "start")
        message_id = newest_answer(anna, project_id)["id"]
        socket.abort("1")
        socket.abort("1")
        socket.abort("unknown")
        socket.resume("1")
        heard = [frame for frame in socket.until("no-active", "1") if frame["type"] != "chunk"]
        assert heard == [{"type": "no-active", "requestId": "1"}]
        assert answered(anna.get(f"/v1/messages/{message_id}"), 200)["status"] == "cancelled"


def test_what_is_aborted_before_it_was_done_is_cancelled_or_never_asked(
    served: str, anna: Person, project_id: str
) -> None:
    """At whatever moment the abort comes: nothing goes on."""
    with frames(served, anna, project_id) as socket:
        for number in range(8):
            socket.send(str(number), said(f"Question {number}"))
            socket.abort(str(number))
        socket.resume("last")
        socket.until("no-active", "last")
    items = answered(anna.get(f"/v1/projects/{project_id}/messages"), 200)["items"]
    assert {one["status"] for one in items if one["role"] == "assistant"} <= {"cancelled"}


def test_who_aborts_what_it_resumed_or_goes_away_leaves_the_answer_alone(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    with frames(served, anna, project_id) as socket:
        socket.send("1", said("Hello"))
        socket.until("chunk", "1", "start")
        socket.resume("2")
        socket.until("chunk", "2", "start")
        socket.abort("2")
        socket.resume("3")
        socket.until("chunk", "3", "start")
    writer = ChatWriter(api, anna, project_id)
    writer.say("To the end.")
    writer.finish()
    assert newest_answer(anna, project_id)["content"] == "To the end."


# --- floods, slow readers, ends ---------------------------------------------------------------------------------


def test_a_frame_may_be_as_long_as_a_body_and_no_longer(api: Api, served: str, anna: Person, project_id: str) -> None:
    """A client sends its whole conversation each time: 64 KiB would end it early."""
    history = [{"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "x" * 900_000}]}]
    with frames(served, anna, project_id) as socket:
        socket.send("1", *history, said("Hello"))
        socket.until("chunk", "1", "start")
        socket.send("2", *history, *history, said("Hello"))
        heard, code = socket.until_closed()
    assert code == 1008
    assert [frame for frame in heard if frame["requestId"] == "2"] == []


def test_a_client_that_did_not_read_is_told_the_rest_of_the_text_at_once(api: Api) -> None:
    with serving(api.new_app(socket_buffer_bytes=20_000)) as address:
        anna = api.person()
        project_id = anna.project()["id"]
        with frames(address, anna, project_id) as socket:
            socket.send("1", said("Hello"))
            told = socket.until("chunk", "1", "start")
            writer = ChatWriter(api, anna, project_id)
            for _ in range(150):
                writer.say("a piece of text " * 400)
            content = writer.finish()
            told += socket.until("end", "1")
    kinds = [frame["chunk"]["type"] for frame in told[:-1]]
    assert shown_by(told).text == content
    assert kinds.count("text-delta") < 150
    assert "reset-step" not in kinds


def test_a_component_job_is_shown_through_its_phases(api: Api, served: str, anna: Person, project_id: str) -> None:
    with frames(served, anna, project_id) as socket:
        socket.send("1", said("Confetti"))
        told = socket.until("chunk", "1", "start")
        writer = ChatWriter(api, anna, project_id)
        builder = writer.hand_over("Confetti")
        builder.enter("checking")
        while told[-1]["chunk"].get("data", {}).get("phase") != "checking":
            told += socket.until("chunk", "1", "data-job")
        content = builder.finish()
        message = shown_by([*told, *socket.until("end", "1")])
    assert message.text == content
    assert [(job["status"], job["name"]) for job in message.data("job")] == [("success", "Confetti")]


def test_who_loses_the_project_loses_the_socket(api: Api) -> None:
    """At once, with 4403, whether or not anything is told on it."""
    for is_busy in (True, False):
        owner, member = api.person(), api.person()
        project_id = owner.project()["id"]
        path = f"/v1/projects/{project_id}/members/{member.name}"
        answered(owner.call("PUT", path, body={"role": "editor"}), 200)
        with serving(api.new_app(idle_check_s=3600.0)) as address, frames(address, member, project_id) as socket:
            if is_busy:
                socket.send("1", said("Hello"))
                socket.until("chunk", "1", "start")
            else:
                socket.resume("1")
                socket.until("no-active", "1")
            answered(owner.call("DELETE", path), 204)
            _, code = socket.until_closed()
        assert code == 4403


def test_a_server_that_stops_closes_with_1012(api: Api, served: str, anna: Person, project_id: str) -> None:
    relay = api.app.extensions["chatrelay"].relay
    with frames(served, anna, project_id) as socket:
        socket.send("1", said("Hello"))
        socket.until("chunk", "1", "start")
        stopping = threading.Thread(target=relay.stop, args=(20.0,))
        stopping.start()
        heard, code = socket.until_closed()
        stopping.join()
    assert code == 1012
    assert "end" not in [frame["type"] for frame in heard]
