"""Documents, patches and schemas that are meant to harm: refused in time, and nothing is changed, fetched or told."""

from __future__ import annotations

import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Engine
from websockets.sync.client import connect

from api.protocols.ai_sdk.socket import NO_FRAME
from tests.integration.api_parts import JSON_PATCH, Api, Person, answered, everything_stored, refused
from tests.integration.trpc_parts import line
from tests.integration.worker_parts import Bench
from worker.turn import run_turn

CANARY: Final = "canary-7f3a"
DOCUMENT: Final[dict[str, Any]] = {
    "list": [1, 2, {CANARY: CANARY}],
    "deep": {"a": {"b": {"c": CANARY}}},
    "text": "x" * 40_000,
    "a/b": 1,
    "m~n": 2,
}
NOT_ACCEPTED: Final[dict[str, str]] = {
    "a key twice": '{"a": 1, "a": 2}',
    "a key twice, once escaped": '{"a": 1, "\\u0061": 2}',
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": -Infinity}',
    "a number that overflows": '{"a": 1e999}',
    "an integer beyond 64 bits": '{"a": 9223372036854775808}',
    "an integer of many digits": '{"a": %s}' % ("9" * 5000),
    "NUL": '{"a": "\\u0000"}',
    "NUL in a name": '{"\\u0000": 1}',
    "half a pair": '{"a": "\\ud83d"}',
    "two halves that are none": '{"a": "\\ude00\\ud83d"}',
    "depth": '{"a": %s}' % ("[" * 200 + "]" * 200),
    "depth without an end": '{"a": ' * 5000,
    "two values": '{"a": 1} {"a": 2}',
    "a byte order mark": '\ufeff{"a": 1}',
    "a comment": '{"a": 1} // x',
}
"""JSON that some readers take and others do not, or that nothing could hold."""


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


# --- every entry --------------------------------------------------------------------------------------------------


def test_every_door_reads_json_in_the_same_way(api: Api, served: str, anna: Person, engine: Engine) -> None:
    """HTTP bodies, tRPC's inputs in body and address and on its socket, the AI SDK's frames, and the frames of our own."""
    pair = anna.pair(anna.project()["id"])
    project_id, message_id = pair["assistantMessage"]["projectId"], pair["assistantMessage"]["id"]
    header = {"Authorization": f"Bearer {anna.token}"}
    before = everything_stored(engine)
    for raw in NOT_ACCEPTED.values():
        body = raw.encode()
        for path in (
            "/v1/projects",
            f"/v1/projects/{project_id}/messages",
            f"/v1/ai/chat/{project_id}",
            "/v1/openai/responses",
            "/v1/openai/chat/completions",
            "/v1/tickets",
        ):
            response = anna.post(path, raw=body)
            assert (response.status_code, b"invalid_json" in response.data) == (400, True), (
                path,
                raw[:40],
                response.data,
            )
        refused(anna.patch(f"/v1/projects/{project_id}/document", raw=body, media_type=JSON_PATCH), 400, "invalid_json")
        for response in (
            anna.post("/trpc/chat.initiateChat", raw=body),
            anna.get(f"/trpc/chat.getMessages?input={urllib.parse.quote(raw[:4000])}"),
        ):
            assert response.status_code == 400, (raw[:40], response.data)
            assert json.loads(response.data)["error"]["data"]["code"] in ("BAD_REQUEST", "PARSE_ERROR")
    for raw in NOT_ACCEPTED.values():
        with line(served, anna) as trpc:
            trpc.send(raw)
            assert trpc.hear()["error"]["data"]["code"] == "PARSE_ERROR"
        with connect(f"ws://{served}/v1/ai/chat/{project_id}/socket", additional_headers=header, proxy=None) as chat:
            chat.send(raw)
            told = json.loads(chat.recv(timeout=30))
            assert "error" in json.dumps(told)
            assert NO_FRAME not in json.dumps(told)
        own = raw.replace('"a": 1', '"type": "cancel"')
        with connect(f"ws://{served}/v1/messages/{message_id}/socket", additional_headers=header, proxy=None) as ours:
            ours.send(own)
            while (told := json.loads(ours.recv(timeout=30)))["type"] != "error":
                pass
            assert told["code"] == "bad_frame"
    assert everything_stored(engine) == before


# --- patches ------------------------------------------------------------------------------------------------------


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


