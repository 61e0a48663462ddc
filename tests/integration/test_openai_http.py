"""OpenAI's protocols by hand: what is asked for, refused, and done once; answers at once, late and in pieces."""

from __future__ import annotations

import json
import threading
import uuid
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from api.protocols.openai import numbers
from tests.integration.api_parts import Api, Person, answered, refused, serving
from tests.integration.openai_parts import Json, Request, asking, blocks
from tests.integration.trpc_parts import Writer
from tests.people import eventually

RESPONSES = "/v1/openai/responses"
COMPLETIONS = "/v1/openai/chat/completions"


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


@pytest.fixture
def project_id(anna: Person) -> str:
    made: str = anna.project()["id"]
    return made


def said(response: TestResponse, status: int, code: str, param: str | None = None) -> Json:
    """The error of a refusal in OpenAI's shape."""
    assert response.status_code == status, response.data
    error: Json = json.loads(response.data)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    return error


def ask(person: Person, project_id: str, content: Any = "Hello", **rest: Any) -> Json:
    """A response in the background."""
    body = {"input": content, "conversation": project_id, "background": True, **rest}
    made: Json = answered(person.post(RESPONSES, body), 200)
    return made


def pair_of(response: Json) -> Json:
    """As `Writer` wants it."""
    return {
        "assistantMessage": {"id": response["id"].removeprefix("resp_"), "projectId": response["conversation"]["id"]}
    }


def deltas(told: list[Json]) -> str:
    return "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta")


def submitted(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM messages WHERE role = 'user'")).scalar_one())


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_the_project_is_named_in_every_way(api: Api, anna: Person, project_id: str) -> None:
    header = {"OpenAI-Project": project_id}
    ways: list[tuple[Json, dict[str, str]]] = [
        ({"conversation": project_id}, {}),
        ({"conversation": {"id": project_id}}, {}),
        ({"metadata": {"project": project_id, "mine": "kept by the client"}}, {}),
        ({}, header),
        ({"model": f"chatrelay:{project_id}"}, {}),
        ({"conversation": project_id, "model": f"chatrelay:{project_id}"}, header),
    ]
    for fields, headers in ways:
        body = {"input": "Hello", "background": True, **fields}
        response = answered(anna.post(RESPONSES, body, headers=headers), 200)
        assert response["conversation"] == {"id": project_id}
        assert response["model"] == api.settings.models[0]
        assert (response["status"], response["object"], response["output"]) == ("queued", "response", [])
    previous = answered(
        anna.post(RESPONSES, {"input": "x", "background": True, "previous_response_id": response["id"]}), 200
    )
    assert previous["conversation"] == {"id": project_id}
    items = answered(anna.get("/v1/projects/" + project_id + "/messages"), 200)["items"]
    assert sum(item["role"] == "user" for item in items) == len(ways) + 1


@pytest.mark.parametrize(
    "given",
    [
        "Newest",
        [{"role": "user", "content": "Newest"}],
        [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "New"}, {"type": "input_text", "text": "est"}],
            }
        ],
        [
            {"role": "system", "content": "Be somebody else."},
            {"role": "user", "content": "Oldest"},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I said so."}]},
            {"role": "user", "content": "Newest"},
        ],
    ],
)
def test_of_what_a_client_sends_the_users_newest_text_counts(anna: Person, project_id: str, given: Any) -> None:
    response = ask(anna, project_id, given)
    items = answered(anna.get(f"{RESPONSES}/{response['id']}/input_items"), 200)
    assert [part["text"] for part in items["data"][0]["content"]] == ["Newest"]


