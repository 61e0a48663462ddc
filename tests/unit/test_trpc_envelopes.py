"""tRPC's bytes: what is read of a client's, and what its own client reads of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import refusals
from api.protocols.trpc import envelopes
from api.protocols.trpc.envelopes import Envelope, Transformer
from api.protocols.trpc.errors import NOT_FOUND as NOT_FOUND_KIND
from api.protocols.trpc.errors import MalformedMessage, shape, shape_of
from shared.errors import NotFound, StoreUnavailable, TooManyUnfinished
from tests.strategies import json_values

PLAIN, SUPERJSON = Transformer(None), Transformer("superjson")


def parsed(text: str, transformer: Transformer = PLAIN) -> list[envelopes.Request]:
    return envelopes.parse(text, transformer, max_depth=64)


def asked(**changes: Any) -> dict[str, Any]:
    params = {"path": "chat.getMessages", "input": {"projectId": "p"}}
    return {"id": 1, "method": "query", "params": params} | changes


def test_one_message_and_an_array_of_them_are_read() -> None:
    first, second = asked(), asked(id="b", method="subscription", jsonrpc="2.0")
    second["params"] = {**second["params"], "lastEventId": "1-3"}
    stop = {"id": 1, "method": "subscription.stop"}
    [alone] = parsed(json.dumps(first))
    assert (alone.id, alone.kind, alone.path, alone.input) == (1, "query", "chat.getMessages", {"projectId": "p"})
    one, two, three = parsed(json.dumps([first, second, stop]))
    assert one == alone
    assert (two.id, two.kind, two.last_event_id, two.jsonrpc) == ("b", "subscription", "1-3", True)
    assert (three.id, three.kind) == (1, None)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"json": {"a": 1}}, {"a": 1}),
        ({"json": None, "meta": {"values": ["undefined"]}}, None),
        ({}, None),
        ("x", None),
    ],
)
def test_superjson_is_unwrapped(sent: Any, read: Any) -> None:
    message = asked(params={"path": "x", "input": sent})
    [request] = parsed(json.dumps(message), SUPERJSON)
    assert request.input == read


NO_MESSAGES = [
    "",
    "{",
    "null",
    "1",
    '"x"',
    "[1]",
    "{}",
    '{"id":1}',
    '{"id":true,"method":"query","params":{"path":"x"}}',
    '{"id":{},"method":"query","params":{"path":"x"}}',
    '{"id":1,"method":"shutdown","params":{"path":"x"}}',
    '{"id":1,"method":"query"}',
    '{"id":1,"method":"query","params":[]}',
    '{"id":1,"method":"query","params":{"path":1}}',
    '{"id":1,"method":"query","params":{"path":"x","lastEventId":1}}',
    '{"id":1,"jsonrpc":"1.0","method":"query","params":{"path":"x"}}',
    '{"id":1,"id":2,"method":"query","params":{"path":"x"}}',
    f'{{"id":"{"a" * 101}","method":"query","params":{{"path":"x"}}}}',
    '{"id":1,"method":"query","params":{"path":"x","input":"\\u0000"}}',
    "[" * 100,
]


@pytest.mark.parametrize("text", NO_MESSAGES)
def test_what_is_no_message_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parsed(text)


@given(st.text() | json_values.map(json.dumps) | st.lists(json_values).map(json.dumps))
def test_whatever_is_said_is_read_or_malformed(text: str) -> None:
    """Nothing else is raised, in either transformer."""
    for transformer in (PLAIN, SUPERJSON):
        try:
            parsed(text, transformer)
        except MalformedMessage:
            pass


@given(json_values)
def test_connection_parameters_give_a_token_or_none_or_are_malformed(value: Any) -> None:
    try:
        token = envelopes.token_of(value)
    except MalformedMessage:
        return
    assert token is None or value["token"] == token


def test_the_first_message_brings_the_token() -> None:
    assert envelopes.first_message('{"method":"connectionParams","data":{"token":"t"}}', max_depth=9) == "t"
    assert envelopes.first_message('{"method":"connectionParams","data":null}', max_depth=9) is None
    for text in ("[]", "x", '{"data":{"token":1}}', '{"data":[]}'):
        with pytest.raises(MalformedMessage):
            envelopes.first_message(text, max_depth=9)


@given(st.integers() | st.text(max_size=9), json_values)
def test_what_comes_back_is_addressed_to_its_request(request_id: int | str, value: Any) -> None:
    encoded = json.dumps(value).encode()
    envelope, wrapped = Envelope(request_id, PLAIN, jsonrpc=True), Envelope(request_id, SUPERJSON)
    head = {"id": request_id, "jsonrpc": "2.0"}
    assert json.loads(envelope.data(encoded)) == {**head, "result": {"type": "data", "data": value}}
    assert json.loads(wrapped.data(encoded)) == {"id": request_id, "result": {"type": "data", "data": {"json": value}}}
    assert json.loads(envelope.started) == {**head, "result": {"type": "started"}}
    assert json.loads(envelope.stopped) == {**head, "result": {"type": "stopped"}}
    error = {"message": "m", "code": -32004, "data": {"code": "NOT_FOUND", "httpStatus": 404, "path": "p"}}
    assert json.loads(wrapped.error(shape(NOT_FOUND_KIND, "m", "p"))) == {"id": request_id, "error": {"json": error}}


def test_a_streamed_batch_promises_each_answer_and_keeps_it() -> None:
    """The consumer of @trpc/server reads: a head of promises, then lines of number, status and value."""
    head = json.loads(envelopes.lines_head(2, PLAIN))
    assert head == {"0": [[0], [None, 0, 0]], "1": [[0], [None, 0, 1]]}
    assert json.loads(envelopes.line(1, b'"x"', PLAIN)) == [1, 0, [[{"result": {"data": "x"}}]]]
    refused = json.loads(envelopes.line(0, shape(NOT_FOUND_KIND, "m"), SUPERJSON))
    assert refused["json"][2][0][0]["error"]["code"] == -32004


@pytest.mark.parametrize(
    ("error", "code", "number", "status"),
    [
        (refusals.Unauthorized(), "UNAUTHORIZED", -32001, 401),
        (NotFound(), "NOT_FOUND", -32004, 404),
        (TooManyUnfinished(), "TOO_MANY_REQUESTS", -32029, 429),
        (StoreUnavailable(), "SERVICE_UNAVAILABLE", -32603, 503),
        (refusals.InvalidFields([("/message", "is required")]), "BAD_REQUEST", -32600, 400),
        (refusals.BodyTooLarge(), "PAYLOAD_TOO_LARGE", -32013, 413),
        (MalformedMessage("Not an object"), "PARSE_ERROR", -32700, 400),
        (ValueError("a password"), "INTERNAL_SERVER_ERROR", -32603, 500),
    ],
)
def test_every_error_has_its_shape(error: Exception, code: str, number: int, status: int) -> None:
    """With tRPC's names and numbers; of what is not ours, nothing is told."""
    made = shape_of(error, "chat.x")
    assert (made.code, made.data.code, made.data.http_status, made.data.path) == (number, code, status, "chat.x")
    assert made.message
    assert "password" not in made.message


def test_the_status_of_a_batch_is_its_calls_or_says_that_they_differ() -> None:
    refused = shape(NOT_FOUND_KIND, "m")
    assert envelopes.status_of([b"1", b"2"]) == 200
    assert envelopes.status_of([refused, refused]) == 404
    assert envelopes.status_of([b"1", refused]) == 207
