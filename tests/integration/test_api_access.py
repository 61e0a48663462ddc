"""Who may come in, and that nobody reads or changes what is not theirs: every call of the route table is tried."""

from __future__ import annotations

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from api.app import CALLS, ROUTES
from api.calls import Access, Call
from api.refusals import Unauthorized
from shared.batches import BatchFilter
from shared.lifecycle import MemberRole, MessageStatus
from tests.integration.api_parts import JSON_PATCH, Api, Person, answered, job_made, refused, refused_in_words

GUARDED = [call for call in CALLS if call.access is not Access.ANYBODY and not call.is_socket]
OF_OPERATORS = [call for call in GUARDED if call.scope is not None]
OF_A_PROJECT = [call for call in GUARDED if call.path_parts and call.scope is None]
BODIES: dict[str, Any] = {
    "create_project": {"name": "x"},
    "change_project": {"name": "stolen"},
    "patch_document": [{"op": "add", "path": "/stolen", "value": 1}],
    "submit_message": {"content": "x"},
    "create_ticket": {"path": "/v1/messages/{messageId}/events"},
    "put_member": {"role": "viewer"},
    "reprocess": {"status": "error"},
    "ai_chat": {"messages": [{"role": "user", "id": "m", "parts": [{"type": "text", "text": "x"}]}]},
}
"""A valid body for each call that has one; a new call without one fails here."""
QUERIES = {"compare_versions": "?from=1&to=2"}
VIEWERS = {
    *("get_project", "list_versions", "get_version", "compare_versions", "list_members"),
    *("list_messages", "get_message", "message_events", "project_events"),
    *("list_jobs", "get_job", "get_job_source", "get_job_bundle"),
    *("preview_job", "preview_project"),
    *("get_response", "list_input_items"),
    *("ai_chat_stream", "ai_chat_stream_of_chat"),
}
EDITORS = {
    *("change_project", "patch_document", "undo", "redo", "submit_message", "cancel_message", "retry_message"),
    *("ai_chat", "ai_chat_stop"),
    "cancel_response",
}
OWNERS = {"delete_project", "put_member", "remove_member"}
NOBODY = {"delete_response"}
"""What each role may do beside what the one before it may; a new call that is in none of the four fails here."""
ENDLESS = {"project_events", "ops_events_stream", "ai_chat_stream", "ai_chat_stream_of_chat"}
"""Streams that do not end by themselves, here; a HEAD says as much of who may."""


def try_call(call: Call, person: Person, ids: dict[str, str], *, method: str | None = None) -> Any:
    path, body = call.path + QUERIES.get(call.name, ""), BODIES[call.name] if call.body is not None else ...
    for name, value in ids.items():
        path = path.replace(f"{{{name}}}", value)
        if isinstance(body, dict):
            body = {
                key: given.replace(f"{{{name}}}", value) if isinstance(given, str) else given
                for key, given in body.items()
            }
    is_endless = call.name == "ai_chat"
    return person.call(method or call.method, path, body=body, media_type=call.body_media_type, buffered=not is_endless)


def everything(engine: Engine) -> list[Any]:
    """What a stranger's call must not change."""
    with engine.connect() as connection:
        tables = (
            "projects",
            "messages",
            "document_versions",
            "members",
            "tickets",
            "users",
            "component_jobs",
            "batches",
        )
        return [connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all() for table in tables]


AUTHORIZATIONS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer unknown",
    "Basic dXNlcjpw",
    "Bearer a b",
    "Bearer \u00e9",
    "x" * 5000,
]


def test_calls_that_authenticate_in_their_protocols_words_are_known() -> None:
    """Their own tests try each of them: test_trpc_http.py, test_trpc_socket.py. A new one fails here until it is tried."""
    protocols = {call.name for call in ROUTES if call.access is Access.PROTOCOL}
    assert protocols == {"trpc_socket", "trpc_get", "trpc_post"}
    beside = {call.name for call in ROUTES if call not in CALLS and call.access is not Access.PROTOCOL}
    assert beside == {"trpc_types"}, "guarded calls of protocols belong into GUARDED"