BAD: list[tuple[str, Json, int, str, str | None]] = [
    (
        "an input that ends with a result",
        {"input": [{"role": "user", "content": "x"}, {"type": "function_call_output", "call_id": "c", "output": "x"}]},
        400,
        "invalid_value",
        "input",
    ),
    (
        "an input that ends with the assistant's",
        {"input": [{"role": "assistant", "content": "x"}]},
        400,
        "invalid_value",
        "input",
    ),
    ("no input", {"input": []}, 400, "invalid_value", "input"),
    (
        "an image",
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        400,
        "unsupported_value",
        "input",
    ),
    ("an empty text", {"input": ""}, 422, "invalid_fields", "input"),
    ("a text too long", {"input": "x" * 32_001}, 422, "invalid_fields", "input"),
    ("an input that is none", {"input": 5}, 422, "invalid_fields", "input"),
    ("a flag that is none", {"stream": "yes"}, 422, "invalid_fields", "stream"),
    ("another model", {"model": "gpt-oh"}, 404, "model_not_found", "model"),
    ("what is no project", {"conversation": "conv_1"}, 404, "not_found", None),
    ("two projects", {"metadata": {"project": str(uuid.uuid4())}}, 400, "invalid_value", "conversation"),
    ("a project that is no text", {"metadata": {"project": 5}}, 400, "invalid_value", "metadata.project"),
    ("an answer before that there is not", {"previous_response_id": "resp_x"}, 404, "not_found", None),
    ("instructions", {"instructions": "Be somebody else."}, 400, "unsupported_parameter", "instructions"),
    ("tools", {"tools": [{"type": "web_search"}]}, 400, "unsupported_parameter", "tools"),
    ("a tool's choice", {"tool_choice": "none"}, 400, "unsupported_parameter", "tool_choice"),
    ("an answer that is not stored", {"store": False}, 400, "unsupported_parameter", "store"),
    ("a prompt", {"prompt": {"id": "x"}}, 400, "unsupported_parameter", "prompt"),
    ("a format", {"text": {"format": {"type": "json_object"}}}, 400, "unsupported_parameter", "text"),
]


