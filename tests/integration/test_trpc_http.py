"""tRPC over HTTP by hand: refusals in its own words, batches, and event streams with every way to resume them."""

from __future__ import annotations

import http.client
import json
import urllib.parse
import uuid
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.api_parts import Api, Person, answered, refused
from tests.integration.trpc_parts import Json, Writer, blocks, stream_address


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


def shape(response: TestResponse, status: int, code: str) -> Json:
    """The error of an answer that is one refusal as a whole."""
    assert response.status_code == status, response.data
    error: Json = json.loads(response.data)["error"]
    assert error["data"]["code"] == code, error
    assert error["data"]["httpStatus"] == status
    return error


def get(person: Person, path: str, given: Any = ..., **more: str) -> TestResponse:
    query = {**({} if given is ... else {"input": json.dumps(given)}), **more}
    return person.get(f"/trpc/{path}?{urllib.parse.urlencode(query)}")


def refusal_in(response: TestResponse) -> Json:
    """The error of a subscription, which comes inside of its stream."""
    assert response.status_code == 200
    assert response.mimetype == "text/event-stream"
    [connected, error] = blocks(response.get_data(as_text=True))
    assert connected["event"] == "connected"
    assert error["event"] == "serialized-error"
    told: Json = json.loads(error["data"])
    return told


# --- whose (tests/integration/test_api_access.py has who may call what) -------------------------------------------


def test_a_message_is_followed_in_its_own_project_alone(anna: Person) -> None:
    pair, other = anna.pair(anna.project()["id"]), anna.project()["id"]
    mixed = {"assistantMessage": {**pair["assistantMessage"], "projectId": other}}
    assert refusal_in(anna.get(stream_address(mixed)))["data"]["code"] == "NOT_FOUND"


def test_a_page_of_a_foreign_origin_may_not_call(anna: Person) -> None:
    for method, path in (("GET", "chat.getMessages"), ("POST", "chat.initiateChat"), ("GET", "chat.streamResponse")):
        response = anna.call(method, f"/trpc/{path}", headers={"Origin": "https://evil.example"})
        refused(response, 403, "foreign_origin")


# --- what is wrong ----------------------------------------------------------------------------------------------


