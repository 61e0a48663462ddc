"""Who may come in, and that nobody reads or changes what is not theirs: every call of the route table is tried by everybody.

`MATRIX` says what each is answered; the counts of what was tried are among the last lines of the run.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, get_args, get_type_hints
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, text

from api.app import CALLS, ROUTES
from api.calls import EVENT_STREAM, Access, Call
from api.protocols.ai_sdk.socket import _Frame as AiSdkFrame
from api.protocols.trpc.procedures import PROCEDURES
from api.refusals import Unauthorized
from shared import errors
from tests.identity_provider import providing
from tests.integration.access_parts import (
    ANYBODY,
    CANARY,
    EDITORS,
    FINISH_ME,
    LET_IN,
    MEMBERS,
    NOT_EVEN_OWNERS,
    OPERATORS,
    OWNERS,
    PRINCIPALS,
    SIGNED_IN,
    STREAMS,
    Nobody,
    Refused,
    Scene,
    Stream,
    Tally,
    World,
    nowhere,
    opened,
    ticket_for,
    trpc_status,
    with_ids,
)
from tests.integration.ai_sdk_parts import posted, said
from tests.integration.api_parts import Api, Person, answered, refused, refused_in_words, serving
from tests.integration.trpc_parts import follow

BODIES: dict[str, Any] = {
    "create_project": {"name": "x"},
    "change_project": {"name": "stolen"},
    "patch_document": [{"op": "add", "path": "/stolen", "value": 1}],
    "submit_message": {"content": "x"},
    "create_ticket": {"path": "/v1/messages/{messageId}/events"},
    "put_member": {"role": "viewer"},
    "reprocess": {"status": "error"},
    "ai_chat": {"messages": [{"role": "user", "id": "m", "parts": [{"type": "text", "text": "x"}]}]},
    "create_response": {"model": "chatrelay:{projectId}", "input": "x", "background": True},
    "create_completion": {
        "model": "chatrelay:{projectId}",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
    },
}
"""A valid body for each call that has one; a new call without one fails here."""
QUERIES = {"compare_versions": "from=1&to=2"}
MATRIX: dict[str, dict[str, int]] = {
    # nobody stranger operator viewer editor owner
    "get_me": SIGNED_IN,
    "create_project": SIGNED_IN,
    "list_projects": SIGNED_IN,
    "get_project": MEMBERS,
    "change_project": EDITORS,
    "delete_project": OWNERS,
    "patch_document": EDITORS,
    "list_versions": MEMBERS,
    "get_version": MEMBERS,
    "compare_versions": MEMBERS,
    "undo": EDITORS,
    "redo": EDITORS,
    "list_members": MEMBERS,
    "put_member": OWNERS,
    "remove_member": OWNERS,
    "submit_message": EDITORS,
    "list_messages": MEMBERS,
    "get_message": MEMBERS,
    "cancel_message": EDITORS,
    "retry_message": EDITORS,
    "list_jobs": MEMBERS,
    "get_job": MEMBERS,
    "get_job_source": MEMBERS,
    "get_job_bundle": MEMBERS,
    "preview_job": MEMBERS,
    "preview_project": MEMBERS,
    "message_socket": MEMBERS,
    "message_events": MEMBERS,
    "project_socket": MEMBERS,
    "project_events": MEMBERS,
    "create_ticket": MEMBERS,
    "reprocess": OPERATORS,
    "list_batches": OPERATORS,
    "get_batch": OPERATORS,
    "list_batch_items": OPERATORS,
    "get_batch_report": OPERATORS,
    "pause_batch": OPERATORS,
    "resume_batch": OPERATORS,
    "stop_batch": OPERATORS,
    "ops_summary": OPERATORS,
    "ops_socket": OPERATORS,
    "ops_events_stream": OPERATORS,
    "list_operator_messages": OPERATORS,
    "get_operator_message": OPERATORS,
    "cancel_operator_message": OPERATORS,
    "retry_operator_message": OPERATORS,
    "healthz": ANYBODY,
    "readyz": ANYBODY,
    "get_metrics": ANYBODY,
    "page": ANYBODY,
    "operators_page": ANYBODY,
    "page_facts": ANYBODY,
    "client_module": ANYBODY,
    "client_types": ANYBODY,
    "ai_chat": EDITORS,
    "ai_chat_stream": MEMBERS,
    "ai_chat_stream_of_chat": MEMBERS,
    "ai_chat_stop": EDITORS,
    "ai_chat_socket": MEMBERS,
    "create_response": EDITORS,
    "get_response": MEMBERS,
    "cancel_response": EDITORS,
    "list_input_items": MEMBERS,
    "delete_response": NOT_EVEN_OWNERS,
    "create_completion": EDITORS,
    "list_models": SIGNED_IN,
    "trpc_socket": MEMBERS,  # to follow an answer on it
    "trpc_types": ANYBODY,
}
"""Who may make which call: what each of `PRINCIPALS` is answered about somebody's project. A new call without a row fails."""
PROCEDURES_MATRIX: dict[str, dict[str, int]] = {
    "chat.initiateChat": EDITORS,
    "chat.sendMessage": EDITORS,
    "chat.getMessages": MEMBERS,
    "chat.streamResponse": MEMBERS,
}
"""The same of tRPC's procedures, over HTTP and on its socket: `trpc_get`, `trpc_post`, `trpc_socket`."""
FRAMES_MATRIX: dict[tuple[str, str], dict[str, int]] = {
    ("message_socket", "cancel"): EDITORS,
    ("project_socket", "cancel"): EDITORS,
    ("ai_chat_socket", "send"): EDITORS,
    ("ai_chat_socket", "resume"): MEMBERS,
    ("ai_chat_socket", "abort"): NOT_EVEN_OWNERS,  # of an answer that one resumed: it is nobody's to end so
}
"""The same of what a client says on a socket that it was let in to."""
ENDLESS = {
    "project_events",
    "ops_events_stream",
    "ai_chat",
    "ai_chat_stream",
    "ai_chat_stream_of_chat",
    "create_completion",
}
"""Streams that do not end by themselves, here: they are not read."""
LACKING = {"redo", "get_job_source", "get_job_bundle", "preview_job"}
"""There is nothing to redo and nothing built, and that is said (409) to those alone who may."""
NOT_OF_THE_ROUTES = {"static", "openapi_json", "docs", "docs_css"}
"""What is served beside the route table, to anybody."""
OF_A_PROJECT = [
    call
    for call in CALLS
    if call.access is not Access.ANYBODY and not call.is_socket and call.path_parts and call.scope is None
]


