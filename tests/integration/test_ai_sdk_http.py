"""The AI SDK over HTTP by hand: what is sent once is asked once, and every client comes to show what the row says."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from shared.records import JobPhase
from tests.integration.ai_sdk_parts import (
    ChatWriter,
    Stream,
    chat_path,
    posted,
    said,
    streaming,
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


def rows(person: Person, project_id: str) -> list[Json]:
    """All messages, oldest first."""
    items: list[Json] = answered(person.get(f"/v1/projects/{project_id}/messages"), 200)["items"]
    return items[::-1]


def finished(stream: Stream, writer: ChatWriter) -> Stream:
    writer.finish()
    return stream.finish()


def row(person: Person, message_id: str) -> Json:
    found: Json = answered(person.get(f"/v1/messages/{message_id}"), 200)
    return found


# --- asking -----------------------------------------------------------------------------------------------------


def test_a_message_is_answered_by_its_answers_stream(api: Api, served: str, anna: Person, project_id: str) -> None:
    """Text, a call that worked and one that did not, the end; nothing of the history that the client made up counts."""
    history = [said("I am made up."), {"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "Me too."}]}]
    body = posted(*history, said("Hello"), model=None)
    with streaming(served, anna, "POST", chat_path(project_id), body) as stream:
        writer = ChatWriter(api, anna, project_id)
        assert stream.next() == {"type": "start", "messageId": str(writer.message_id)} | {
            "messageMetadata": stream.chunks[0]["messageMetadata"]
        }
        writer.say("Hel", "lo!")
        writer.call("applyJsonPatch", {"operations": []})
        writer.call("unknown", "{", fails=True)
        writer.say("\n\nBye.")
        content = writer.finish()
        stream.finish()
    assert (stream.is_done, stream.is_whole) == (True, True)
    message = stream.shown()
    assert message.text == content == row(anna, str(writer.message_id))["content"] == "Hello!\n\nBye."
    assert [part["state"] for part in message.tools] == ["output-available", "output-error"]
    assert [part["type"] for part in message.parts] == [
        "step-start",
        "text",
        "tool-applyJsonPatch",
        "tool-unknown",
        "text",
    ]
    assert message.finish_reason == "stop"
    assert [(one["role"], one["content"]) for one in rows(anna, project_id)] == [
        ("user", "Hello"),
        ("assistant", content),
    ]
    assert message.metadata["replyTo"] == rows(anna, project_id)[0]["id"]


def test_what_is_sent_again_under_its_id_is_asked_once(api: Api, served: str, anna: Person, project_id: str) -> None:
    """While it is written and after its end: each time the whole answer, under the same id."""
    body = posted(said("Hello", "m1"))
    told = []
    with streaming(served, anna, "POST", chat_path(project_id), body) as first:
        writer = ChatWriter(api, anna, project_id)
        writer.say("Once.")
        first.until("text-delta")
        with streaming(served, anna, "POST", chat_path(project_id), body) as second:
            second.until("text-delta")
            writer.finish()
            told += [first.finish().shown(), second.finish().shown()]
    with streaming(served, anna, "POST", chat_path(project_id), body) as third:
        told.append(third.finish().shown())
    assert [(message.id, message.text, message.finish_reason) for message in told] == [
        (str(writer.message_id), "Once.", "stop")
    ] * 3
    assert len(rows(anna, project_id)) == 2


def test_another_text_chat_or_person_under_the_same_id_is_another_question(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """An edited message has its own answer, and ids that clients count up do not meet."""
    other = api.person()
    answered(anna.call("PUT", f"/v1/projects/{project_id}/members/{other.name}", body={"role": "editor"}), 200)
    asked: list[tuple[Person, Any]] = [
        (anna, posted(said("Hello", "m1"))),
        (anna, posted(said("Hello, edited", "m1"), messageId="m1")),
        (anna, posted(said("Hello", "m1"), id="chat-2")),
        (other, posted(said("Hello", "m1"))),
    ]
    for number, (person, body) in enumerate(asked, start=1):
        with streaming(served, person, "POST", chat_path(project_id), body) as stream:
            stream.until("start")
            assert len(rows(anna, project_id)) == 2 * number


def test_a_page_that_sends_only_its_last_message_is_understood(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """As the SDK's own guides have it; with what it adds of ours."""
    body = {"id": "chat-1", "message": said("Hello"), "model": api.settings.models[0], "onBusy": "parallel"}
    with streaming(served, anna, "POST", chat_path(project_id), body) as stream:
        stream.until("start")
    question, answer = rows(anna, project_id)
    assert (question["content"], answer["model"]) == ("Hello", api.settings.models[0])


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"id": "a", "role": "assistant", "parts": []}],
        [said("Hello"), {"id": "a", "role": "assistant", "parts": []}],
        [{"id": "a", "role": "user", "parts": []}],
        [said("")],
        [{"id": "a", "role": "user", "parts": [{"type": "text", "text": 5}]}],
        [{"id": "a", "role": "user", "parts": [{"type": "file", "url": "data:,x"}, {"type": "text", "text": "x"}]}],
        [said("x" * 32_001)],
        "x",
        [5],
    ],
)
def test_what_is_no_message_of_the_users_is_refused(anna: Person, project_id: str, messages: Any) -> None:
    body = {"id": "chat-1", "messages": messages, "trigger": "submit-message"}
    refused(anna.post(chat_path(project_id), body), 422, "invalid_fields")
    assert rows(anna, project_id) == []


