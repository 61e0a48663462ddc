"""Documents, limits and access through real processes: what is refused changes nothing and says nothing again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.people import Person
from tests.readers import SocketReader
from tests.stack import Stack

CANARY: Final = "zinnober-canary-9c2e"
JSON: Final = {"Content-Type": "application/json"}
PATCH: Final = {"Content-Type": "application/json-patch+json"}
UPGRADE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Bad(NamedTuple):
    """A request to `path` (with ``{project}`` and ``{message}`` in it) and what it is answered."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]
    status: int
    code: str


def _nested(depth: int) -> bytes:
    return b'{"name":"' + CANARY.encode() + b'","document":' + b"[" * depth + b"]" * depth + b"}"


def _operation(**fields: Any) -> bytes:
    return json.dumps([fields]).encode()


_MESSAGES: Final = "/v1/projects/{project}/messages"
_DOCUMENT: Final = "/v1/projects/{project}/document"
_C: Final = CANARY.encode()

BAD: Final = {
    "no JSON": Bad("POST", _MESSAGES, b'{"content": ' + _C, JSON, 400, "invalid_json"),
    "no body": Bad("POST", _MESSAGES, b"", JSON, 400, "invalid_json"),
    "no UTF-8": Bad("POST", _MESSAGES, b'{"content":"' + _C + b'\xff"}', JSON, 400, "invalid_json"),
    "NUL": Bad("POST", _MESSAGES, b'{"content":"' + _C + b'\\u0000"}', JSON, 400, "invalid_json"),
    "a lone surrogate": Bad("POST", _MESSAGES, b'{"content":"' + _C + b'\\ud800"}', JSON, 400, "invalid_json"),
    "a key twice": Bad("POST", _MESSAGES, b'{"content":"a","content":"' + _C + b'"}', JSON, 400, "invalid_json"),
    "NaN": Bad("POST", "/v1/projects", b'{"name":"' + _C + b'","document":[NaN]}', JSON, 400, "invalid_json"),
    "too deep": Bad("POST", "/v1/projects", _nested(65), JSON, 400, "invalid_json"),
    "far too deep": Bad("POST", "/v1/projects", _nested(100_000), JSON, 400, "invalid_json"),
    "too large": Bad("POST", _MESSAGES, b'{"content":"' + _C * 60_000 + b'"}', JSON, 413, "body_too_large"),
    "another media type": Bad("POST", _MESSAGES, _C, {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    "a list for an object": Bad("POST", _MESSAGES, b'["' + _C + b'"]', JSON, 422, "invalid_fields"),
    "a field unknown": Bad("POST", _MESSAGES, b'{"content":"a","' + _C + b'":1}', JSON, 422, "invalid_fields"),
    "a field missing": Bad("POST", _MESSAGES, b'{"model":"' + _C + b'"}', JSON, 422, "invalid_fields"),
    "a field's type": Bad("POST", _MESSAGES, b'{"content":["' + _C + b'"]}', JSON, 422, "invalid_fields"),
    "an empty content": Bad("POST", _MESSAGES, b'{"content":""}', JSON, 422, "invalid_fields"),
    "a content too long": Bad("POST", _MESSAGES, b'{"content":"' + _C * 1_700 + b'"}', JSON, 422, "invalid_fields"),
    "a model unknown": Bad("POST", _MESSAGES, b'{"content":"a","model":"' + _C + b'"}', JSON, 422, "invalid_fields"),
    "onBusy unknown": Bad("POST", _MESSAGES, b'{"content":"a","onBusy":"' + _C + b'"}', JSON, 422, "invalid_fields"),
    "a bad idempotency key": Bad(
        "POST", _MESSAGES, b'{"content":"a"}', {**JSON, "Idempotency-Key": f"{CANARY} {CANARY}"}, 400, "invalid_header"
    ),
    "a name too long": Bad("POST", "/v1/projects", b'{"name":"' + _C * 20 + b'"}', JSON, 422, "invalid_fields"),
    "a document no container": Bad(
        "POST", "/v1/projects", b'{"name":"a","document":"' + _C + b'"}', JSON, 422, "invalid_fields"
    ),
    "a schema that is none": Bad(
        "POST", "/v1/projects", b'{"name":"a","schema":{"type":"' + _C + b'"}}', JSON, 422, "invalid_schema"
    ),
    "a patch that is none": Bad("PATCH", _DOCUMENT, b'{"op":"' + _C + b'"}', PATCH, 422, "invalid_fields"),
    "a patch as JSON": Bad("PATCH", _DOCUMENT, b"[]", JSON, 415, "unsupported_media_type"),
    "an operation unknown": Bad("PATCH", _DOCUMENT, _operation(op=CANARY, path="/a"), PATCH, 409, "patch_rejected"),
    "a path that is not there": Bad(
        "PATCH", _DOCUMENT, _operation(op="remove", path=f"/{CANARY}"), PATCH, 409, "patch_rejected"
    ),
    "a test that fails": Bad(
        "PATCH", _DOCUMENT, _operation(op="test", path="/secret", value=CANARY), PATCH, 409, "patch_rejected"
    ),
    "operations without end": Bad(
        "PATCH",
        _DOCUMENT,
        json.dumps([{"op": "add", "path": "/n", "value": CANARY}] * 1001).encode(),
        PATCH,
        409,
        "patch_rejected",
    ),
    "a document too large": Bad(
        "PATCH", _DOCUMENT, _operation(op="add", path="/n", value=CANARY * 14_000), PATCH, 409, "patch_rejected"
    ),
    "a version gone by": Bad(
        "PATCH",
        _DOCUMENT,
        _operation(op="add", path="/n", value=CANARY),
        {**PATCH, "If-Match": '"7"'},
        412,
        "version_mismatch",
    ),
    "an If-Match that is none": Bad(
        "PATCH",
        _DOCUMENT,
        _operation(op="add", path="/n", value=CANARY),
        {**PATCH, "If-Match": f'W/"{CANARY}"'},
        400,
        "invalid_header",
    ),
    "a schema broken": Bad(
        "PATCH", _DOCUMENT, _operation(op="add", path="/n", value=CANARY), PATCH, 422, "schema_violation"
    ),
    "a query": Bad("GET", f"{_MESSAGES}?limit={CANARY}", b"", {}, 400, "invalid_query"),
    "an event id that is none": Bad(
        "GET", f"/v1/messages/{{message}}/events?after={CANARY}", b"", {}, 400, "invalid_query"
    ),
    "a Last-Event-ID that is none": Bad(
        "GET", "/v1/messages/{message}/events", b"", {"Last-Event-ID": CANARY}, 400, "invalid_header"
    ),
    "no upgrade": Bad("GET", "/v1/messages/{message}/socket", b"", {}, 426, "upgrade_required"),
    "a foreign origin": Bad(
        "GET",
        "/v1/messages/{message}/socket",
        b"",
        {**UPGRADE, "Origin": f"https://{CANARY}.example"},
        403,
        "foreign_origin",
    ),
    "an id that is none": Bad("GET", f"/v1/messages/{CANARY}", b"", {}, 404, "not_found"),
    "an address that is none": Bad("GET", f"/v1/{CANARY}", b"", {}, 404, "not_found"),
    "a method that is none": Bad("PUT", _MESSAGES, _C, JSON, 405, "method_not_allowed"),
}


def _is_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert {"type", "title", "detail"} <= set(problem)
    assert "Traceback" not in answer.text


@pytest.fixture
def used_project(shared_stack: Stack, person: Person) -> tuple[str, str]:
    """A project with a strict schema and a finished message in it."""
    shared_stack.model.say("fine", {"text": "Fine."})
    schema = {"type": "object", "properties": {"secret": {"type": "string"}, "n": {"type": "integer"}}}
    project_id = person.project(document={"secret": "of the document"}, schema=schema)
    return project_id, str(person.answer_to(project_id, "fine")["id"])


def _everything(stack: Stack, person: Person) -> object:
    """All that a refused request might have changed."""
    projects = person.client.get("/v1/projects").json()["items"]
    return [
        (
            person.document(project["id"]),
            person.versions(project["id"]),
            person.client.get(f"/v1/projects/{project['id']}/messages").json(),
        )
        for project in projects
    ], len(stack.model.requests())


def test_bad_input_gets_its_status_and_code_changes_nothing_and_is_not_said_again(
    shared_stack: Stack, person: Person, used_project: tuple[str, str]
) -> None:
    """A problem as RFC 9457 has it for each; the canary that each request carries is in no answer."""
    project_id, message_id = used_project
    before = _everything(shared_stack, person)
    wrong = []
    for name, bad in BAD.items():
        path = bad.path.format(project=project_id, message=message_id)
        answer = person.client.request(bad.method, path, content=bad.body, headers=bad.headers)
        try:
            _is_problem(answer, bad.status, bad.code)
            assert CANARY not in answer.text
            assert "of the document" not in answer.text
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)
    assert _everything(shared_stack, person) == before
    assert person.client.get("/healthz").status_code == 200


def _calls(project_id: str, message_id: str) -> dict[str, Callable[[httpx.Client], httpx.Response]]:
    project, message = f"/v1/projects/{project_id}", f"/v1/messages/{message_id}"
    chat = f"/v1/ai/chat/{project_id}"
    said = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "let me in"}]}
    return {
        "see the project": lambda client: client.get(project),
        "rename the project": lambda client: client.patch(project, json={"name": "mine"}),
        "delete the project": lambda client: client.delete(project),
        "patch the document": lambda client: client.patch(
            f"{project}/document", content=_operation(op="add", path="/n", value=1), headers=PATCH
        ),
        "see its versions": lambda client: client.get(f"{project}/versions"),
        "list its messages": lambda client: client.get(f"{project}/messages"),
        "say something": lambda client: client.post(f"{project}/messages", json={"content": "let me in"}),
        "see the message": lambda client: client.get(message),
        "cancel it": lambda client: client.post(f"{message}/cancel"),
        "retry it": lambda client: client.post(f"{message}/retry"),
        "follow it": lambda client: client.get(f"{message}/events"),
        "open a socket": lambda client: client.get(f"{message}/socket", headers=UPGRADE),
        "chat": lambda client: client.post(chat, json={"messages": [said]}),
        "resume the chat": lambda client: client.get(f"{chat}/stream"),
        "stop the chat": lambda client: client.post(f"{chat}/stop"),
        "open the chat's socket": lambda client: client.get(f"{chat}/socket", headers=UPGRADE),
        "get a ticket": lambda client: client.post("/v1/tickets", json={"path": f"{message}/socket"}),
    }