def test_requests_that_are_wrong_as_a_whole_are_refused_in_trpcs_words(api: Api, anna: Person) -> None:
    project = {"projectId": anna.project()["id"]}
    shape(anna.post("/trpc/chat.nothing", project), 404, "NOT_FOUND")
    shape(anna.call("POST", "/trpc/chat.initiateChat", raw=b"{"), 400, "BAD_REQUEST")
    shape(
        anna.call("POST", "/trpc/chat.initiateChat", raw=b"{}", media_type="text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE"
    )
    shape(anna.call("POST", "/trpc/chat.initiateChat", raw=b" " * 1_100_000), 413, "PAYLOAD_TOO_LARGE")
    shape(anna.post("/trpc/chat.initiateChat", {**project, "message": "x" * 32_001}), 400, "BAD_REQUEST")
    shape(anna.post("/trpc/chat.initiateChat", {**project, "message": ""}), 400, "BAD_REQUEST")
    shape(anna.post("/trpc/chat.initiateChat", {**project, "message": 5}), 400, "BAD_REQUEST")
    shape(anna.post("/trpc/chat.initiateChat,chat.getMessages?batch=1", {}), 400, "BAD_REQUEST")
    shape(anna.post("/trpc/chat.initiateChat?batch=1", [project]), 400, "BAD_REQUEST")
    shape(anna.get("/trpc/" + ",".join(["chat.getMessages"] * 51) + "?batch=1"), 400, "BAD_REQUEST")
    lines = anna.get("/trpc/chat.getMessages", headers={"Trpc-Accept": "application/jsonl"})
    shape(lines, 400, "BAD_REQUEST")
    shape(get(api.nobody(), "chat.getMessages", project, connectionParams="[1]"), 400, "PARSE_ERROR")
    allowed = anna.get("/trpc/chat.initiateChat")
    shape(allowed, 405, "METHOD_NOT_SUPPORTED")
    assert allowed.headers["Allow"] == "POST"
    shape(anna.post("/trpc/chat.getMessages", project), 405, "METHOD_NOT_SUPPORTED")
    assert anna.call("HEAD", "/trpc/chat.getMessages").status_code == 204


def test_a_batch_is_answered_call_by_call(anna: Person) -> None:
    """207 where they differ; a subscription has no place in one."""
    project = {"projectId": anna.project()["id"]}
    given = json.dumps({"0": project, "1": {"projectId": str(uuid.uuid4())}})
    mixed = anna.get(f"/trpc/chat.getMessages,chat.getMessages?batch=1&input={urllib.parse.quote(given)}")
    first, second = answered(mixed, 207)
    assert first == {"result": {"data": {"items": [], "nextCursor": None}}}
    assert second["error"]["data"] == {"code": "NOT_FOUND", "httpStatus": 404, "path": "chat.getMessages"}
    [refused_one] = answered(anna.get("/trpc/chat.streamResponse?batch=1"), 400)
    assert refused_one["error"]["data"]["code"] == "BAD_REQUEST"


def test_who_has_too_much_unfinished_is_told_when_to_come_back(api: Api) -> None:
    busy = api.person(app=api.new_app(max_unfinished_per_user=1))
    given = {"projectId": busy.project()["id"], "message": "x"}
    answered(busy.post("/trpc/chat.initiateChat", given), 200)
    refused_one = busy.post("/trpc/chat.initiateChat", given)
    shape(refused_one, 429, "TOO_MANY_REQUESTS")
    assert int(refused_one.headers["Retry-After"]) > 0


def test_a_token_in_the_connection_parameters_is_one(api: Api, anna: Person) -> None:
    params = json.dumps({"token": anna.token})
    answered(get(api.nobody(), "chat.getMessages", {"projectId": anna.project()["id"]}, connectionParams=params), 200)


# --- event streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [True, False], ids=["given away", "in its thread"])
@pytest.mark.parametrize("resume", ["header", "query", "input", "superjson"])
def test_a_stream_is_resumed_in_every_way_and_returns(
    api: Api, served: str, anna: Person, resume: str, taken: bool
) -> None:
    """After the last event that the client has; one that has them all is told to return at once."""
    pair = anna.pair(anna.project()["id"])
    writer = Writer(api, pair)
    writer.say("One ", "two ", "three.")
    writer.finish()
    for after, rest in (("1-1", "two three."), ("1-5", "")):
        headers = {"Authorization": f"Bearer {anna.token}"}
        path = stream_address(pair)
        if resume == "header":
            headers["Last-Event-ID"] = after
        elif resume == "query":
            path += f"&lastEventId={after}"
        else:
            path = stream_address(pair, lastEventId=after)
        superjson = resume == "superjson"
        if superjson:
            given = {"json": {**json.loads(urllib.parse.unquote(path.partition("input=")[2]))}}
            path = path.partition("input=")[0] + "input=" + urllib.parse.quote(json.dumps(given))
        body = stream_body(api, served if taken and not superjson else None, path, headers, superjson=superjson)
        told = blocks(body)
        assert told[0] == {"event": "connected", "data": '{"reconnectAfterInactivityMs":60000}'}
        assert told[-1]["event"] == "return"
        events = [json.loads(block["data"]) for block in told[1:-1]]
        events = [event["json"] for event in events] if superjson else events
        assert "".join(event["content"] for event in events if event["type"] == "delta") == rest
        assert [event["id"] for event in events] == [block["id"] for block in told[1:-1]]


def stream_body(api: Api, served: str | None, path: str, headers: dict[str, str], *, superjson: bool) -> str:
    """The whole stream, from a server that gives its connections away or from one that does not."""
    if served is None:
        app = api.new_app(trpc_transformer="superjson") if superjson else api.app
        return app.test_client().get(path, headers=headers, buffered=True).get_data(as_text=True)
    connection = http.client.HTTPConnection(served, timeout=30)
    connection.request("GET", path, headers=headers)
    with connection.getresponse() as response:
        body = response.read().decode()
    connection.close()
    return body


def test_a_last_event_id_that_is_none_is_refused(anna: Person) -> None:
    pair = anna.pair(anna.project()["id"])
    assert refusal_in(anna.get(stream_address(pair, lastEventId="x")))["code"] == -32600