def test_a_body_is_as_strict_as_every_other(api: Api, anna: Person, project_id: str) -> None:
    path = chat_path(project_id)
    refused(anna.call("POST", path, raw=b"{"), 400, "invalid_json")
    refused(anna.call("POST", path, raw=b'{"id":"\\u0000"}'), 400, "invalid_json")
    refused(anna.call("POST", path, raw=b" " * 1_100_000), 413, "body_too_large")
    refused(anna.call("POST", path, raw=b"{}", media_type="text/plain"), 415, "unsupported_media_type")
    refused(anna.post(path, posted(said("x"), trigger="dance")), 422, "invalid_fields")
    refused(anna.post(path, posted(said("x"), model="unknown")), 422, "invalid_fields")
    refused(anna.post(f"{path}?sdk=8", posted(said("x"))), 400, "invalid_query")
    refused(anna.post(path, posted(said("x")), headers={"Origin": "https://evil.example"}), 403, "foreign_origin")
    assert rows(anna, project_id) == []


def test_a_limit_refuses_before_anything_is_changed(api: Api) -> None:
    """Too many unfinished messages, and too many readers: 429, when to come back, and no message."""
    for setting, code in (
        ("max_unfinished_per_user", "too_many_unfinished"),
        ("max_sockets_per_user", "too_many_readers"),
    ):
        app = api.new_app(**{setting: 1})
        busy = api.person(app=app)
        project_id = busy.project()["id"]
        with (
            serving(app) as address,
            streaming(address, busy, "POST", chat_path(project_id), posted(said("One"))) as stream,
        ):
            stream.until("start")
            refusal = busy.post(chat_path(project_id), posted(said("Two")))
            refused(refusal, 429, code)
            assert int(refusal.headers["Retry-After"]) > 0
            assert len(rows(busy, project_id)) == 2


# --- regenerating -----------------------------------------------------------------------------------------------


def regenerating(*messages: Json, **more: Any) -> Json:
    return posted(*messages, trigger="regenerate-message", **more)