@pytest.fixture
def world(api: Api, engine: Engine) -> Iterator[World]:
    with providing() as provider:
        yield World(api, engine, provider)


def test_every_call_and_procedure_has_its_row_and_nothing_else_is_served(api: Api) -> None:
    """So that what is added is tried: a route, a procedure of tRPC's, a frame of the AI SDK's."""
    by_procedure = {"trpc_get", "trpc_post"}
    assert {call.name for call in ROUTES} == set(MATRIX) | by_procedure
    assert {call.name for call in ROUTES if call.access is Access.PROTOCOL} == by_procedure | {"trpc_socket"}
    assert set(PROCEDURES_MATRIX) == set(PROCEDURES)
    frames = {frame for socket, frame in FRAMES_MATRIX if socket == "ai_chat_socket"}
    assert frames == set(get_args(get_type_hints(AiSdkFrame)["type"]))
    assert {call.name for call in ROUTES if call.is_socket} - {name for name, _ in FRAMES_MATRIX} == {
        "ops_socket",  # on which nothing can be asked for
        "trpc_socket",
    }
    served = {
        rule.endpoint.removesuffix("_without_upgrade").rpartition(".")[2] for rule in api.app.url_map.iter_rules()
    }
    assert served == {call.name for call in ROUTES} | NOT_OF_THE_ROUTES
    assert {name for name in MATRIX if MATRIX[name] is ANYBODY} == {
        call.name for call in ROUTES if call.access is Access.ANYBODY
    }


# --- over HTTP --------------------------------------------------------------------------------------------------


