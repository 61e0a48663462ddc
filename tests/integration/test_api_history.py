"""The history of a document over HTTP: undo and redo as new versions, former documents, the difference of any two."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from shared import keys
from shared.patching import PatchLimits, apply_patch
from tests.integration.api_parts import JSON_PATCH, Api, Person, answered, listening, refused


def edited(person: Person, project: dict[str, Any], value: Any) -> None:
    operations = [{"op": "add", "path": "/n", "value": value}]
    answered(person.patch(f"/v1/projects/{project['id']}/document", operations, media_type=JSON_PATCH), 200)


def let_in(owner: Person, project: dict[str, Any], who: Person, role: str = "editor") -> None:
    answered(owner.call("PUT", f"/v1/projects/{project['id']}/members/{who.name}", body={"role": role}), 200)


def test_an_undo_and_its_redo_are_new_versions_and_are_told(api: Api, redis_client: redis.Redis) -> None:
    """200 with the project and its entity tag; the watchers are told who took back what, after the commit."""
    anna, boris = api.person(), api.person()
    project = anna.project()
    let_in(anna, project, boris)
    edited(anna, project, 1)
    path = f"/v1/projects/{project['id']}"
    with listening(redis_client, keys.project_channel(project["id"])) as next_told:
        response = boris.post(f"{path}/undo")
        undone = {"version": 3, "operations": [{"op": "remove", "path": "/n"}], "author": boris.name, "undoes": 2}
        assert next_told() == {"type": "document", **undone}
        again = anna.post(f"{path}/redo")
        redone = {"version": 4, "author": anna.name, "redoes": 3}
        redone["operations"] = [{"op": "add", "path": "/n", "value": 1}]
        assert next_told() == {"type": "document", **redone}
    after = answered(response, 200)
    assert (after["document"], after["version"], response.headers["ETag"]) == ({}, 3, '"3"')
    assert (answered(again, 200)["document"], again.headers["ETag"]) == ({"n": 1}, '"4"')
    items = answered(anna.get(f"{path}/versions"), 200)["items"]
    assert {key: items[0][key] for key in redone} == redone
    assert {key: items[1][key] for key in undone} == undone
    assert set(items[2]) == {"version", "operations", "inverse", "createdAt", "author"}


def test_where_nothing_is_left_an_undo_and_a_redo_are_conflicts(api: Api) -> None:
    anna = api.person()
    project = anna.project()
    path = f"/v1/projects/{project['id']}"
    refused(anna.post(f"{path}/undo"), 409, "nothing_to_undo")
    refused(anna.post(f"{path}/redo"), 409, "nothing_to_redo")
    edited(anna, project, 1)
    answered(anna.post(f"{path}/undo"), 200)
    edited(anna, project, 2)
    refused(anna.post(f"{path}/redo"), 409, "nothing_to_redo")
    assert answered(anna.get(path), 200)["version"] == 4


def test_an_undo_is_for_the_version_that_it_names(api: Api) -> None:
    """412 where somebody changed the document meanwhile: nobody takes back what was not seen."""
    anna = api.person()
    project = anna.project()
    edited(anna, project, 1)
    edited(anna, project, 2)
    path = f"/v1/projects/{project['id']}/undo"
    refused(anna.post(path, headers={"If-Match": '"2"'}), 412, "version_mismatch")
    refused(anna.post(path, headers={"If-Match": "2"}), 400, "invalid_header")
    answered(anna.post(path, headers={"If-Match": '"3"'}), 200)


def test_an_undo_into_what_a_later_schema_forbids_is_refused_with_the_places(api: Api) -> None:
    anna = api.person()
    project = anna.project(document={"n": "canary"})
    edited(anna, project, 1)
    path = f"/v1/projects/{project['id']}"
    answered(anna.patch(path, {"schema": {"properties": {"n": {"type": "integer"}}}}), 200)
    response = anna.post(f"{path}/undo")
    assert [error["path"] for error in refused(response, 422, "schema_violation")["errors"]] == ["/n"]
    assert "canary" not in response.get_data(as_text=True)
    assert answered(anna.get(path), 200)["document"] == {"n": 1}


def test_an_undo_beyond_a_limit_set_since_names_the_operation(api: Api) -> None:
    anna = api.person()
    project = anna.project(document={"n": "x" * 1_000})
    edited(anna, project, 1)
    strict = Person(api.new_app(max_document_bytes=500), anna.name, anna.token)
    problem = refused(strict.post(f"/v1/projects/{project['id']}/undo"), 409, "patch_rejected")
    assert problem["index"] == 0


def test_any_version_is_shown_and_compared_with_any_other(api: Api) -> None:
    anna = api.person()
    project = anna.project(document={"title": "Film", "n": 0})
    for value in (1, 2, 3):
        edited(anna, project, value)
    path = f"/v1/projects/{project['id']}"
    for version in range(1, 5):
        shown = answered(anna.get(f"{path}/versions/{version}"), 200)
        assert shown == {"version": version, "document": {"title": "Film", "n": version - 1}}
    for old, new in ((1, 4), (4, 1), (2, 3), (3, 3)):
        found = answered(anna.get(f"{path}/diff?from={old}&to={new}"), 200)
        assert (found["from"], found["to"]) == (old, new)
        before, after = ({"title": "Film", "n": version - 1} for version in (old, new))
        assert apply_patch(before, found["operations"], PatchLimits()).document == after
        assert len(found["operations"]) == int(old != new)


@pytest.mark.parametrize("number", ["0", "2", "99", "x", "-1", "1.0", "01", "9" * 30])
def test_a_version_that_there_is_not_is_not_found(api: Api, number: str) -> None:
    anna = api.person()
    refused(anna.get(f"/v1/projects/{anna.project()['id']}/versions/{number}"), 404, "not_found")


def test_a_difference_needs_two_versions_that_there_are(api: Api) -> None:
    anna = api.person()
    path = f"/v1/projects/{anna.project()['id']}/diff"
    for query in ("", "?from=1", "?to=1", "?from=x&to=1", "?from=1&from=1&to=1", "?from=-1&to=1"):
        refused(anna.get(f"{path}{query}"), 400, "invalid_query")
    for query in ("?from=0&to=1", "?from=1&to=2"):
        refused(anna.get(f"{path}{query}"), 404, "not_found")


def test_versions_are_listed_by_the_message_that_made_them(api: Api) -> None:
    anna = api.person()
    project = anna.project()
    edited(anna, project, 1)
    message_id = anna.pair(project["id"])["assistantMessage"]["id"]
    path = f"/v1/projects/{project['id']}/versions"
    assert answered(anna.get(f"{path}?message={message_id}"), 200) == {"items": [], "nextCursor": None}
    refused(anna.get(f"{path}?message=x"), 400, "invalid_query")