def test_a_stranger_gets_the_same_404_as_for_what_does_not_exist(
    shared_stack: Stack, person: Person, used_project: tuple[str, str]
) -> None:
    """On every path, over both web processes; and nobody without a token gets anywhere."""
    before = _everything(shared_stack, person)
    mine, nowhere = _calls(*used_project), _calls(str(uuid4()), str(uuid4()))
    with Person(shared_stack) as stranger:
        for name, call in mine.items():
            for client in stranger.clients:
                answer = call(client)
                _is_problem(answer, 404, "not_found")
                assert answer.text == nowhere[name](client).text, name
        assert stranger.client.get("/v1/projects").json()["items"] == []
    for token in (None, "not-a-token", person.token[:-1]):
        with shared_stack.client_for(token) as nobody:
            for call in mine.values():
                answer = call(nobody)
                _is_problem(answer, 401, "unauthorized")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert _everything(shared_stack, person) == before


def test_of_many_that_race_with_a_ticket_at_both_web_processes_one_gets_in(shared_stack: Stack, person: Person) -> None:
    """By handshakes: one 101 for each ticket of a socket, wherever it is brought and by however many at once."""
    path = f"/v1/projects/{person.project()}/socket"
    racers = 12
    for made_by in person.clients * 2:
        ticket = made_by.post("/v1/tickets", json={"path": path}).json()["ticket"]
        start = threading.Barrier(racers)

        def come(number: int, ticket: str = ticket, start: threading.Barrier = start) -> int:
            url = shared_stack.urls[number % 2].replace("http", "ws", 1)
            start.wait()
            try:
                with connect(f"{url}{path}?ticket={ticket}", proxy=None):
                    return 101
            except InvalidStatus as refused:
                return refused.response.status_code

        with ThreadPoolExecutor(racers) as pool:
            assert sorted(pool.map(come, range(racers))) == [101] + [401] * (racers - 1)