def test_a_success_is_written_anew_and_the_old_text_is_not_shown(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """By the answer's id, by the question's, and by nothing but the question as it was sent; also to version 6."""
    question = said("Hello", "m1")
    with streaming(served, anna, "POST", chat_path(project_id), posted(question)) as stream:
        writer = ChatWriter(api, anna, project_id)
        message_id = str(writer.message_id)
        writer.say("The first.")
        writer.finish()
        assert stream.finish().shown().text == "The first."
    by_row = {**question, "id": rows(anna, project_id)[0]["id"]}
    for number, body in enumerate(
        [
            regenerating(question, messageId=message_id),
            regenerating(question, messageId="not-one-of-ours"),
            regenerating(question),
            regenerating(by_row),
        ]
    ):
        with streaming(served, anna, "POST", chat_path(project_id) + "?sdk=6", body) as stream:
            assert stream.until("start")["messageId"] == message_id
            again = ChatWriter(api, anna, project_id, message_id)
            again.say(f"Number {number}.")
            again.finish()
            message = stream.finish().shown(6)
        assert (message.text, message.finish_reason) == (f"Number {number}.", "stop")
    assert len(rows(anna, project_id)) == 2


def test_an_answer_that_is_being_written_is_joined_and_not_begun_anew(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    question = said("Hello", "m1")
    with streaming(served, anna, "POST", chat_path(project_id), posted(question)) as stream:
        stream.until("start")
        writer = ChatWriter(api, anna, project_id)
        writer.say("Still ")
        with streaming(served, anna, "POST", chat_path(project_id), regenerating(question)) as joined:
            joined.until("text-delta")
            writer.say("the same.")
            writer.finish()
            assert joined.finish().shown().text == stream.finish().shown().text == "Still the same."


def test_a_question_that_had_never_arrived_is_asked_by_regenerating(served: str, anna: Person, project_id: str) -> None:
    """What a page's "try again" says after a refusal."""
    with streaming(served, anna, "POST", chat_path(project_id), regenerating(said("Hello"))) as stream:
        stream.until("start")
    assert [one["content"] for one in rows(anna, project_id)][:1] == ["Hello"]


def test_another_projects_answer_is_not_begun_anew(api: Api, anna: Person, project_id: str) -> None:
    """Its id means nothing here."""
    elsewhere = anna.pair(anna.project()["id"])["assistantMessage"]["id"]
    api.finish(elsewhere)
    refused(anna.post(chat_path(project_id), regenerating(messageId=elsewhere)), 422, "invalid_fields")
    assert row(anna, elsewhere)["status"] == "success"


# --- resuming and stopping --------------------------------------------------------------------------------------


def test_the_active_answer_is_resumed_from_its_start_under_its_id(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """At the address of ours and at the one that a transport makes by itself; 204 before and after."""
    for path in (chat_path(project_id, "stream"), chat_path(project_id, "any-chat", "stream")):
        assert anna.get(path).status_code == 204
        pair = anna.pair(project_id)
        writer = ChatWriter(api, anna, project_id)
        writer.say("Before, ")
        with streaming(served, anna, "GET", path) as stream:
            assert stream.until("start")["messageId"] == pair["assistantMessage"]["id"]
            stream.until("text-delta")
            writer.say("and after.")
            writer.finish()
            assert stream.finish().shown().text == "Before, and after."
        assert anna.get(path).status_code == 204
        assert anna.get(f"{path}?messageId={uuid.uuid4()}").status_code == 404


def test_an_answer_that_ended_meanwhile_is_told_to_who_names_it(api: Api, served: str, anna: Person) -> None:
    """Of this project alone, and no user's message."""
    project_id = anna.project()["id"]
    pair = anna.pair(project_id)
    writer = ChatWriter(api, anna, project_id)
    writer.say("All of it.")
    writer.cancel()
    path = chat_path(project_id, "stream")
    with streaming(served, anna, "GET", f"{path}?messageId={writer.message_id}") as stream:
        message = stream.finish().shown()
    assert (message.text, message.is_aborted, message.metadata["status"]) == ("All of it.", True, "cancelled")
    for other in (pair["userMessage"]["id"], anna.pair(anna.project()["id"])["assistantMessage"]["id"], "x"):
        refused(anna.get(f"{path}?messageId={other}"), 404, "not_found")


def test_the_answer_that_was_asked_for_last_is_the_active_one(api: Api, anna: Person, project_id: str) -> None:
    first, second = (anna.pair(project_id)["assistantMessage"]["id"] for _ in range(2))
    stop = chat_path(project_id, "stop")
    assert answered(anna.post(stop), 202)["id"] == second
    assert answered(anna.post(stop), 202)["id"] == first
    assert anna.post(stop).status_code == 204
    assert [row(anna, one)["status"] for one in (first, second)] == ["cancelled"] * 2


def test_a_stopped_answer_keeps_its_text_and_is_aborted(api: Api, served: str, anna: Person, project_id: str) -> None:
    with streaming(served, anna, "POST", chat_path(project_id), posted(said("Hello"))) as stream:
        writer = ChatWriter(api, anna, project_id)
        writer.say("As far as this")
        stream.until("text-delta")
        answered(anna.post(chat_path(project_id, "stop")), 202)
        writer.cancel()
        message = stream.finish().shown()
    assert (message.text, message.is_aborted, stream.is_done) == ("As far as this", True, True)
    assert message.metadata["status"] == row(anna, str(writer.message_id))["status"] == "cancelled"


# --- attempts, and ends that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "agent"), [("?sdk=7", None), ("", "node ai-sdk/7.0.173 runtime/node.js/22"), ("?sdk=7", "ai-sdk/6.0.1")]
)
def test_version_7_is_told_to_begin_anew(
    api: Api, served: str, anna: Person, project_id: str, query: str, agent: str | None
) -> None:
    """By the address, else by the `User-Agent`."""
    headers = {} if agent is None else {"User-Agent": agent}
    body = posted(said("Hello"))
    with streaming(served, anna, "POST", chat_path(project_id) + query, body, headers=headers) as stream:
        writer = ChatWriter(api, anna, project_id)
        writer.say("It was a dark and st")
        stream.until("text-delta")
        writer.begin_anew()
        stream.until("reset-step")
        writer.say("It was a bright morning.")
        assert finished(stream, writer).shown().text == "It was a bright morning."
    assert stream.is_whole


@pytest.mark.parametrize(
    ("query", "agent"), [("", None), ("?sdk=6", None), ("", "ai-sdk/6.0.1"), ("?sdk=6", "ai-sdk/7.1")]
)
def test_who_is_not_known_to_be_version_7_is_cut_off_and_resumes(
    api: Api, served: str, anna: Person, project_id: str, query: str, agent: str | None
) -> None:
    """The answer breaks off, which a client takes for a lost connection and not for the end."""
    headers = {} if agent is None else {"User-Agent": agent}
    body = posted(said("Hello"))
    with streaming(served, anna, "POST", chat_path(project_id) + query, body, headers=headers) as stream:
        writer = ChatWriter(api, anna, project_id)
        writer.say("It was a dark and st")
        stream.until("text-delta")
        writer.begin_anew()
        stream.finish()
    assert (stream.is_whole, stream.is_done) == (False, False)
    assert [chunk["type"] for chunk in stream.chunks][-1] == "text-delta"
    with streaming(served, anna, "GET", chat_path(project_id, "stream") + query, headers=headers) as stream:
        writer.say("It was a bright morning.")
        message = finished(stream, writer).shown(6)
    assert (message.id, message.text) == (str(writer.message_id), "It was a bright morning.")


def test_an_attempt_that_takes_nothing_back_is_told_to_everybody(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """Its snapshot is what is shown already: nobody is cut off for it."""
    with streaming(served, anna, "POST", chat_path(project_id), posted(said("Hello"))) as stream:
        writer = ChatWriter(api, anna, project_id)
        writer.say("The first round. ")
        stream.until("text-delta")
        writer.begin_anew("The first round. ")
        writer.say("The second.")
        message = finished(stream, writer).shown(6)
    assert (message.text, message.finish_reason) == ("The first round. The second.", "stop")


def test_a_server_that_stops_breaks_its_streams_off(api: Api, served: str, anna: Person, project_id: str) -> None:
    """So that a client resumes; also one that comes while the server stops."""
    with streaming(served, anna, "POST", chat_path(project_id), posted(said("Hello"))) as stream:
        writer = ChatWriter(api, anna, project_id)
        writer.say("Half")
        stream.until("text-delta")
        api.app.extensions["chatrelay"].relay.stop(5.0)
        stream.finish()
    assert (stream.is_whole, stream.is_done) == (False, False)
    with streaming(served, anna, "GET", chat_path(project_id, "stream")) as late:
        assert late.finish().is_whole is False
    assert late.chunks == []


def test_who_loses_the_project_is_told_so(api: Api, served: str, anna: Person, project_id: str) -> None:
    member = api.person()
    path = f"/v1/projects/{project_id}/members/{member.name}"
    answered(anna.call("PUT", path, body={"role": "editor"}), 200)
    with streaming(served, member, "POST", chat_path(project_id), posted(said("Hello"))) as stream:
        stream.until("start")
        answered(anna.call("DELETE", path), 204)
        message = stream.finish().shown()
    assert "access" in str(message.error)
    assert (stream.is_done, stream.is_whole) == (True, True)
    refused(member.get(chat_path(project_id, "stream")), 404, "not_found")


def test_a_client_that_did_not_read_shows_the_whole_text(api: Api) -> None:
    """In place of what it missed comes the rest of the text at once; it is not cut off for that."""
    with serving(api.new_app(socket_buffer_bytes=20_000)) as address:
        anna = api.person()
        project_id = anna.project()["id"]
        with streaming(address, anna, "POST", chat_path(project_id), posted(said("Hello"))) as stream:
            writer = ChatWriter(api, anna, project_id)
            stream.until("data-status")
            for _ in range(150):
                writer.say("a piece of text " * 400)
            content = writer.finish()
            message = stream.finish().shown(6)
    assert message.text == content
    assert len([chunk for chunk in stream.chunks if chunk["type"] == "text-delta"]) < 150


def test_a_server_that_gives_no_connection_away_tells_the_same(api: Api, anna: Person, project_id: str) -> None:
    """Where it cannot show that it broke off, an error says so."""
    anna.pair(project_id)
    writer = ChatWriter(api, anna, project_id)
    writer.say("All of it.")
    writer.finish()
    response = anna.get(f"{chat_path(project_id, 'stream')}?messageId={writer.message_id}")
    data = [line[6:] for line in response.get_data(as_text=True).split("\n") if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert "".join(json.loads(one).get("delta", "") for one in data[:-1]) == "All of it."
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"


# --- jobs -------------------------------------------------------------------------------------------------------


def test_a_component_job_is_shown_through_its_phases_to_the_messages_end(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    """The stream goes on while it is built, also for a client of version 6."""
    with streaming(served, anna, "POST", chat_path(project_id) + "?sdk=6", posted(said("Confetti"))) as stream:
        writer = ChatWriter(api, anna, project_id)
        writer.say("I build it.")
        builder = writer.hand_over("Confetti")
        job_id = str(builder.job.id)
        assert stream.until("data-job")["data"] == {"jobId": job_id, "status": "pending"}
        seen = []
        phases: tuple[JobPhase, ...] = ("writing", "checking", "bundling")
        for phase in phases:
            builder.enter(phase)
            while (data := stream.until("data-job")["data"]).get("phase") != phase:
                pass
            seen.append((data["status"], data["name"], data["try"]))
        assert seen == [("building", "Confetti", 1)] * 3
        content = builder.finish()
        message = stream.finish().shown(6)
    assert message.text == content == row(anna, str(writer.message_id))["content"]
    [job] = message.data("job")
    assert (job["status"], job["name"]) == ("success", "Confetti")
    assert message.finish_reason == "stop"
    assert message.tools[0]["output"]["jobId"] == job_id


def test_who_resumes_while_a_component_is_built_is_told_of_it(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    anna.pair(project_id)
    writer = ChatWriter(api, anna, project_id)
    writer.say("I build it.")
    builder = writer.hand_over("Confetti")
    builder.enter("checking")
    with streaming(served, anna, "GET", chat_path(project_id, "stream")) as stream:
        while (data := stream.until("data-job")["data"]).get("phase") != "checking":
            pass
        assert data["name"] == "Confetti"
        builder.finish()
        message = stream.finish().shown(6)
    assert [job["status"] for job in message.data("job")] == ["success"]
