"""Garbage where an id, a cursor, a number or a header is expected: a clear refusal, and nothing is changed."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import Engine
from werkzeug.datastructures import MultiDict

from api import requests
from api.app import ROUTES
from api.calls import Access, Call
from api.refusals import InvalidQuery
from shared.batches import BatchFilter
from shared.lifecycle import MessageStatus
from tests.integration.api_parts import JSON_PATCH, Api, Person, answered, everything_stored, job_made, refused

GARBAGE: Final = (
    "",
    " ",
    "\n",
    "0",
    "-1",
    "01",
    "1.0",
    "1e1",
    "0x10",
    "1_0",
    "+1",
    "٣",
    "9" * 19,
    "9" * 20,
    "9" * 5000,
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "\x00",
    "\x7f",
    "%",
    "'; DROP TABLE messages; --",
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "é",
    "😀",
    "\u202e",
    "\ufffe",
    "x" * 3000,
    "0198c2a4-6f3e-7c11-9b1a-5d0c3c1f2e7",
    "0198c2a46f3e7c119b1a5d0c3c1f2e77\n",
    "{0198c2a4-6f3e-7c11-9b1a-5d0c3c1f2e77}",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-13-01T00:00:00Z",
    "1-0\n",
    "5m\n",
    "0-0",
    "1-",
    "99999999999-0",
    "1-99999999999",
)
WITH_QUERIES: Final = [call for call in ROUTES if call.query is not None and not call.is_socket]


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


def _ids(api: Api, anna: Person) -> dict[str, str]:
    """Things that are there, so that nothing is refused for the lack of them."""
    project_id = anna.project()["id"]
    answered(
        anna.patch(
            f"/v1/projects/{project_id}/document", [{"op": "add", "path": "/a", "value": 1}], media_type=JSON_PATCH
        ),
        200,
    )
    job_id, _ = job_made(api, anna, project_id)
    message_id = anna.pair(project_id)["assistantMessage"]["id"]
    api.finish(message_id)
    batch, _ = api.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="x")
    return {
        "projectId": project_id,
        "messageId": message_id,
        "responseId": f"resp_{message_id}",
        "jobId": job_id,
        "batchId": str(batch.id),
        "version": "1",
        "user": anna.name,
        "chatId": "chat",
    }


def _path(call: Call, ids: dict[str, str]) -> str:
    path = call.path
    for name, value in ids.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _parameters(call: Call) -> Iterator[str]:
    assert call.query is not None
    yield from (field.encode_name for field in msgspec.structs.fields(call.query))


def _is_read(call: Call, parameters: dict[str, str]) -> bool:
    assert call.query is not None
    try:
        requests.parse_query(MultiDict(parameters.items()), call.query)
    except InvalidQuery:
        return False
    return True


def test_a_parameter_that_is_none_is_refused_by_name_or_is_one(api: Api, anna: Person) -> None:
    """400 with the parameter's name; what is let through is answered as any other value. Never a failure of ours."""
    operator, ids = api.operator(), _ids(api, anna)
    for call in WITH_QUERIES:
        person = operator if call.scope is not None else anna
        is_stream = call.access is Access.TOKEN_OR_TICKET or call.name.startswith("ai_chat_stream")
        others = {"compare_versions": {"from": "1", "to": "2"}, "get_response": {"stream": "true"}}.get(call.name, {})
        for name in _parameters(call):
            read = [garbage for garbage in GARBAGE if _is_read(call, {**others, name: garbage})]
            refused_ones = [garbage for garbage in GARBAGE if garbage not in read]
            for garbage in (*read, *refused_ones[:2]):
                query = urllib.parse.urlencode({**others, name: garbage})
                method = "HEAD" if is_stream and garbage in read else call.method
                response = person.call(method, f"{_path(call, ids)}?{query}")
                if garbage in refused_ones and call.words is None:
                    problem = refused(response, 400, "invalid_query")
                    assert [place["path"] for place in problem["errors"]] == [f"/{name}"]
                elif garbage in refused_ones:
                    assert response.status_code == 400, (call.name, name, garbage, response.data)
                else:
                    assert response.status_code in (200, 204, 400, 404, 415, 422), (
                        call.name,
                        name,
                        garbage,
                        response.data,
                    )


HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "Idempotency-Key": ("", " ", "a b", "é", "x" * 201, "\x01", "a\tb"),
    "If-Match": ("", "1", 'W/"1"', '"01"', '"-1"', '"1", "2"', '"x"', '"9999999999"', "\x01", '"1"x', "**"),
    "Last-Event-ID": ("1", "0-0", "1-", "-1", "1-00", "x", "99999999999-0", "1-99999999999", "²-0", "1-0 x"),
}


def test_a_header_that_is_none_is_refused_and_nothing_is_done(api: Api, anna: Person, engine: Engine) -> None:
    ids = _ids(api, anna)
    path = f"/v1/projects/{ids['projectId']}"
    patch = [{"op": "add", "path": "/b", "value": 1}]
    calls: dict[str, list[tuple[str, str, Any, str]]] = {
        "Idempotency-Key": [
            ("POST", f"{path}/messages", {"content": "Hello"}, "application/json"),
            ("POST", "/v1/openai/responses", {"input": "Hello", "conversation": ids["projectId"]}, "application/json"),
        ],
        "If-Match": [
            ("PATCH", f"{path}/document", patch, JSON_PATCH),
            ("POST", f"{path}/undo", ..., "application/json"),
            ("POST", f"{path}/redo", ..., "application/json"),
        ],
        "Last-Event-ID": [("GET", f"/v1/messages/{ids['messageId']}/events", ..., "application/json")],
    }
    before = everything_stored(engine)
    for name, garbage in ((name, garbage) for name, values in HEADERS.items() for garbage in values):
        for method, address, body, media_type in calls[name]:
            response = anna.call(method, address, body=body, media_type=media_type, headers={name: garbage})
            assert response.status_code == 400, (address, garbage, response.data)
            assert b"invalid_header" in response.data
    assert everything_stored(engine) == before


def test_a_preference_that_nobody_understands_is_passed_over(anna: Person) -> None:
    """RFC 7240, section 2: the request is served as if it were not there."""
    path = f"/v1/projects/{anna.project()['id']}/messages"
    for prefer in ("", "wait", "wait=", "wait=-1", "wait=x", "wait=1.5", "wait=\x01", "respond-async", "," * 500):
        response = anna.post(path, {"content": "Hello"}, headers={"Prefer": prefer})
        assert answered(response, 202)
        assert "Preference-Applied" not in response.headers


def test_a_moment_may_be_in_any_zone_and_not_before_time_begins(api: Api) -> None:
    """Postgres refuses zones that RFC 3339 allows, and there is no year 0 in UTC."""
    operator = api.operator()
    for zone in ("+20:38", "-23:59", "+23:59", "Z"):
        body = {
            "status": "error",
            "dryRun": True,
            "since": f"0013-03-15T01:34:34{zone}",
            "until": f"2026-11-26T00:00:00{zone}",
        }
        answered(operator.post("/v1/ops/reprocess", body), 202)
        query = urllib.parse.urlencode({"since": f"2026-11-26T00:00:00{zone}"})
        answered(operator.get(f"/v1/ops/messages?{query}"), 200)
    too_early, too_late = "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"
    for moment in (too_early, too_late):
        refused(operator.post("/v1/ops/reprocess", {"status": "error", "since": moment}), 422, "invalid_fields")
        refused(operator.post("/v1/ops/reprocess", {"status": "error", "until": moment}), 422, "invalid_fields")
        refused(operator.get(f"/v1/ops/messages?{urllib.parse.urlencode({'since': moment})}"), 400, "invalid_query")


def test_every_body_is_read_by_the_strict_reader(api: Api, anna: Person, engine: Engine) -> None:
    """Each call that has one; tRPC's, whose bodies have words of their own, are in test_hostile_json.py."""
    ids = _ids(api, anna)
    operator = api.operator()
    before = everything_stored(engine)
    with_bodies = [call for call in ROUTES if call.body is not None]
    assert len(with_bodies) >= 10
    for call in with_bodies:
        person = operator if call.scope is not None else anna
        for raw in (
            b"",
            b"[",
            b"NaN",
            b'{"a":1,"a":2}',
            b'{"a":"\\u0000"}',
            b'"\\ud800"',
            b"[" * 100 + b"]" * 100,
            b'"\xff"',
        ):
            response = person.call(call.method, _path(call, ids), raw=raw, media_type=call.body_media_type)
            assert (response.status_code, b"invalid_json" in response.data) == (400, True), (
                call.name,
                raw,
                response.data,
            )
    assert everything_stored(engine) == before