def asked(call: Call, ids: Mapping[str, str], person: Person, *, query: str = "", headers: Any = None) -> Any:
    """The answer; of a stream without an end its beginning."""
    queries = "&".join(filter(None, (QUERIES.get(call.name), query)))
    path = with_ids(call.path, ids) + (f"?{queries}" if queries else "")
    return person.call(
        call.method,
        path,
        body=with_ids(BODIES[call.name], ids) if call.body is not None else ...,
        media_type=call.body_media_type,
        headers=headers,
        buffered=call.name not in ENDLESS,
    )


def told_by(call: Call, response: Any) -> bytes:
    """Its body, but where that has no end."""
    if call.name in ENDLESS and response.status_code == 200:
        return b""
    body: bytes = response.data
    return body


def test_every_call_answers_those_whom_it_should_and_nobody_else(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """Whoever may not is told the same as of what does not exist, to the byte; nothing changes, nothing is told."""
    tally = Tally()
    for call in ROUTES:
        if not call.is_socket and call.name in MATRIX:
            try_call(world, call, MATRIX[call.name], tally)
    published(record_property, tally, at_least=1_500)


def try_call(world: World, call: Call, expected: dict[str, int], tally: Tally) -> None:
    scene = world.scene(finished=call.name in ("message_events", "retry_message", "retry_operator_message"))
    before = world.everything()
    anonymous = Person(world.app, "nobody", None)
    for nobody in world.nobodies:
        response = asked(call, scene.ids, anonymous, query=nobody.query, headers=dict(nobody.headers))
        what = f"{call.name} {nobody.name}"
        tally.note(what, response.status_code, expected["nobody"])
        if expected["nobody"] == 401 and response.status_code == 401:
            refused_in_words(call, response, 401, Unauthorized.code)
            tally.check(f"{what}: how to authenticate", response.headers["WWW-Authenticate"].startswith("Bearer"))
        tally.check(f"{what} is told something", CANARY.encode() not in told_by(call, response))
        response.close()
    tally.check(f"{call.name} by nobody changes something", world.everything() == before)
    for name, person in world.people.items():
        before = world.everything()
        response = asked(call, scene.ids, person)
        what = f"{call.name} as {name}"
        is_late = response.status_code == 409 and (call.name in LACKING or name not in first_let_in(expected))
        is_let_in = response.status_code < 300 or is_late
        tally.note(what, LET_IN if is_let_in else response.status_code, expected[name])
        body = told_by(call, response)
        response.close()
        if expected[name] != LET_IN:
            tally.check(f"{what} changes something", world.everything() == before)
            tally.check(f"{what} is told something", CANARY.encode() not in body)
            if expected[name] == 404:
                elsewhere = asked(call, nowhere(), person)
                tally.note(f"{what} of what does not exist", elsewhere.status_code, 404)
                tally.check(f"{what} tells what is there from what is not", elsewhere.data == body)


def first_let_in(expected: dict[str, int]) -> set[str]:
    """Those who come before anybody has changed what they ask for."""
    return set([name for name in PRINCIPALS if expected[name] == LET_IN][:1])


def published(record_property: Callable[[str, object], None], tally: Tally, *, at_least: int) -> None:
    """The counts go into the run's last lines (tests/conftest.py)."""
    record_property("accesses tried", tally.tried)
    record_property("accesses that should not have succeeded", len(tally.wrong))
    assert tally.wrong == []
    assert tally.tried >= at_least


# --- tRPC -------------------------------------------------------------------------------------------------------


def procedure_input(path: str, pair: dict[str, Any]) -> dict[str, Any]:
    answer = pair["assistantMessage"]
    given = {"projectId": answer["projectId"]}
    if path == "chat.streamResponse":
        return {**given, "assistantMessageId": answer["id"]}
    return given if path == "chat.getMessages" else {**given, "message": FINISH_ME}


def call_procedure(path: str, pair: dict[str, Any], person: Person, *, query: str = "", headers: Any = None) -> Any:
    given = procedure_input(path, pair)
    if PROCEDURES[path].kind == "mutation":
        return person.call("POST", f"/trpc/{path}?{query}", body=given, headers=headers)
    return person.get(f"/trpc/{path}?input={quote(json.dumps(given))}&{query}", headers=headers)


def test_every_procedure_of_trpc_answers_those_whom_it_should_and_nobody_else(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """Over HTTP, with the token in the header or in the connection parameters."""
    tally = Tally()
    anonymous = Person(world.app, "nobody", None)
    nothing = {"assistantMessage": {"id": str(uuid.uuid4()), "projectId": str(uuid.uuid4())}}
    with world.answering():
        for path, expected in PROCEDURES_MATRIX.items():
            pair = world.scene(finished=True).pair
            before = world.everything()
            for nobody in world.nobodies:
                queries = [(nobody.query, dict(nobody.headers))]
                if nobody.token is not None:
                    queries.append((f"connectionParams={quote(json.dumps({'token': nobody.token}))}", {}))
                for query, headers in queries:
                    response = call_procedure(path, pair, anonymous, query=query, headers=headers)
                    tally.note(f"{path} {nobody.name}", trpc_status(response), expected["nobody"])
                    tally.check(f"{path} {nobody.name} is told something", CANARY.encode() not in response.data)
            tally.check(f"{path} by nobody changes something", world.everything() == before)
            for name, person in world.people.items():
                params = f"connectionParams={quote(json.dumps({'token': person.token}))}"
                for who, query in ((person, ""), (anonymous, params)):
                    before = world.everything()
                    response = call_procedure(path, pair, who, query=query)
                    tally.note(f"{path} as {name}", trpc_status(response), expected[name])
                    if expected[name] != LET_IN:
                        tally.check(f"{path} as {name} changes something", world.everything() == before)
                        tally.check(f"{path} as {name} is told something", CANARY.encode() not in response.data)
                    if expected[name] == 404:
                        elsewhere = call_procedure(path, nothing, who, query=query)
                        tally.check(f"{path} tells what is there from what is not", elsewhere.data == response.data)
    published(record_property, tally, at_least=150)


# --- sockets and event streams ----------------------------------------------------------------------------------


def test_every_stream_is_opened_for_those_whom_it_should_and_nobody_else(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """At a server that gives its connections away. On tRPC's socket: an answer is followed."""
    tally = Tally()
    pair = world.scene().pair
    with serving(world.app) as served:
        for stream in STREAMS:
            expected = MATRIX["create_response" if stream.body else stream.call] if stream.call in MATRIX else MEMBERS
            for nobody in world.nobodies:
                who = Person(world.app, nobody.name, nobody.token)
                tally.note(
                    f"{stream.call} {nobody.name}", opening(served, stream, pair, who, nobody), expected["nobody"]
                )
            for name, person in world.people.items():
                tally.note(f"{stream.call} as {name}", opening(served, stream, pair, person), expected[name])
    published(record_property, tally, at_least=350)


def opening(served: str, stream: Stream, pair: Any, who: Person, nobody: Nobody | None = None) -> int:
    try:
        with opened(served, stream, pair, who, nobody=nobody):
            return LET_IN
    except Refused as refused:
        return refused.status


def test_what_is_said_on_a_socket_is_heeded_of_those_who_may(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """To read is enough to be let in; to change something by a frame it takes what it takes over HTTP."""
    tally = Tally()
    with serving(world.app) as served:
        for (socket, frame), expected in FRAMES_MATRIX.items():
            for name in ("viewer", "editor", "owner"):
                scene = world.scene()
                before = world.everything()
                found = say(served, socket, frame, scene, world.people[name])
                tally.note(f"{frame} on {socket} as {name}", found, expected[name])
                if expected[name] != LET_IN:
                    tally.check(f"{frame} on {socket} as {name} changes something", world.everything() == before)
    published(record_property, tally, at_least=15)


def say(served: str, socket: str, frame: str, scene: Scene, person: Person) -> int:
    """How a frame was answered."""
    stream = next(stream for stream in STREAMS if stream.call == socket)
    with opened(served, stream, scene.pair, person) as line:
        match frame:
            case "cancel":
                line.say({"type": "cancel", "messageId": scene.message_id})
                return line.until({"forbidden": 403, '"status":"cancelled"': LET_IN})
            case "send":
                line.say({"type": "send", "requestId": "s", "id": "chat-1", **posted(said(FINISH_ME))})
                return line.until({errors.Forbidden().detail: 403, '"requestId":"s"': LET_IN})
            case "resume":
                line.say({"type": "resume", "requestId": "s", "id": "chat-1", "headers": {}, "body": {}})
                return line.until({errors.NotFound().detail: 404, '"requestId":"s"': LET_IN})
            case "abort":  # of what `opened` resumed; the next frame is answered once it was heard
                line.say({"type": "abort", "requestId": "r"})
                line.say({"type": "resume", "requestId": "s", "id": "chat-1", "headers": {}, "body": {}})
                line.until({'"requestId":"s"': LET_IN})
                row = answered(person.get(f"/v1/messages/{scene.message_id}"), 200)
                return 403 if row["status"] == "pending" else LET_IN
    raise AssertionError(frame)


# --- what is referred to ----------------------------------------------------------------------------------------


def references(theirs: Scene, mine: dict[str, Any], stranger: Person) -> dict[str, tuple[Callable[[], Any], set[int]]]:
    """Requests for what is the caller's own that name something of somebody else's; and how they may be answered."""
    own = {name: mine["assistantMessage"][name] for name in ("id", "projectId")}
    project, message = f"/v1/projects/{own['projectId']}", theirs.message_id
    chat, openai = f"/v1/ai/chat/{own['projectId']}", "/v1/openai"
    job, user_message = theirs.ids["jobId"], theirs.pair["userMessage"]["id"]
    their_address, said_again = f"/v1/projects/{theirs.project_id}", said("x", message_id="again")
    tickets = [
        *(f"/v1/messages/{message}/{kind}" for kind in ("socket", "events")),
        *(f"{their_address}/{kind}" for kind in ("socket", "events", "preview")),
        *(f"/v1/jobs/{job}/{kind}" for kind in ("bundle.js", "preview")),
        f"/v1/ai/chat/{theirs.project_id}/socket",
        *("/v1/ops/socket", "/v1/ops/events"),
    ]

    def get(path: str) -> Callable[[], Any]:
        return lambda: stranger.get(path)

    def post(path: str, body: Any = ..., **headers: str) -> Callable[[], Any]:
        return lambda: stranger.post(path, body, headers={name.replace("_", "-"): it for name, it in headers.items()})

    def response(**body: Any) -> Callable[[], Any]:
        return post(f"{openai}/responses", {"model": "chatrelay", "input": "x", "background": True, **body})

    def followed(given: dict[str, Any], more: str = "") -> Callable[[], Any]:
        return get(f"/trpc/chat.streamResponse?input={quote(json.dumps(given))}{more}")

    listed = quote(json.dumps({"projectId": own["projectId"], "before": message}))
    return {
        # cursors
        "messages before theirs": (get(f"{project}/messages?before={message}"), {200}),
        "projects before theirs": (get(f"/v1/projects?before={theirs.project_id}"), {200}),
        "jobs before theirs": (get(f"{project}/jobs?before={job}"), {200}),
        "members before theirs": (get(f"{project}/members?before={theirs.pair['userMessage']['author']}"), {200, 400}),
        "versions of their message": (get(f"{project}/versions?message={message}"), {200, 404}),
        "versions before theirs": (get(f"{project}/versions?before=99"), {200}),
        "tRPC's list before theirs": (get(f"/trpc/chat.getMessages?input={listed}"), {200}),
        # resuming
        "their events after one": (get(f"/v1/messages/{message}/events?after=1-0"), {404}),
        "their events by the header": (
            lambda: stranger.get(f"/v1/messages/{message}/events", headers={"Last-Event-ID": "1-0"}),
            {404},
        ),
        "their response behind a number": (
            get(f"{openai}/responses/resp_{message}?stream=true&starting_after=0"),
            {404},
        ),
        "their chat in mine": (get(f"{chat}/stream?messageId={message}"), {404, 204}),
        "their chat's message in mine": (get(f"{chat}/chat-1/stream?messageId={user_message}"), {404, 204}),
        "their answer written anew in my chat": (  # an id of nothing in it: what was said is said anew
            lambda: stranger.post(
                chat,
                {"trigger": "regenerate-message", "messageId": message, "messages": [said_again]},
                buffered=False,
            ),
            {200},
        ),
        "tRPC's subscription in my project": (
            followed({"projectId": own["projectId"], "assistantMessageId": message}),
            {404},
        ),
        "tRPC's subscription to mine in theirs": (
            followed({"projectId": theirs.project_id, "assistantMessageId": own["id"]}),
            {404},
        ),
        "tRPC's subscription after an event": (
            followed({"projectId": theirs.project_id, "assistantMessageId": message}, "&lastEventId=1-0"),
            {404},
        ),
        # OpenAI's
        "a response to theirs": (response(previous_response_id=f"resp_{message}"), {404}),
        "a response to theirs in my project": (
            response(previous_response_id=f"resp_{message}", model=f"chatrelay:{own['projectId']}"),
            {404},
        ),
        "a response in their project": (response(model=f"chatrelay:{theirs.project_id}"), {404}),
        "a response in their project by the header": (
            post(
                f"{openai}/responses",
                {"model": "chatrelay", "input": "x", "background": True},
                OpenAI_Project=theirs.project_id,
            ),
            {404},
        ),
        "a response in their project by metadata": (response(metadata={"projectId": theirs.project_id}), {400, 404}),
        "a response to theirs, mine by the header": (
            post(
                f"{openai}/responses",
                {
                    "model": "chatrelay",
                    "input": "x",
                    "background": True,
                    "previous_response_id": f"resp_{message}",
                },
                OpenAI_Project=own["projectId"],
            ),
            {404},
        ),
        # what somebody else sent before
        "a submit with their key": (
            post(f"{project}/messages", {"content": f"{CANARY} content"[:5]}, Idempotency_Key=CANARY),
            {202},
        ),
        "a submit to them with their key": (
            post(f"{their_address}/messages", {"content": f"{CANARY} content"}, Idempotency_Key=CANARY),
            {404},
        ),
        "a completion that is sent again": (
            post(
                f"{openai}/responses",
                {"model": f"chatrelay:{theirs.project_id}", "input": f"{CANARY} content", "background": True},
                X_Stainless_Retry_Count="1",
            ),
            {404},
        ),
        # what is for operators
        "operators' messages of their project": (get(f"/v1/ops/messages?project={theirs.project_id}"), {403}),
        "operators' events of their message": (get(f"/v1/ops/events?message={message}"), {403}),
        "a batch of their project": (
            post("/v1/ops/reprocess", {"status": "error", "project": theirs.project_id}),
            {403},
        ),
        # tickets
        **{f"a ticket for {path}": (post("/v1/tickets", {"path": path}), {404}) for path in tickets},
    }


def test_what_is_somebody_elses_is_not_reached_by_naming_it(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """In a cursor, an id to go on from, a key, a header, a ticket's path: nothing is told of it, nothing of it changes."""
    tally = Tally()
    theirs, stranger = world.scene(finished=True), world.people["stranger"]
    mine = stranger.pair(stranger.project(name="mine")["id"], "mine")
    for name, (request, statuses) in references(theirs, mine, stranger).items():
        before = world.rows_of(theirs.project_id)
        response = request()
        status = trpc_status(response) if "tRPC" in name else response.status_code
        tally.note(name, status if status not in statuses else min(statuses), min(statuses))
        is_endless = response.is_streamed and status == LET_IN and response.mimetype == EVENT_STREAM
        told = str(next(iter(response.response))) if is_endless else response.get_data(as_text=True)
        response.close()
        tally.check(f"{name} is told something: {told}", CANARY not in told and theirs.message_id not in told)
        tally.check(f"{name} changes something", world.rows_of(theirs.project_id) == before)
    published(record_property, tally, at_least=38)


def test_a_frame_that_names_somebody_elses_message_reaches_nothing(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """On sockets of one's own: cancels, resumes, subscriptions."""
    tally = Tally()
    theirs, stranger = world.scene(), world.people["stranger"]
    mine = stranger.pair(stranger.project()["id"], "mine")
    own = mine["assistantMessage"]
    before = world.rows_of(theirs.project_id)
    not_there = errors.NotFound().detail
    project = next(stream for stream in STREAMS if stream.call == "project_socket")
    chat = next(stream for stream in STREAMS if stream.call == "ai_chat_socket")
    trpc = next(stream for stream in STREAMS if stream.call == "trpc_socket")
    with serving(world.app) as served:
        with opened(served, project, mine, stranger) as line:
            line.say({"type": "cancel", "messageId": theirs.message_id})
            tally.note("a cancel", line.until({"not_found": 404, '"cancelled"': LET_IN}), 404)
        with opened(served, chat, mine, stranger) as line:
            line.say({"type": "resume", "requestId": "s", "id": "c", "body": {"messageId": theirs.message_id}})
            tally.note("a resume", line.until({not_there: 404, "no-active": 404, '"requestId":"s"': LET_IN}), 404)
            again = {"trigger": "regenerate-message", "messageId": theirs.message_id, **posted(said("x"))}
            line.say({"type": "send", "requestId": "t", **again})
            tally.note(
                "an answer anew", line.until({not_there: 404, f'"{own["id"]}"': LET_IN, '"start"': LET_IN}), LET_IN
            )
        with opened(served, trpc, mine, stranger) as line:
            for number, (project_id, message_id) in enumerate(
                [
                    (theirs.project_id, theirs.message_id),
                    (own["projectId"], theirs.message_id),
                    (theirs.project_id, own["id"]),
                ],
                start=10,
            ):
                pair = {"assistantMessage": {"id": message_id, "projectId": project_id}}
                line.say(follow(number, pair, after="1-0"))
                found = line.until({f'{{"id":{number},"error"': 404, f'"id":{number},': LET_IN})
                tally.note("a subscription to theirs", found, 404)
    assert world.rows_of(theirs.project_id) == before
    published(record_property, tally, at_least=5)


def test_a_ticket_of_one_is_of_no_use_to_another(world: World, record_property: Callable[[str, object], None]) -> None:
    """It is its owner's on its address, whoever brings it; beside a token of one's own it counts for nothing."""
    tally = Tally()
    scene, owner, anonymous = world.scene(finished=True), world.owner, Person(world.app, "nobody", None)
    paths = {
        f"/v1/messages/{scene.message_id}/events": 200,
        f"/v1/projects/{scene.project_id}/events": 200,
        f"/v1/projects/{scene.project_id}/preview": 200,
        f"/v1/jobs/{scene.ids['jobId']}/bundle.js": 409,
        f"/v1/jobs/{scene.ids['jobId']}/preview": 409,
    }
    for path, good in paths.items():
        ticket = ticket_for(owner, path)

        def status(of: str, who: Person = anonymous, ticket: str = ticket, **headers: str) -> int:
            response = who.call("GET", f"{of}?ticket={ticket}", buffered=False, headers=headers)
            response.close()
            return response.status_code

        tally.note(f"a ticket on {path}", status(path), good)
        tally.note(f"a stranger with a ticket on {path}", status(path, world.people["stranger"]), 404)
        tally.note(f"a ticket and a bad token on {path}", status(path, Authorization="Bearer unknown"), 401)
        for other in paths:
            if other != path:
                tally.note(f"a ticket for {path} on {other}", status(other), 401)
        for other in ("/v1/me", "/v1/projects", f"/v1/messages/{scene.message_id}", "/v1/ops/summary", path + "/"):
            tally.note(f"a ticket for {path} on {other}", status(other), 404 if other == path + "/" else 401)
        tally.note("a ticket for a token", asked_with(anonymous, ticket), 401)
    published(record_property, tally, at_least=50)


def asked_with(person: Person, token: str) -> int:
    status: int = person.get("/v1/me", headers={"Authorization": f"Bearer {token}"}).status_code
    return status


# --- ids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", OF_A_PROJECT, ids=lambda call: call.name)
def test_an_id_that_is_none_names_nothing(api: Api, call: Call) -> None:
    person = api.person()
    body = BODIES[call.name] if call.body is not None else ...
    for garbage in ("1", "x", "..%2f", "%00", "\u00e9", "null", "0" * 200):
        path = garbage.join(re.split(r"\{\w+\}", call.path))
        response = person.call(call.method, path, body=body, media_type=call.body_media_type)
        refused_in_words(call, response, 404, "not_found")


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