@pytest.mark.parametrize("call", GUARDED, ids=lambda call: call.name)
def test_without_a_valid_token_no_call_is_served(api: Api, call: Call) -> None:
    """401 and how to authenticate, before anything of the request is looked at."""
    path = call.path
    for name in call.path_parts:
        path = path.replace(f"{{{name}}}", str(uuid.uuid4()))
    body = b"{not json" if call.body is not None else None
    for authorization in AUTHORIZATIONS:
        headers = {} if authorization is None else {"Authorization": authorization}
        response = api.nobody().call(call.method, path, raw=body, headers=headers)
        refused_in_words(call, response, 401, Unauthorized.code)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "call", [*OF_A_PROJECT, next(call for call in CALLS if call.name == "create_ticket")], ids=lambda call: call.name
)
def test_a_stranger_is_told_that_there_is_no_such_thing(api: Api, engine: Engine, call: Call) -> None:
    """The same 404 as for what does not exist, to the byte; and nothing changes."""
    owner, stranger = api.person(), api.person()
    project = owner.project(name="canary-project", document={"secret": "canary"})
    pair = owner.pair(project["id"], "canary-content")
    job_id, _ = job_made(api, owner, owner.project()["id"], name="canary-job")
    common = {"version": "1", "user": f"new-{uuid.uuid4()}"}
    real = {"projectId": project["id"], "messageId": pair["assistantMessage"]["id"], "jobId": job_id, **common}
    real["responseId"] = f"resp_{real['messageId']}"
    unreal = {name: str(uuid.uuid4()) for name in real} | common
    before = everything(engine)
    response = try_call(call, stranger, real)
    refused_in_words(call, response, 404, "not_found")
    assert response.data == try_call(call, stranger, unreal).data
    assert b"canary" not in response.data
    assert everything(engine) == before


@pytest.mark.parametrize("call", OF_OPERATORS, ids=lambda call: call.name)
def test_what_is_for_operators_is_refused_to_everybody_else(api: Api, engine: Engine, call: Call) -> None:
    """403 to the owner of the very message too, with a token without the scope; nothing changes, nothing is told."""
    owner = api.person()
    project = owner.project(name="canary-project")
    ids = {"projectId": project["id"], "messageId": owner.pair(project["id"], "canary-content")["userMessage"]["id"]}
    ids["batchId"] = str(api.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="x")[0].id)
    before = everything(engine)
    for named in (ids, dict.fromkeys(ids, str(uuid.uuid4()))):
        response = try_call(call, owner, named)
        refused(response, 403, "missing_scope")
        assert b"canary" not in response.data
    assert everything(engine) == before


@pytest.mark.parametrize("call", OF_OPERATORS, ids=lambda call: call.name)
def test_an_operator_may_make_every_call_of_operators(api: Api, call: Call) -> None:
    """Though a member of no project; what is not there is a 404 to operators too."""
    owner, operator = api.person(), api.operator()
    message_id = owner.pair(owner.project()["id"])["assistantMessage"]["id"]
    if call.name == "retry_operator_message":
        api.finish(message_id)
    batch, _ = api.store.start_batch(BatchFilter(status=MessageStatus.ERROR), rate=None, asked_by="x")
    ids = {"messageId": message_id, "batchId": str(batch.id)}
    response = try_call(call, operator, ids, method="HEAD" if call.name in ENDLESS else None)
    assert response.status_code < 300, response.data
    if call.path_parts:
        for garbage in (str(uuid.uuid4()), "x", "%00"):
            path = garbage.join(re.split(r"\{\w+\}", call.path))
            refused(operator.call(call.method, path), 404, "not_found")


@pytest.mark.parametrize("call", OF_A_PROJECT, ids=lambda call: call.name)
def test_an_id_that_is_none_names_nothing(api: Api, call: Call) -> None:
    person = api.person()
    body = BODIES[call.name] if call.body is not None else ...
    for garbage in ("1", "x", "..%2f", "%00", "\u00e9", "null", "0" * 200):
        path = garbage.join(re.split(r"\{\w+\}", call.path))
        response = person.call(call.method, path, body=body, media_type=call.body_media_type)
        refused_in_words(call, response, 404, "not_found")


@pytest.mark.parametrize("role", MemberRole)
@pytest.mark.parametrize("call", OF_A_PROJECT, ids=lambda call: call.name)
def test_a_member_may_do_what_the_role_allows_and_no_more(
    api: Api, engine: Engine, call: Call, role: MemberRole
) -> None:
    """Viewers read, editors also write, owners also say who is a member. The rest is 403 and changes nothing."""
    owner, member, other = api.person(), api.person(), api.person()
    project_id = owner.project(name="canary-project", document={"a": 1})["id"]
    for somebody, given in ((member, role.value), (other, "editor")):
        answered(owner.call("PUT", f"/v1/projects/{project_id}/members/{somebody.name}", body={"role": given}), 200)
    patch = [{"op": "add", "path": "/b", "value": 1}]
    answered(owner.patch(f"/v1/projects/{project_id}/document", patch, media_type=JSON_PATCH), 200)
    job_id, _ = job_made(api, owner, project_id)
    message_id = owner.pair(project_id)["assistantMessage"]["id"]
    if call.name in ("message_events", "retry_message"):
        api.finish(message_id)
    ids = {"projectId": project_id, "messageId": message_id, "jobId": job_id, "version": "1", "user": other.name}
    ids["responseId"] = f"resp_{message_id}"
    may = {"viewer": VIEWERS, "editor": VIEWERS | EDITORS, "owner": VIEWERS | EDITORS | OWNERS}[role]
    assert call.name in VIEWERS | EDITORS | OWNERS | NOBODY, "say who may make this call"
    before = everything(engine)
    response = try_call(call, member, ids, method="HEAD" if call.name in ENDLESS else None)
    if call.name in may:
        # there is nothing to redo and nothing built, and that is said to those alone who may
        lacking = (
            call.name in ("redo", "get_job_source", "get_job_bundle", "preview_job") and response.status_code == 409
        )
        assert response.status_code < 300 or lacking, response.data
        response.close()
    else:
        refused_in_words(call, response, 403, "forbidden")
        assert b"canary" not in response.data
        assert everything(engine) == before


