"""Projects and their documents over HTTP: made, read, changed, patched, deleted; a refusal changes nothing."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from dev.embedded import EmbeddedPostgres
from shared import keys, schema, video
from tests.integration.api_parts import JSON_PATCH, Api, Person, answered, listening, refused


def patched(person: Person, project_id: str, operations: Any, **rest: Any) -> Any:
    return person.patch(f"/v1/projects/{project_id}/document", operations, media_type=JSON_PATCH, **rest)


# --- made, read, changed ----------------------------------------------------------------------------------------


def test_a_project_is_made_with_an_empty_document(api: Api) -> None:
    """201 with its address; whoever made it owns it."""
    anna = api.person()
    response = anna.post("/v1/projects", {"name": "Ünïcode 😀"})
    project = answered(response, 201)
    assert set(project) == {"id", "name", "document", "version", "schema", "role", "createdAt", "updatedAt"}
    assert (project["name"], project["document"], project["schema"]) == ("Ünïcode 😀", {}, None)
    assert (project["version"], project["role"]) == (1, "owner")
    assert response.headers["Location"] == f"/v1/projects/{project['id']}"
    assert response.headers["ETag"] == '"1"'
    assert project["createdAt"].endswith("Z")
    assert answered(anna.get(f"/v1/projects/{project['id']}"), 200) == project


def test_times_are_utc_wherever_the_database_stands(api: Api, engine: Engine, postgres: EmbeddedPostgres) -> None:
    """RFC 3339 with a Z, also where the database's own time zone is another."""
    postgres.sql(f"ALTER DATABASE \"{engine.url.database}\" SET timezone = 'Asia/Kathmandu'")
    engine.dispose()
    assert api.person().project()["createdAt"].endswith("Z")


def test_a_document_comes_back_as_it_was_sent(api: Api) -> None:
    """The order of keys, the kinds of numbers, every character."""
    raw = '{"z": 1, "a": 1.0, "😀": [true, null, -0.0, 1e-7, "\\u2028é"], "": {"~/": 9007199254740993}}'
    anna = api.person()
    made = anna.post("/v1/projects", raw=f'{{"name": "x", "document": {raw}}}'.encode())
    project_id = answered(made, 201)["id"]
    read = json.loads(anna.get(f"/v1/projects/{project_id}").data)["document"]
    assert json.dumps(read) == json.dumps(json.loads(raw))