def test_a_document_is_patched_as_a_whole_under_the_version_that_its_writer_saw(
    shared_stack: Stack, person: Person
) -> None:
    """`If-Match`, the versions with what takes them back, and the failing operation's index."""
    project_id = person.project(document={"list": [1]})
    address = f"/v1/projects/{project_id}/document"

    def patch(*operations: dict[str, Any], web: int = 0, version: int | None = None) -> httpx.Response:
        headers = PATCH if version is None else {**PATCH, "If-Match": f'"{version}"'}
        return person.clients[web].patch(address, content=json.dumps(operations), headers=headers)

    assert person.document(project_id)["version"] == 1
    first = patch({"op": "add", "path": "/list/-", "value": 2}, version=1)
    assert (first.status_code, first.headers["ETag"], first.json()["document"]) == (200, '"2"', {"list": [1, 2]})
    stale = patch({"op": "add", "path": "/list/-", "value": 3}, web=1, version=1)
    _is_problem(stale, 412, "version_mismatch")
    failing = patch({"op": "add", "path": "/list/-", "value": 3}, {"op": "remove", "path": "/nothing"}, web=1)
    _is_problem(failing, 409, "patch_rejected")
    assert failing.json()["index"] == 1
    second = patch({"op": "replace", "path": "/list", "value": []}, web=1, version=2)
    assert (second.status_code, second.json()["version"]) == (200, 3)

    versions = person.versions(project_id)
    assert [version["version"] for version in versions] == [3, 2]
    assert "messageId" not in versions[0]
    back = patch(*versions[0]["inverse"], *versions[1]["inverse"])
    assert back.json()["document"] == {"list": [1]}