TRAPS: Final[dict[str, list[Any]]] = {
    "a bomb of copies": [{"op": "copy", "from": "", "path": f"/x{number}"} for number in range(40)],
    "copies that overwrite one another": [{"op": "copy", "from": "/text", "path": "/b"}] * 60,
    "depth by copies": [{"op": "copy", "from": "/deep", "path": "/deep/a/b/deep"}] * 30,
    "depth by one value": [{"op": "add", "path": "/deep/a/b/c", "value": _nested(62)}],
    "depth by moves": [
        {"op": "add", "path": "/n", "value": _nested(55)},
        {"op": "move", "from": "/n", "path": "/deep/a/b/n"},
        {"op": "move", "from": "/deep", "path": "/list/2/deep"},
        {"op": "move", "from": "/list", "path": "/m~0n2"},
        {"op": "copy", "from": "/m~0n2", "path": "/m~0n2/2/deep/a/again"},
    ],
    "a text for the root": [{"op": "replace", "path": "", "value": "x"}],
    "null for the root": [{"op": "add", "path": "", "value": None}],
    "a value of the document for the root": [{"op": "copy", "from": "/text", "path": ""}],
    "no root": [{"op": "remove", "path": ""}],
    "an index that is huge": [{"op": "add", "path": "/list/99999999999999999999", "value": 1}],
    "an index of many digits": [{"op": "add", "path": f"/list/{'9' * 5000}", "value": 1}],
    "an index past the end": [{"op": "add", "path": "/list/4", "value": 1}],
    "an index with zeros": [{"op": "replace", "path": "/list/00", "value": 1}],
    "an index below zero": [{"op": "add", "path": "/list/-1", "value": 1}],
    "an index in other digits": [{"op": "replace", "path": "/list/١", "value": 1}],
    "an index with a line break": [{"op": "replace", "path": "/list/1\n", "value": 1}],
    "an index that is a fraction": [{"op": "replace", "path": "/list/1.0", "value": 1}],
    "- where something must be": [{"op": "replace", "path": "/list/-", "value": 1}],
    "- as a source": [{"op": "copy", "from": "/list/-", "path": "/x"}],
    "beyond -": [{"op": "add", "path": "/list/-/x", "value": 1}],
    "an escape that is none": [{"op": "add", "path": "/m~2n", "value": 1}],
    "a tilde at the end": [{"op": "add", "path": "/m~", "value": 1}],
    "escapes in the wrong order": [{"op": "test", "path": "/a~01b", "value": 1}],
    "a test of something huge": [{"op": "test", "path": "/text", "value": "y" * 100_000}],
    "a test of something deep": [{"op": "test", "path": "/deep", "value": _nested(64)}],
    "a test of true for 1": [{"op": "test", "path": "/list/0", "value": True}],
    "a move into its own child": [{"op": "move", "from": "/deep", "path": "/deep/a/x"}],
    "a move of everything": [{"op": "move", "from": "", "path": "/x"}],
    "more segments than there may be": [{"op": "add", "path": "/a" * 17, "value": 1}],
    "a name of Python's": [{"op": "replace", "path": "/__class__/__init__", "value": 1}],
    "an operation that there is not": [{"op": "append", "path": "/list", "value": 1}],
    "an operation that is no object": [None],
}


def test_a_patch_that_is_a_trap_is_refused_and_changes_nothing(anna: Person) -> None:
    """Over HTTP: 409 with the operation's index; what the document holds is said in no answer."""
    made = anna.project(document=DOCUMENT)
    path = f"/v1/projects/{made['id']}"
    first = {"op": "add", "path": "/first", "value": 1}
    for name, operations in TRAPS.items():
        response = anna.patch(f"{path}/document", [first, *operations], media_type=JSON_PATCH)
        assert response.status_code in (400, 409), (name, response.data)
        problem = json.loads(response.data)
        assert response.status_code == 400 or problem["index"] >= 1, name
        assert CANARY not in response.get_data(as_text=True), name
        assert len(response.data) < 1000, name
    now = answered(anna.get(path), 200)
    assert (now["document"], now["version"]) == (DOCUMENT, 1)
    assert answered(anna.get(f"{path}/versions"), 200)["items"] == []


def test_a_trap_that_the_model_sets_is_told_to_it_and_changes_nothing(bench: Bench) -> None:
    """The same patches, and JSON that is not accepted, as tool calls: each fails by itself, and the answer goes on."""
    arguments = [json.dumps({"operations": operations}) for operations in TRAPS.values()]
    arguments += [raw.replace('"a": 1', '"operations": []') for raw in NOT_ACCEPTED.values()]
    calls = [{"tool": {"name": "applyJsonPatch", "arguments": one}} for one in arguments]
    in_rounds = [calls[at : at + 12] for at in range(0, len(calls), 12)]
    bench.model.on("go", {"rounds": [*({"steps": steps} for steps in in_rounds), {"steps": [{"text": "I tried."}]}]})
    project_id: UUID = bench.new_project(document=DOCUMENT)
    message_id = bench.ask(project_id=project_id)
    run_turn(bench.workshop(max_rounds=len(in_rounds)), message_id)
    row, _ = bench.check(message_id)
    assert (row.status, row.content, row.attempt) == ("success", "I tried.", 1)
    assert [call.state for call in row.tool_calls] == ["failed"] * len(arguments)
    assert all(len(call.error or "") < 1000 for call in row.tool_calls)
    project = bench.store.project(bench.anna, project_id)
    assert (project.document, project.version) == (DOCUMENT, 1)