def test_the_video_template_brings_a_document_that_fits_its_schema(api: Api) -> None:
    project = api.person().project(template="video")
    assert project["document"] == video.new_document()
    schema.check_document(project["document"], project["schema"])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "x", "document": "canary"}, "/document"),
        ({"name": "x", "document": None}, "/document"),
        ({"name": "x", "document": {"canary": "y" * 256 * 1024}}, "/document"),
        ({"name": "x", "schema": "canary"}, "/schema"),
        ({"name": "x", "template": "canary"}, "/template"),
        ({"name": "x", "template": "video", "document": {}}, "/template"),
        ({"name": "x", "template": "video", "schema": {}}, "/template"),
        ({"name": "x", "canary": 1}, ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_project_with_wrong_fields_is_refused_and_none_is_made(api: Api, body: Any, path: str) -> None:
    anna = api.person()
    response = anna.post("/v1/projects", body)
    problem = refused(response, 422, "invalid_fields")
    assert [error["path"] for error in problem["errors"]] == [path]
    assert "canary" not in response.get_data(as_text=True)
    assert answered(anna.get("/v1/projects"), 200)["items"] == []


def test_a_document_that_does_not_fit_its_schema_is_refused_with_the_places(api: Api) -> None:
    """Where it is wrong, and not what stood there."""
    anna = api.person()
    wanted = {"type": "object", "properties": {"n": {"type": "integer"}}}
    response = anna.post("/v1/projects", {"name": "x", "document": {"n": "canary"}, "schema": wanted})
    problem = refused(response, 422, "schema_violation")
    assert [error["path"] for error in problem["errors"]] == ["/n"]
    assert "canary" not in response.get_data(as_text=True)


@pytest.mark.parametrize(
    "wanted",
    [{"type": "canary"}, {"$ref": "http://127.0.0.1:1/canary"}, {"pattern": "("}, {"$ref": "#/nowhere"}],
    ids=str,
)
def test_a_schema_that_cannot_be_used_is_refused(api: Api, wanted: Any) -> None:
    """No address is fetched for it."""
    anna = api.person()
    response = anna.post("/v1/projects", {"name": "x", "schema": wanted})
    refused(response, 422, "invalid_schema")
    assert "canary" not in response.get_data(as_text=True)


def test_a_project_is_renamed_and_its_schema_given_and_taken(api: Api) -> None:
    anna = api.person()
    project = anna.project(document={"n": 1})
    path = f"/v1/projects/{project['id']}"
    assert answered(anna.patch(path, {"name": "New"}), 200)["name"] == "New"
    wanted = {"required": ["n"]}
    assert answered(anna.patch(path, {"schema": wanted}), 200)["schema"] == wanted
    assert answered(anna.patch(path, {"name": "Newer"}), 200)["schema"] == wanted
    refused(anna.patch(path, {"schema": {"required": ["m"]}}), 422, "schema_violation")
    assert answered(anna.get(path), 200)["schema"] == wanted
    assert answered(anna.patch(path, {"schema": None}), 200)["schema"] is None
    assert answered(anna.get(path), 200)["version"] == 1


def test_pages_of_projects_come_newest_first_and_end(api: Api) -> None:
    anna = api.person()
    made = [anna.project(name=str(number))["id"] for number in range(3)][::-1]
    first = answered(anna.get("/v1/projects?limit=2"), 200)
    rest = answered(anna.get(f"/v1/projects?limit=2&before={first['nextCursor']}"), 200)
    assert [item["id"] for item in first["items"] + rest["items"]] == made
    assert rest["nextCursor"] is None
    refused(anna.get("/v1/projects?limit=0"), 400, "invalid_query")


# --- the document -----------------------------------------------------------------------------------------------


def test_a_patch_makes_a_new_version_and_says_so(api: Api, redis_client: redis.Redis) -> None:
    """200 with the project and its entity tag; the watchers are told; the version is in the list."""
    anna = api.person()
    project = anna.project(document={"a": 1})
    operations = [{"op": "replace", "path": "/a", "value": 2}]
    with listening(redis_client, keys.project_channel(project["id"])) as next_told:
        response = patched(anna, project["id"], operations)
        assert next_told() == {"type": "document", "version": 2, "operations": operations, "author": anna.name}
    after = answered(response, 200)
    assert (after["document"], after["version"], response.headers["ETag"]) == ({"a": 2}, 2, '"2"')
    (version,) = answered(anna.get(f"/v1/projects/{project['id']}/versions"), 200)["items"]
    assert (version["version"], version["operations"]) == (2, operations)
    assert version["inverse"] == [{"op": "replace", "path": "/a", "value": 1}]
    assert version["author"] == anna.name


def test_pages_of_versions_come_newest_first_and_end(api: Api) -> None:
    anna = api.person()
    project = anna.project()
    for value in range(3):
        answered(patched(anna, project["id"], [{"op": "add", "path": "/n", "value": value}]), 200)
    path = f"/v1/projects/{project['id']}/versions?limit=2"
    first = answered(anna.get(path), 200)
    rest = answered(anna.get(f"{path}&before={first['nextCursor']}"), 200)
    assert [item["version"] for item in first["items"] + rest["items"]] == [4, 3, 2]
    assert rest["nextCursor"] is None
    refused(anna.get(f"{path}&before=x"), 400, "invalid_query")


def test_a_patch_is_for_the_version_that_it_names(api: Api) -> None:
    """412 where the document has another one; `*` and no If-Match are for any."""
    anna = api.person()
    project = anna.project()
    operations = [{"op": "add", "path": "/a", "value": 1}]
    answered(patched(anna, project["id"], operations, headers={"If-Match": '"1"'}), 200)
    refused(patched(anna, project["id"], operations, headers={"If-Match": '"1"'}), 412, "version_mismatch")
    for tag in ('W/"2"', "2", '"2", "3"'):
        refused(patched(anna, project["id"], operations, headers={"If-Match": tag}), 400, "invalid_header")
    assert answered(anna.get(f"/v1/projects/{project['id']}"), 200)["version"] == 2
    answered(patched(anna, project["id"], operations, headers={"If-Match": "*"}), 200)


def test_of_patches_that_race_for_a_version_one_is_applied(api: Api) -> None:
    anna = api.person()
    project = anna.project(document={"n": 0})
    barrier = threading.Barrier(6)

    def race(number: int) -> int:
        barrier.wait()
        operations = [{"op": "replace", "path": "/n", "value": number}]
        return int(patched(anna, project["id"], operations, headers={"If-Match": '"1"'}).status_code)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(race, range(6))) == [200, *[412] * 5]