def test_lists_show_a_users_own_projects_alone(api: Api) -> None:
    anna, boris = api.person(), api.person()
    mine = anna.project()
    boris.project()
    assert [item["id"] for item in answered(anna.get("/v1/projects"), 200)["items"]] == [mine["id"]]


def test_a_token_stops_being_good_when_it_expires_or_is_revoked(api: Api, engine: Engine) -> None:
    name = f"user-{uuid.uuid4()}"
    short, _ = api.store.create_token(name, lifetime=timedelta(seconds=-1))
    refused(Person(api.app, name, short).get("/v1/projects"), 401, "unauthorized")
    anna = api.person()
    answered(anna.get("/v1/projects"), 200)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tokens SET revoked_at = now()"))
    refused(anna.get("/v1/projects"), 401, "unauthorized")


def test_everybody_with_a_token_is_told_whose_it_is_and_what_it_may_do(api: Api) -> None:
    """The scopes are the token's, not the user's."""
    name = f"user-{uuid.uuid4()}"
    for scopes in ([], ["ops"], ["a", "ops"]):
        token, _ = api.store.create_token(name, scopes=frozenset(scopes))
        assert answered(Person(api.app, name, token).get("/v1/me"), 200) == {"user": name, "scopes": scopes}


def test_two_tokens_of_a_user_are_the_same_person(api: Api) -> None:
    anna = api.person("anna")
    project = anna.project()
    answered(api.person("anna").get(f"/v1/projects/{project['id']}"), 200)


# --- tickets ----------------------------------------------------------------------------------------------------


def ticket_for(person: Person, path: str) -> str:
    ticket: str = answered(person.post("/v1/tickets", {"path": path}), 201)["ticket"]
    return ticket


def finished_message(api: Api, person: Person) -> str:
    message_id: str = person.pair(person.project()["id"])["assistantMessage"]["id"]
    api.finish(message_id)
    return message_id


def test_a_ticket_for_events_is_good_again_and_again_on_its_path_alone(api: Api) -> None:
    """An EventSource comes back with it; it opens nothing else."""
    anna = api.person()
    first, second = finished_message(api, anna), finished_message(api, anna)
    path = f"/v1/messages/{first}/events"
    ticket = ticket_for(anna, path)
    nobody = api.nobody()
    for _ in range(3):
        assert nobody.get(f"{path}?ticket={ticket}&after=9-9").status_code == 204
    for other in (f"/v1/messages/{second}/events", f"/v1/messages/{first}", "/v1/projects"):
        refused(nobody.get(f"{other}?ticket={ticket}"), 401, "unauthorized")


def test_a_ticket_for_what_operators_watch_is_given_to_operators_alone(api: Api) -> None:
    anna, operator = api.person(), api.operator()
    for path in ("/v1/ops/socket", "/v1/ops/events"):
        refused(anna.post("/v1/tickets", {"path": path}), 404, "not_found")
        ticket = ticket_for(operator, path)
    assert api.nobody().call("HEAD", f"{path}?ticket={ticket}").status_code == 200
    refused(api.nobody().get(f"/v1/ops/summary?ticket={ticket}"), 401, "unauthorized")


def test_a_ticket_is_written_down_for_one_path_however_the_id_is_spelled(api: Api) -> None:
    anna = api.person()
    message_id = finished_message(api, anna)
    ticket = ticket_for(anna, f"/v1/messages/{message_id.upper()}/events")
    assert api.nobody().get(f"/v1/messages/{message_id}/events?ticket={ticket}&after=9-9").status_code == 204


def test_a_ticket_dies_with_its_token(api: Api, engine: Engine) -> None:
    anna = api.person()
    path = f"/v1/messages/{finished_message(api, anna)}/events"
    ticket = ticket_for(anna, path)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tokens SET revoked_at = now()"))
    refused(api.nobody().get(f"{path}?ticket={ticket}"), 401, "unauthorized")