def test_an_answer_for_a_document_that_was_changed_meanwhile_is_told_so_and_sees_the_new_one(
    shared_stack: Stack, person: Person
) -> None:
    """The model's patch is not applied to what it did not see; it is shown the document as it is."""
    operations = [{"op": "replace", "path": "/title", "value": "the model's"}]
    call = {"tool": {"name": "applyJsonPatch", "arguments": {"operations": operations, "explanation": "Renamed."}}}
    shared_stack.model.on(
        "rename",
        {
            "rounds": [
                {"steps": [{"text": "I rename."}, {"hold": "patched"}, call]},
                {"steps": [call]},
                {"steps": [{"text": "Done."}]},
            ]
        },
    )
    project_id = person.project(document={"title": "old"})
    message_id = person.submit(project_id, "rename it")
    with person.audience(message_id) as audience:
        audience.wait_text("I rename.")
        changed = person.client.patch(
            f"/v1/projects/{project_id}/document",
            content=_operation(op="replace", path="/title", value="the person's"),
            headers=PATCH,
        )
        assert changed.status_code == 200
        shared_stack.model.release("patched")
        audience.finish()
        row = person.row(message_id)
        audience.check(row)
    assert [call["state"] for call in row["toolCalls"]] == ["failed", "succeeded"]
    told = shared_stack.model.requests()[1]["messages"][-1]
    assert told["role"] == "tool"
    assert "the person's" in told["content"]
    assert person.document(project_id)["document"] == {"title": "the model's"}
    assert [version["version"] for version in person.versions(project_id)] == [3, 2]


def test_a_deleted_project_closes_its_sockets_with_4403_and_the_providers_stream(
    shared_stack: Stack, person: Person
) -> None:
    """On every web process; what ran is stopped, and nothing of it can be found afterwards."""
    shared_stack.model.say("to be deleted", {"text": "Gone soon. "}, {"hold": "never released"})
    project_id = person.project()
    message_id = person.submit(project_id, "to be deleted")
    readers = [SocketReader(url, person.token).follow(message_id) for url in shared_stack.urls]
    try:
        for reader in readers:
            reader.until(lambda event: getattr(event, "content", "").endswith("soon. "))
        assert person.client.delete(f"/v1/projects/{project_id}").status_code == 204
        for reader in readers:
            reader.until_ended()
            assert (reader.close_code, reader.close_reason) == (4403, "access withdrawn")
        shared_stack.model.wait_disconnected(0)
    finally:
        for reader in readers:
            reader.close()
    for call in _calls(project_id, message_id).values():
        _is_problem(call(person.clients[1]), 404, "not_found")
    assert person.client.get("/v1/projects").json()["items"] == []