@pytest.mark.parametrize(
    ("operations", "index"),
    [
        ([{"op": "add", "path": "/a", "value": 1}, {"op": "remove", "path": "/canary"}], 1),
        ([{"op": "test", "path": "/secret", "value": 1}], 0),
        ([{"op": "canary", "path": "/a"}], 0),
        ([{"op": "add", "path": "/a"}], 0),
        ([{"op": "add", "path": "no pointer", "value": 1}], 0),
        (["canary"], 0),
        ([{"op": "replace", "path": "", "value": 1}], 0),
        ([{"op": "add", "path": "/a" * 17, "value": 1}], 0),
        ([{"op": "add", "path": "/big", "value": "x" * 300_000}], 0),
        ([{"op": "move", "from": "/secret", "path": "/secret/inner"}], 0),
        ([{"op": "add", "path": "/a", "value": 1}] * 1001, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_patch_that_does_not_apply_changes_nothing(api: Api, operations: Any, index: int | None) -> None:
    """409 with the failing operation's index; the document is not said again."""
    anna = api.person()
    project = anna.project(document={"secret": "canary-document"})
    response = patched(anna, project["id"], operations)
    problem = refused(response, 409, "patch_rejected")
    assert problem.get("index") == index
    assert "canary-document" not in response.get_data(as_text=True)
    assert answered(anna.get(f"/v1/projects/{project['id']}"), 200) == project


def test_a_patch_that_breaks_the_schema_changes_nothing(api: Api) -> None:
    anna = api.person()
    project = anna.project(template="video")
    response = patched(anna, project["id"], [{"op": "add", "path": "/meta/duration", "value": "canary"}])
    problem = refused(response, 422, "schema_violation")
    assert problem["errors"][0]["path"] == "/meta/duration"
    assert "canary" not in response.get_data(as_text=True)
    assert answered(anna.get(f"/v1/projects/{project['id']}"), 200) == project


def test_a_document_that_takes_too_long_to_check_is_refused_and_changes_nothing(api: Api) -> None:
    """The schema is small and legal: each of 2000 values would be held against each of 5000."""
    anna = api.person()
    wanted = {"properties": {"list": {"items": {"anyOf": [{"const": n} for n in range(5000)]}}}}
    project = anna.project(schema=wanted, document={"list": []})
    path = f"/v1/projects/{project['id']}"
    operations = [{"op": "replace", "path": "/list", "value": list(range(-2000, 0))}]
    problem = refused(anna.patch(f"{path}/document", operations, media_type=JSON_PATCH), 422, "schema_violation")
    assert problem["errors"] == [{"path": "", "message": "takes too long to check against the schema"}]
    assert answered(anna.get(path), 200)["version"] == 1
    fitting = [{"op": "replace", "path": "/list", "value": [1, 2, 3]}]
    assert answered(anna.patch(f"{path}/document", fitting, media_type=JSON_PATCH), 200)["version"] == 2


def test_a_patch_has_a_media_type_of_its_own(api: Api) -> None:
    anna = api.person()
    path = f"/v1/projects/{anna.project()['id']}/document"
    for media_type in ("application/json", "application/merge-patch+json", "text/plain"):
        refused(anna.patch(path, [], media_type=media_type), 415, "unsupported_media_type")
    refused(anna.patch(path, {"op": "add"}, media_type=JSON_PATCH), 422, "invalid_fields")
    answered(anna.patch(path, [], media_type=f"{JSON_PATCH}; charset=utf-8"), 200)


# --- deleted ----------------------------------------------------------------------------------------------------


def test_a_deleted_project_is_gone_with_all_that_it_had(api: Api, redis_client: redis.Redis) -> None:
    """204; what ran is asked to stop and every process is told to close its sockets."""
    anna = api.person()
    project = anna.project()
    message_id = anna.pair(project["id"])["assistantMessage"]["id"]
    with listening(redis_client, keys.CONTROL) as next_told:
        response = anna.delete(f"/v1/projects/{project['id']}")
        told = [next_told()]
        while told[-1] != {"type": "cancel", "messageId": message_id}:
            told.append(next_told())
    assert (response.status_code, response.data) == (204, b"")
    assert {"type": "withdraw", "projectId": project["id"]} in told
    for path in (f"/v1/projects/{project['id']}", f"/v1/messages/{message_id}"):
        refused(anna.get(path), 404, "not_found")
    refused(anna.delete(f"/v1/projects/{project['id']}"), 404, "not_found")


def test_operators_are_told_that_what_ran_was_cancelled_with_its_project(api: Api, redis_client: redis.Redis) -> None:
    """Its row is gone, so that no other end of it is told."""
    anna = api.person()
    project = anna.project()
    message_id = anna.pair(project["id"])["assistantMessage"]["id"]
    with listening(redis_client, keys.OPS) as next_told:
        assert anna.delete(f"/v1/projects/{project['id']}").status_code == 204
        while (told := next_told())["messageId"] != message_id:
            pass  # another test's
    assert (told["type"], told["projectId"]) == ("cancelled", project["id"])
