"""Members and roles over HTTP: let in, listed, given another role, taken out; and what becomes of their open sockets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
import redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from shared import keys
from tests.integration.api_parts import Api, Person, answered, listening, refused


def members_path(project_id: str, who: Person | str = "") -> str:
    name = who if isinstance(who, str) else who.name
    return f"/v1/projects/{project_id}/members" + (f"/{quote(name, safe='')}" if name else "")


def let_in(owner: Person, project_id: str, who: Person | str, role: str = "editor") -> None:
    body = answered(owner.call("PUT", members_path(project_id, who), body={"role": role}), 200)
    assert body == {"user": who if isinstance(who, str) else who.name, "role": role}


def test_members_are_let_in_listed_given_another_role_and_taken_out(api: Api) -> None:
    anna, boris = api.person("a-" + str(uuid.uuid4())), api.person("b-" + str(uuid.uuid4()))
    project_id = anna.project()["id"]
    refused(boris.get(f"/v1/projects/{project_id}"), 404, "not_found")
    let_in(anna, project_id, boris, "viewer")
    assert answered(boris.get(f"/v1/projects/{project_id}"), 200)["role"] == "viewer"
    listed = [{"user": anna.name, "role": "owner"}, {"user": boris.name, "role": "viewer"}]
    assert answered(boris.get(members_path(project_id)), 200) == {"items": listed, "nextCursor": None}
    let_in(anna, project_id, boris, "owner")
    response = boris.delete(members_path(project_id, anna))
    assert (response.status_code, response.data) == (204, b"")
    refused(anna.get(f"/v1/projects/{project_id}"), 404, "not_found")
    refused(boris.delete(members_path(project_id, anna)), 404, "not_found")


def test_pages_of_members_come_by_name_and_end(api: Api) -> None:
    anna = api.person("0-" + str(uuid.uuid4()))
    project_id = anna.project()["id"]
    names = [f"{letter}-{uuid.uuid4()}" for letter in ("1 &?#é😀".replace(" ", ""))]
    for name in names:
        let_in(anna, project_id, name, "viewer")
    seen, query = [], "?limit=3"
    while True:
        page = answered(anna.get(members_path(project_id) + query), 200)
        seen += [item["user"] for item in page["items"]]
        if page["nextCursor"] is None:
            break
        query = f"?limit=3&before={quote(page['nextCursor'])}"
    assert seen == sorted([anna.name, *names])
    refused(anna.get(members_path(project_id) + "?before=%00"), 400, "invalid_query")


def test_an_invitation_may_come_before_the_first_token(api: Api) -> None:
    anna, name = api.person(), f"later-{uuid.uuid4()}"
    project_id = anna.project()["id"]
    let_in(anna, project_id, name)
    assert answered(api.person(name).get(f"/v1/projects/{project_id}"), 200)["role"] == "editor"


@pytest.mark.parametrize("name", ["a b", "x" * 201, "a%00b", "a%0ab", "%7f", "%2e", "%2e%2e", "%20"])
def test_a_user_is_called_as_a_token_s_subject_may_be(api: Api, name: str) -> None:
    anna = api.person()
    path = f"/v1/projects/{anna.project()['id']}/members/{name}"
    for response in (anna.call("PUT", path, body={"role": "viewer"}), anna.delete(path)):
        assert [error["path"] for error in refused(response, 422, "invalid_fields")["errors"]] == ["/user"]


def test_a_role_is_one_of_three(api: Api) -> None:
    anna = api.person()
    path = members_path(anna.project()["id"], "somebody")
    for body, place in (({}, "/role"), ({"role": "admin"}, "/role"), ({"role": None}, "/role"), ({"x": 1}, "")):
        problem = refused(anna.call("PUT", path, body=body), 422, "invalid_fields")
        assert [error["path"] for error in problem["errors"]] == [place]


def test_the_last_owner_neither_leaves_nor_steps_down(api: Api) -> None:
    anna = api.person()
    project_id = anna.project()["id"]
    refused(anna.delete(members_path(project_id, anna)), 409, "last_owner")
    refused(anna.call("PUT", members_path(project_id, anna), body={"role": "editor"}), 409, "last_owner")
    assert answered(anna.get(f"/v1/projects/{project_id}"), 200)["role"] == "owner"


def test_a_project_has_so_many_members_and_no_more(api: Api) -> None:
    """409 and nothing changed, not even a user made; those who are in may change roles, and whoever leaves makes room."""
    anna = api.person(app=api.new_app(max_members_per_project=2))
    project_id, boris, clara = anna.project()["id"], api.person(), f"new-{uuid.uuid4()}"
    let_in(anna, project_id, boris)
    before = answered(anna.get(members_path(project_id)), 200)
    refused(anna.call("PUT", members_path(project_id, clara), body={"role": "viewer"}), 409, "too_many_members")
    assert answered(anna.get(members_path(project_id)), 200) == before
    tight = Person(api.new_app(max_members_per_project=1), anna.name, anna.token)
    let_in(tight, project_id, boris, "viewer")
    assert boris.delete(members_path(project_id, boris)).status_code == 204
    refused(tight.call("PUT", members_path(project_id, clara), body={"role": "viewer"}), 409, "too_many_members")
    let_in(anna, project_id, clara)


def test_everybody_may_leave(api: Api) -> None:
    anna, boris = api.person(), api.person()
    project_id = anna.project()["id"]
    let_in(anna, project_id, boris, "viewer")
    assert boris.delete(members_path(project_id, boris)).status_code == 204
    refused(boris.get(f"/v1/projects/{project_id}"), 404, "not_found")


# --- open sockets -----------------------------------------------------------------------------------------------


@contextmanager
def following(served: str, person: Person, message_id: str) -> Iterator[ClientConnection]:
    """An open socket of which the server knows: it has answered a ping."""
    headers = {"Authorization": f"Bearer {person.token}"}
    with connect(f"ws://{served}/v1/messages/{message_id}/socket", additional_headers=headers, proxy=None) as socket:
        socket.send('{"type":"ping"}')
        assert "pong" in str(socket.recv(10))
        yield socket


def test_whoever_is_taken_out_loses_open_sockets_and_nobody_else_does(
    api: Api, served: str, redis_client: redis.Redis
) -> None:
    """4403 here, and every other process is told whose sockets to close."""
    anna, boris = api.person(), api.person()
    project_id = anna.project()["id"]
    let_in(anna, project_id, boris)
    message_id = anna.pair(project_id)["assistantMessage"]["id"]
    other_id = boris.pair(boris.project()["id"])["assistantMessage"]["id"]
    with (
        following(served, anna, message_id) as annas,
        following(served, boris, message_id) as boriss,
        following(served, boris, other_id) as elsewhere,
        listening(redis_client, keys.CONTROL) as next_told,
    ):
        assert anna.delete(members_path(project_id, boris)).status_code == 204
        told = next_told()
        assert set(told) == {"type", "projectId", "userId"}
        assert (told["type"], told["projectId"]) == ("withdraw", project_id)
        with pytest.raises(ConnectionClosed) as closed:
            boriss.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4403
        for socket in (annas, elsewhere):
            socket.send('{"type":"ping"}')
            assert "pong" in str(socket.recv(10))


def test_whoever_becomes_a_viewer_cancels_nothing_over_a_socket_that_is_open(api: Api, served: str) -> None:
    """The role counts from the next frame on; the socket stays, since viewers read."""
    anna, boris = api.person(), api.person()
    project_id = anna.project()["id"]
    let_in(anna, project_id, boris)
    message_id = anna.pair(project_id)["assistantMessage"]["id"]
    with following(served, boris, message_id) as socket:
        let_in(anna, project_id, boris, "viewer")
        socket.send('{"type":"cancel"}')
        assert '"forbidden"' in str(socket.recv(10))
        assert answered(anna.get(f"/v1/messages/{message_id}"), 200)["status"] == "pending"