@pytest.mark.parametrize(("fields", "status", "code", "param"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_what_cannot_be_had_is_refused_by_its_name_and_changes_nothing(
    anna: Person, engine: Engine, project_id: str, fields: Json, status: int, code: str, param: str | None
) -> None:
    body = {"input": "Hello", "conversation": project_id, "background": True, **fields}
    said(anna.post(RESPONSES, body), status, code, param)
    assert submitted(engine) == 0


BAD_COMPLETIONS: list[tuple[str, Json, int, str, str | None]] = [
    ("no project", {"model": "chatrelay"}, 400, "missing_project", "model"),
    ("another model", {"model": "gpt-oh"}, 404, "model_not_found", "model"),
    ("no messages", {"messages": []}, 400, "invalid_value", "messages"),
    (
        "a tool's result",
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
        400,
        "invalid_value",
        "messages",
    ),
    ("two answers", {"n": 2}, 400, "unsupported_parameter", "n"),
    ("a stop", {"stop": ["."]}, 400, "unsupported_parameter", "stop"),
    ("a format", {"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
    ("functions", {"functions": [{"name": "f"}]}, 400, "unsupported_parameter", "functions"),
]


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"), [bad[1:] for bad in BAD_COMPLETIONS], ids=[bad[0] for bad in BAD_COMPLETIONS]
)
def test_completions_are_refused_alike(
    anna: Person, engine: Engine, project_id: str, fields: Json, status: int, code: str, param: str | None
) -> None:
    body = {"model": f"chatrelay:{project_id}", "messages": [{"role": "user", "content": "x"}], **fields}
    said(anna.post(COMPLETIONS, body), status, code, param)
    assert submitted(engine) == 0


def test_what_only_tunes_an_answer_is_passed_over(anna: Person, project_id: str) -> None:
    tuning: Json = {
        "temperature": 0.2,
        "top_p": 1,
        "max_output_tokens": 10,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "instructions": None,
        "tools": [],
        "tool_choice": "auto",
        "store": True,
        "parallel_tool_calls": True,
        "include": [],
        "user": "u",
        "a field of tomorrow": {"x": 1},
    }
    assert ask(anna, project_id, **tuning)["status"] == "queued"


def test_bodies_have_the_limits_of_all_others(anna: Person, engine: Engine) -> None:
    for raw, media_type, status, code in (
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"input":"\\u0000"}', "application/json", 400, "invalid_json"),
        (b'{"input":"a","input":"b"}', "application/json", 400, "invalid_json"),
        (b" " * 1_100_000, "application/json", 413, "body_too_large"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
    ):
        said(anna.call("POST", RESPONSES, raw=raw, media_type=media_type), status, code)
    assert submitted(engine) == 0


def test_a_stranger_finds_no_project_of_somebody_elses(api: Api, anna: Person, engine: Engine, project_id: str) -> None:
    """The same 404 as for one that does not exist, to the byte."""
    ask(anna, project_id)
    stranger = api.person()
    answers = []
    for one in (project_id, str(uuid.uuid4())):
        made = [
            stranger.post(RESPONSES, {"input": "x", "conversation": one, **how})
            for how in ({}, {"background": True}, {"stream": True})
        ]
        made.append(
            stranger.post(COMPLETIONS, {"model": f"chatrelay:{one}", "messages": [{"role": "user", "content": "x"}]})
        )
        for response in made:
            said(response, 404, "not_found")
        answers.append([response.data for response in made])
    assert answers[0] == answers[1]
    assert submitted(engine) == 1
    assert project_id not in json.dumps(answered(stranger.get("/v1/openai/models"), 200))


def test_a_viewer_asks_for_nothing(api: Api, anna: Person, engine: Engine, project_id: str) -> None:
    viewer = api.person()
    answered(anna.call("PUT", f"/v1/projects/{project_id}/members/{viewer.name}", body={"role": "viewer"}), 200)
    said(viewer.post(RESPONSES, {"input": "x", "conversation": project_id}), 403, "forbidden")
    assert submitted(engine) == 0


def test_a_page_of_a_foreign_origin_may_not_call(anna: Person, project_id: str) -> None:
    body = {"input": "x", "conversation": project_id}
    refused(anna.post(RESPONSES, body, headers={"Origin": "https://evil.example"}), 403, "foreign_origin")


def test_a_users_message_is_no_response(anna: Person, project_id: str) -> None:
    pair = anna.pair(project_id)
    said(anna.get(f"{RESPONSES}/resp_{pair['userMessage']['id']}"), 404, "not_found")
    assert answered(anna.get(f"{RESPONSES}/{pair['assistantMessage']['id']}"), 200)["status"] == "queued"


def test_models_are_the_settings_and_ones_own_projects(api: Api, anna: Person, project_id: str) -> None:
    models = answered(anna.get("/v1/openai/models"), 200)
    assert [model["id"] for model in models["data"]] == ["chatrelay", *api.settings.models, f"chatrelay:{project_id}"]
    assert models["data"][-1]["owned_by"] == "A project"


# --- once -------------------------------------------------------------------------------------------------------------


def test_the_same_key_and_message_are_answered_by_the_same_response(
    anna: Person, engine: Engine, project_id: str
) -> None:
    body = {"input": "Hello", "conversation": project_id, "background": True}
    key = {"Idempotency-Key": "stainless-1"}
    first, second = (answered(anna.post(RESPONSES, body, headers=key), 200)["id"] for _ in range(2))
    assert first == second
    said(anna.post(RESPONSES, {**body, "input": "Other"}, headers=key), 422, "idempotency_key_reused")
    assert submitted(engine) == 1


def test_a_clients_own_repetition_is_no_second_message(api: Api, anna: Person, engine: Engine, project_id: str) -> None:
    """OpenAI's clients count their tries and send no key; what is no repetition is a message of its own."""
    body = {"input": "Hello", "conversation": project_id, "background": True}

    def send(retries: int, **changed: Any) -> str:
        headers = {"X-Stainless-Retry-Count": str(retries), "X-Stainless-Read-Timeout": "600"}
        made: str = answered(anna.post(RESPONSES, {**body, **changed}, headers=headers), 200)["id"]
        return made

    first = send(0)
    assert send(1) == send(2) == first
    second = send(0)
    assert second != first
    assert send(1) == second
    assert send(1, input="Other") not in (first, second)
    assert submitted(engine) == 3
    anna.pair(project_id, "Hello")
    boris = api.person()
    answered(anna.call("PUT", f"/v1/projects/{project_id}/members/{boris.name}", body={"role": "editor"}), 200)
    answered(boris.post(RESPONSES, body, headers={"X-Stainless-Retry-Count": "1"}), 200)
    assert submitted(engine) == 5, "somebody else's message is not mine"


def test_a_message_older_than_a_clients_tries_is_not_taken_for_its_own(
    anna: Person, engine: Engine, project_id: str
) -> None:
    first = ask(anna, project_id)["id"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE messages SET created_at = created_at - interval '12 minutes'"))
    body = {"input": "Hello", "conversation": project_id, "background": True}
    again = answered(anna.post(RESPONSES, body, headers={"X-Stainless-Retry-Count": "1"}), 200)["id"]
    assert again != first


def test_a_refusal_that_clients_would_repeat_says_that_they_need_not(api: Api) -> None:
    """Unless they have a key: a repetition without one would be taken for one of the message before."""
    busy = api.person(app=api.new_app(max_unfinished_per_user=1))
    project_id = busy.project()["id"]
    body = {"input": "Hello", "conversation": project_id, "background": True}
    answered(busy.post(RESPONSES, body), 200)
    plain = busy.post(RESPONSES, body)
    said(plain, 429, "too_many_unfinished")
    assert plain.headers["X-Should-Retry"] == "false"
    assert int(plain.headers["Retry-After"]) > 0
    keyed = busy.post(RESPONSES, body, headers={"Idempotency-Key": "k"})
    said(keyed, 429, "too_many_unfinished")
    assert "X-Should-Retry" not in keyed.headers


def test_who_has_too_many_readers_sends_nothing(api: Api, engine: Engine) -> None:
    """Refused before anything is stored; what needs no reader is served."""
    app = api.new_app(max_sockets_per_user=1)
    anna = api.person(app=app)
    project_id = anna.project()["id"]
    with serving(app) as served, asking(served, anna, "POST", RESPONSES, {"input": "x", "conversation": project_id}):
        eventually(lambda: app.extensions["chatrelay"].relay.readers == 1)
        for fields in ({}, {"stream": True}):
            said(anna.post(RESPONSES, {"input": "y", "conversation": project_id, **fields}), 429, "too_many_readers")
        body = {"model": f"chatrelay:{project_id}", "messages": [{"role": "user", "content": "y"}]}
        said(anna.post(COMPLETIONS, body), 429, "too_many_readers")
        assert submitted(engine) == 1
        ask(anna, project_id)


# --- late answers -----------------------------------------------------------------------------------------------------


def test_who_waits_for_an_answer_holds_no_thread_and_is_told_the_whole(api: Api, served: str, anna: Person) -> None:
    """Thirty at once, responses and completions."""
    relay = api.app.extensions["chatrelay"].relay
    asked = []
    for index in range(15):
        project_id = anna.project()["id"]
        asked.append(Request(served, anna, "POST", RESPONSES, {"input": "x", "conversation": project_id}))
        if index < 5:
            body = {"model": f"chatrelay:{anna.project()['id']}", "messages": [{"role": "user", "content": "x"}]}
            asked.append(Request(served, anna, "POST", COMPLETIONS, body))
    eventually(lambda: relay.readers == 20)
    eventually(lambda: not [one for one in threading.enumerate() if "process_request" in one.name])
    waiting = [item for item in all_messages(anna) if item["role"] == "assistant"]
    assert len(waiting) == 20
    for item in waiting:
        api.finish(item["id"], f"The answer of {item['id']}.")
    for request in asked:
        answer = request.answer()
        text_ = (
            answer["output"][0]["content"][0]["text"]
            if answer["object"] == "response"
            else answer["choices"][0]["message"]["content"]
        )
        message_id = answer["id"].removeprefix("resp_").removeprefix("chatcmpl-")
        assert text_ == f"The answer of {message_id}."
        assert answer.get("status", "completed") == "completed"
        request.close()
    eventually(lambda: relay.readers == 0)


def all_messages(person: Person) -> list[Json]:
    found: list[Json] = []
    for project in answered(person.get("/v1/projects?limit=100"), 200)["items"]:
        found += answered(person.get(f"/v1/projects/{project['id']}/messages"), 200)["items"]
    return found


@pytest.mark.parametrize("path", [RESPONSES, COMPLETIONS])
def test_a_server_that_stops_sends_who_waits_to_another_where_the_answer_is_the_same(
    api: Api, engine: Engine, anna: Person, project_id: str, path: str
) -> None:
    """503 and a repetition, which OpenAI's clients make by themselves."""
    app = api.new_app()
    body = {"model": f"chatrelay:{project_id}", "input": "x", "messages": [{"role": "user", "content": "x"}]}
    with serving(app) as served, asking(served, anna, "POST", path, body) as request:
        relay = app.extensions["chatrelay"].relay
        eventually(lambda: relay.readers == 1)
        relay.stop(5.0)
        assert request.answer(503)["error"]["code"] == "server_restarts"
        assert request.response.getheader("Retry-After") == "1"
    with serving(api.app) as served, asking(served, anna, "POST", path, body, X_Stainless_Retry_Count="1") as again:
        eventually(lambda: api.app.extensions["chatrelay"].relay.readers == 1)
        [answer] = [item for item in all_messages(anna) if item["role"] == "assistant"]
        api.finish(answer["id"], "The answer.")
        assert "The answer." in json.dumps(again.answer())
    assert submitted(engine) == 1


def test_who_loses_the_project_while_waiting_is_told_that_there_is_no_such_thing(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    member = api.person()
    path = f"/v1/projects/{project_id}/members/{member.name}"
    answered(anna.call("PUT", path, body={"role": "editor"}), 200)
    with asking(served, member, "POST", RESPONSES, {"input": "x", "conversation": project_id}) as request:
        eventually(lambda: api.app.extensions["chatrelay"].relay.readers == 1)
        answered(anna.delete(path), 204)
        assert request.answer(404)["error"]["code"] == "not_found"


def test_who_goes_away_while_waiting_leaves_nothing_behind(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    relay = api.app.extensions["chatrelay"].relay
    with asking(served, anna, "POST", RESPONSES, {"input": "x", "conversation": project_id}) as request:
        eventually(lambda: relay.readers == 1)
        request.close()
        eventually(lambda: relay.readers == 0)


def test_a_cancel_is_answered_once_the_response_has_ended(api: Api, served: str, anna: Person, project_id: str) -> None:
    """And is harmless a second time; with the text so far."""
    response = ask(anna, project_id)
    writer = Writer(api, pair_of(response))
    writer.say("As far ", "as this")
    with asking(served, anna, "POST", f"{RESPONSES}/{response['id']}/cancel") as request:
        eventually(lambda: api.app.extensions["chatrelay"].relay.readers == 1)
        writer.cancel()
        cancelled = request.answer()
    assert cancelled["status"] == "cancelled"
    assert cancelled["output"][0]["content"][0]["text"] == "As far as this"
    assert answered(anna.post(f"{RESPONSES}/{response['id']}/cancel"), 200) == cancelled
    assert answered(anna.get(f"{RESPONSES}/{response['id']}"), 200) == cancelled


def test_a_cancel_that_takes_its_time_is_answered_as_it_is_then(
    api: Api, served: str, anna: Person, project_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.protocols.openai.http.CANCEL_WAIT_S", 0.1)
    response = ask(anna, project_id)
    Writer(api, pair_of(response))
    with asking(served, anna, "POST", f"{RESPONSES}/{response['id']}/cancel") as request:
        assert request.answer()["status"] == "in_progress"


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [True, False], ids=["given away", "in its thread"])
def test_a_stream_is_resumed_behind_every_one_of_its_numbers(
    api: Api, served: str, anna: Person, project_id: str, taken: bool
) -> None:
    """While it is written and when it has ended, each time by a server that knows nothing of it."""
    response = ask(anna, project_id)
    writer = Writer(api, pair_of(response))
    writer.say("One ", "two ", "three.")
    path = f"{RESPONSES}/{response['id']}?stream=true"
    with asking(served, anna, "GET", path) as request:
        events = request.until("response.output_text.delta")
        told = [event["sequence_number"] for event in events]
        live = [Request(served, anna, "GET", f"{path}&starting_after={number}") for number in told]
        assert [one.response.status for one in live] == [200] * len(live)
        writer.finish()
        events += request.rest()
    for index, one in enumerate(live):
        assert one.rest() == events[index + 1 :]
        one.close()
    assert [event["type"] for event in events] == [
        *("response.created", "response.queued", "response.in_progress"),
        *("response.output_item.added", "response.content_part.added", "response.output_text.delta"),
        *("response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"),
    ]
    assert events[-1]["response"] == answered(anna.get(f"{RESPONSES}/{response['id']}"), 200)
    for index, event in enumerate(events):
        behind = f"{path}&starting_after={event['sequence_number']}"
        if taken:
            with asking(served, anna, "GET", behind) as request:
                rest = request.rest()
        else:
            rest = blocks(anna.get(behind).get_data(as_text=True))
        assert rest == events[index + 1 :]
    said(anna.get(f"{path}&starting_after={numbers.LARGEST + 1}"), 400, "invalid_value", "starting_after")
    said(anna.get(f"{path}&starting_after=x"), 400, "invalid_query", "starting_after")


def test_a_response_that_is_streamed_as_it_is_made_is_the_one_that_is_stored(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    body = {"input": "Hello", "conversation": project_id, "stream": True}
    with asking(served, anna, "POST", RESPONSES, body) as request:
        [created, _] = request.until("response.queued")
        writer = Writer(api, pair_of(created["response"]))
        writer.say("Hel", "lo.")
        writer.finish()
        told = request.rest()
    assert deltas(told) == "Hello."
    assert told[-1]["response"] == answered(anna.get(f"{RESPONSES}/{created['response']['id']}"), 200)


@pytest.mark.parametrize("same", [True, False], ids=["the same words", "other words"])
def test_who_comes_back_to_a_new_attempt_is_told_by_the_log_what_fits(
    api: Api, served: str, anna: Person, project_id: str, same: bool
) -> None:
    """The log has the attempt that was shown; in the end the client has the row's text in any case."""
    response = ask(anna, project_id)
    first = Writer(api, pair_of(response))
    first.say("It was a dark", " and st")
    path = f"{RESPONSES}/{response['id']}?stream=true"
    with asking(served, anna, "GET", path) as request:
        told = request.until("response.output_text.delta")
        while deltas(told) != "It was a dark and st":
            told += request.until("response.output_text.delta")
    first.begin_anew()
    first.say("It was a dark and stormy" if same else "It was a bright morning", " indeed.")
    row_text = first.finish()
    with asking(served, anna, "GET", f"{path}&starting_after={told[-1]['sequence_number']}") as request:
        rest = request.rest()
    assert deltas(rest) == ("ormy indeed." if same else "")
    [done] = [event for event in rest if event["type"] == "response.output_text.done"]
    assert done["text"] == row_text


@pytest.mark.parametrize("has_ended", [False, True])
def test_who_comes_back_after_redis_was_emptied_is_told_the_rest(
    api: Api, redis_client: redis.Redis, served: str, anna: Person, project_id: str, has_ended: bool
) -> None:
    """The worker goes on in an attempt that begins with all text so far: there is no log of what was told."""
    response = ask(anna, project_id)
    writer = Writer(api, pair_of(response))
    writer.say("One ", "two ")
    path = f"{RESPONSES}/{response['id']}?stream=true"
    with asking(served, anna, "GET", path) as request:
        told = request.until("response.output_text.delta")
        while deltas(told) != "One two ":
            told += request.until("response.output_text.delta")
    redis_client.flushdb()
    writer.begin_anew("restored")
    writer.say("three.")
    if has_ended:
        writer.finish()
    with asking(served, anna, "GET", f"{path}&starting_after={told[-1]['sequence_number']}") as request:
        rest = request.until("response.output_text.delta")
        if not has_ended:
            writer.finish()
        rest += request.rest()
    assert deltas(rest) == "three."
    assert rest[-1]["response"]["status"] == "completed"


def test_who_loses_the_project_while_reading_is_told_so_and_nothing_more(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    member = api.person()
    path = f"/v1/projects/{project_id}/members/{member.name}"
    answered(anna.call("PUT", path, body={"role": "viewer"}), 200)
    response = ask(anna, project_id)
    writer = Writer(api, pair_of(response))
    writer.say("Se")
    with asking(served, member, "GET", f"{RESPONSES}/{response['id']}?stream=true") as request:
        request.until("response.output_text.delta")
        answered(anna.delete(path), 204)
        [error] = request.rest()
    assert (error["type"], error["code"]) == ("error", "not_found")


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_stream_of_chunks_ends_with_its_reason_and_its_usage(
    api: Api, served: str, anna: Person, project_id: str, has_ended: bool
) -> None:
    """Also of an answer that has ended already, to who repeats the request."""
    body = {
        "model": f"chatrelay:{project_id}",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with asking(served, anna, "POST", COMPLETIONS, body, Idempotency_Key="k") as request:
        eventually(lambda: api.app.extensions["chatrelay"].relay.readers == 1)
        [answer] = [item for item in all_messages(anna) if item["role"] == "assistant"]
        writer = Writer(api, {"assistantMessage": answer})
        writer.say("Hel", "lo.")
        writer.finish()
        chunks = request.rest()
    if has_ended:
        with asking(served, anna, "POST", COMPLETIONS, body, Idempotency_Key="k") as request:
            raw = request.response.read().decode()
            assert raw.endswith("data: [DONE]\n\n")
            chunks = blocks(raw)
    assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-{answer['id']}"}
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Hello."
    assert choices[-1]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []


def test_a_completion_of_an_answer_that_failed_is_an_error_that_is_not_repeated(
    api: Api, served: str, anna: Person, project_id: str
) -> None:
    body = {"model": f"chatrelay:{project_id}", "messages": [{"role": "user", "content": "x"}]}
    with asking(served, anna, "POST", COMPLETIONS, body) as request:
        eventually(lambda: api.app.extensions["chatrelay"].relay.readers == 1)
        [answer] = [item for item in all_messages(anna) if item["role"] == "assistant"]
        answered(anna.post(f"/v1/messages/{answer['id']}/cancel"), 202)
        assert request.answer(502)["error"]["code"] == "cancelled"
        assert request.response.getheader("X-Should-Retry") == "false"