# --- schemas ------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something on this machine that a schema could make the server ask."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def _was_asked(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_no_schema_makes_the_server_ask_anybody(anna: Person, listener: socket.socket) -> None:
    """Whatever refers to another address is refused, or does not matter: the server at that address hears nothing."""
    there = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
    schemas: list[dict[str, Any]] = [
        {"$ref": there},
        {"$ref": f"{there}#/$defs/x"},
        {"$dynamicRef": there},
        {"$dynamicRef": f"{there}#anchor"},
        {"$recursiveRef": there},
        {"$schema": there},
        {"$schema": there, "$ref": "#/$defs/x", "$defs": {"x": {}}},
        {"$id": there, "$ref": "other.json"},
        {"$id": there, "type": "object"},
        {"$defs": {"unused": {"$ref": there}}},
        {"properties": {"a": {"$ref": there}}},
        {"allOf": [{"$id": there, "$defs": {"x": {"$ref": "y.json"}}}]},
        {"if": {"not": {"items": {"$ref": there}}}},
        {"$vocabulary": {there: True}},
        {"propertyNames": {"$ref": there}, "dependentSchemas": {"a": {"$ref": there}}},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "urn:uuid:0198c2a4-6f3e-7c11-9b1a-5d0c3c1f2e77"},
        {"$ref": f"//127.0.0.1:{listener.getsockname()[1]}/x"},
    ]
    project = anna.project()
    for schema in schemas:
        made = anna.post("/v1/projects", {"name": "x", "schema": schema})
        changed = anna.patch(f"/v1/projects/{project['id']}", {"schema": schema})
        assert (made.status_code, changed.status_code) in ((201, 200), (422, 422)), (schema, made.data, changed.data)
        patch = [{"op": "add", "path": "/a", "value": {"b": [1]}}]
        patched = anna.patch(f"/v1/projects/{project['id']}/document", patch, media_type=JSON_PATCH)
        assert patched.status_code in (200, 422), (schema, patched.data)
    assert not _was_asked(listener)
    with socket.create_connection(listener.getsockname()):
        assert _was_asked(listener), "the listener hears who asks"


def _within(keyword: str, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {keyword: [schema] if keyword in ("allOf", "anyOf", "oneOf") else schema}
    return schema


BOMBS: Final[dict[str, dict[str, Any]]] = {
    "a reference to itself": {"$ref": "#"},
    "itself in itself": {"allOf": [{"$ref": "#"}], "anyOf": [{"$ref": "#"}]},
    "a ring": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "a dynamic ring": {"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]},
    "a tree": {"additionalProperties": {"$ref": "#"}, "items": {"$ref": "#"}, "unevaluatedProperties": False},
    "a pattern that others backtrack on": {"properties": {"text": {"pattern": "^(x+x+)+y$"}}},
    "patterns for names": {"patternProperties": {f"^(a|b|.){{1,40}}{number}$": {} for number in range(200)}},
    "a pattern of patterns": {"patternProperties": {".*": {"patternProperties": {".*": {"$ref": "#"}}}}},
    "a large enum": {"properties": {"text": {"enum": [f"value {number}" for number in range(30_000)]}}},
    "many names": {"properties": {f"p{number}": {"minLength": 1} for number in range(20_000)}},
    "deep alternatives": _within("allOf", 30),
    "deep negations": _within("not", 60),
    "deep conditions": _within("if", 60),
    "numbers that overflow": {"additionalProperties": {"multipleOf": 5e-324, "minLength": 1e300, "maximum": -1e308}},
    "unevaluated": {
        "unevaluatedProperties": False,
        "allOf": [{"properties": {f"p{number}": {}}} for number in range(2000)],
    },
    "a name from another script": {"$anchor": "\u202eanchor"},
}


def test_a_schema_that_is_a_bomb_is_refused_or_used_and_the_next_request_is_served(anna: Person) -> None:
    """A ring, a pattern, a list, a depth: no fault of ours, and no answer that quotes much."""
    for name, schema in BOMBS.items():
        made = anna.post("/v1/projects", {"name": "x", "document": DOCUMENT, "schema": schema})
        assert made.status_code in (201, 422), (name, made.data)
        if made.status_code == 201:
            patch = [{"op": "add", "path": "/list/-", "value": {"p": [[[]]]}}]
            path = f"/v1/projects/{json.loads(made.data)['id']}/document"
            patched = anna.patch(path, patch, media_type=JSON_PATCH)
            assert patched.status_code in (200, 422), (name, patched.data)
            assert patched.status_code == 200 or len(patched.data) < 10_000, name
        else:
            assert len(made.data) < 10_000, name
        answered(anna.get("/v1/me"), 200)


def test_a_name_in_a_document_is_told_as_a_pointer_and_never_at_any_length(anna: Person) -> None:
    """RFC 6901: a slash and a tilde are escaped. What is too long to tell is told by the place around it."""
    schema = {
        "properties": {"a/b": {"maximum": 0}, "m~n": {"maximum": 0}, "o": {"additionalProperties": {"type": "null"}}}
    }
    document = {"a/b": 1, "m~n": 2, "o": {"k" * 100_000: 1}}
    problem = refused(
        anna.post("/v1/projects", {"name": "x", "document": document, "schema": schema}), 422, "schema_violation"
    )
    assert [place["path"] for place in problem["errors"]] == ["/a~1b", "/m~0n", "/o"]