def test_a_ticket_expires(api: Api, engine: Engine) -> None:
    anna = api.person()
    path = f"/v1/messages/{finished_message(api, anna)}/events"
    ticket = ticket_for(anna, path)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tickets SET expires_at = now()"))
    refused(api.nobody().get(f"{path}?ticket={ticket}"), 401, "unauthorized")


def test_of_many_that_race_with_a_single_use_ticket_one_gets_in(api: Api) -> None:
    """Sixteen threads, one ticket of a socket."""
    anna = api.person()
    path = f"/v1/messages/{finished_message(api, anna)}/socket"
    ticket = ticket_for(anna, path)
    barrier = threading.Barrier(16)

    def redeem(_: int) -> bool:
        barrier.wait()
        return api.store.redeem_ticket(ticket, path) is not None

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(redeem, range(16))) == 1


def test_tickets_are_kept_as_digests(api: Api, engine: Engine) -> None:
    anna = api.person()
    ticket = ticket_for(anna, f"/v1/messages/{finished_message(api, anna)}/events")
    with engine.connect() as connection:
        assert ticket not in str(connection.execute(text("SELECT * FROM tickets")).all())
        assert str(anna.token) not in str(connection.execute(text("SELECT * FROM tokens")).all())


NO_STREAMS = [
    "/v1/projects",
    "/v1/messages/x/events",
    "/v1/messages/{id}",
    "/v1/messages/{id}/events/",
    "/v1/messages/{id}/events?after=1-1",
    "//v1/messages/{id}/events",
    "http://evil.example/v1/messages/{id}/events",
    "/v1/messages/{id}/../{id}/events",
    "/v1/messages/{id}/events\n",
]


def test_a_ticket_is_for_a_stream_and_nothing_else(api: Api) -> None:
    anna = api.person()
    message_id = finished_message(api, anna)
    for path in NO_STREAMS:
        refused(anna.post("/v1/tickets", {"path": path.replace("{id}", message_id)}), 404, "not_found")


# --- origins ----------------------------------------------------------------------------------------------------


FOREIGN = [
    "https://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://localhost:81",
    "",
    "http://",
    "file://",
    "//localhost",
    "http://[bad",
    "http://localhost:99999999",
    "javascript://localhost",
    "http://localhost@evil.example",
]


def test_a_page_of_a_foreign_origin_may_not_call(api: Api) -> None:
    """403 on every call, also with a valid token; nothing is done."""
    anna = api.person()
    for origin in FOREIGN:
        headers = {"Origin": origin}
        refused(anna.get("/v1/projects", headers=headers), 403, "foreign_origin")
        refused(anna.post("/v1/projects", {"name": "x"}, headers=headers), 403, "foreign_origin")
    assert answered(anna.get("/v1/projects"), 200)["items"] == []


def test_a_page_of_the_own_host_may_call(api: Api) -> None:
    """Also behind a proxy that ends TLS. No CORS header is needed, and none is given."""
    anna = api.person()
    for origin in ("http://localhost", "http://localhost:80", "https://localhost", "HTTP://LOCALHOST"):
        response = anna.get("/v1/projects", headers={"Origin": origin})
        answered(response, 200)
        assert "Access-Control-Allow-Origin" not in response.headers


def test_a_page_of_an_allowed_origin_may_call_and_read(api: Api) -> None:
    """With the preflight that a browser sends first."""
    origin = "https://app.example"
    anna = api.person(app=api.new_app(allowed_origins=(origin,)))
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    asked = Person(anna.app, "browser", None).call("OPTIONS", "/v1/projects", headers=preflight)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == origin
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    read = anna.get("/v1/projects", headers={"Origin": origin})
    assert read.headers["Access-Control-Allow-Origin"] == origin
    assert "Origin" in read.headers["Vary"]
    refused(anna.get("/v1/projects", headers={"Origin": "https://other.example"}), 403, "foreign_origin")


def test_the_client_for_browsers_may_be_imported_by_any_page(api: Api) -> None:
    """And its types read, by anybody."""
    for path, kind in (("/clients/chatrelay.js", "text/javascript"), ("/clients/chatrelay.d.ts", "text/plain")):
        response = api.nobody().get(path, headers={"Origin": "https://other.example"})
        answered(response, 200)
        assert response.mimetype == kind
        assert "export class ChatRelay" in response.text
        assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_every_answer_carries_the_headers_that_bound_a_page(api: Api) -> None:
    """Pages, data, refusals: no foreign script, no sniffing; what is private is not stored."""
    for path in ("/", "/docs", "/v1/projects", "/nope", "/static/app/main.js", "/healthz"):
        response = api.nobody().get(path)
        policy = response.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "same-origin"
    assert api.person().get("/v1/projects").headers["Cache-Control"] == "no-store"
