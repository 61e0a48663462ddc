"""The events of a message on the wire: what is refused over HTTP before a stream begins, and what a stream brings."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from shared import events
from shared.transcript import Transcript, fold
from tests.integration.api_parts import Api, Person, answered, refused

KEY = base64.b64encode(b"0123456789abcdef").decode()


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


def message_of(person: Person) -> str:
    message_id: str = person.pair(person.project()["id"])["assistantMessage"]["id"]
    return message_id


def socket_path(message_id: str) -> str:
    return f"/v1/messages/{message_id}/socket"


def events_path(message_id: str) -> str:
    return f"/v1/messages/{message_id}/events"


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


def open_socket(served: str, path: str, headers: dict[str, str] | None = None) -> ClientConnection:
    return connect(f"ws://{served}{path}", additional_headers=headers or {}, proxy=None, legacy=True)


def refused_handshake(served: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Status and problem of a handshake that must not succeed."""
    with pytest.raises(InvalidStatus) as caught:
        open_socket(served, path, headers).close()
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b"")


def everything(socket: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """The events until the server closes, and its close code."""
    told: list[dict[str, Any]] = []
    with socket:
        while (frame := _next_frame(socket)) is not None:
            told.append(json.loads(frame))
        assert socket.close_code is not None
        return told, socket.close_code


def _next_frame(socket: ClientConnection) -> str | bytes | None:
    try:
        return socket.recv(timeout=30)
    except ConnectionClosed:
        return None


def shown(told: list[dict[str, Any]]) -> tuple[str, str]:
    """The text and the status that a reader of these events shows."""
    transcript = fold(Transcript(), (events.decode(json.dumps(event)) for event in told))
    return transcript.content, transcript.status


@contextmanager
def event_stream(served: str, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(served, timeout=30)
    connection.request("GET", path, headers=headers)
    with connection.getresponse() as response:
        yield response
    connection.close()


# --- before the handshake ---------------------------------------------------------------------------------------


def test_what_is_refused_before_the_handshake_is_answered_over_http(api: Api, served: str, anna: Person) -> None:
    """401, 403 for a foreign origin, 404, 400 for a bad position; each with its code."""
    message_id, stranger = message_of(anna), api.person()
    path = socket_path(message_id)
    cases: list[tuple[str, dict[str, str], int, str]] = [
        (path, {}, 401, "unauthorized"),
        (f"{path}?ticket=nonsense", {}, 401, "unauthorized"),
        (path, bearer(anna) | {"Origin": "https://evil.example"}, 403, "foreign_origin"),
        (path, bearer(anna) | {"Origin": "null"}, 403, "foreign_origin"),
        (path, bearer(stranger), 404, "not_found"),
        (socket_path(str(uuid.uuid4())), bearer(anna), 404, "not_found"),
        (socket_path("nonsense"), bearer(anna), 404, "not_found"),
        (f"{path}?after=nonsense", bearer(anna), 400, "invalid_query"),
        (f"{path}?after=0-1", bearer(anna), 400, "invalid_query"),
    ]
    for address, headers, status, code in cases:
        assert refused_handshake(served, address, headers)[0] == status
        assert refused_handshake(served, address, headers)[1]["code"] == code


def test_a_socket_address_without_an_upgrade_says_what_it_wants(api: Api, anna: Person) -> None:
    response = anna.get(socket_path(message_of(anna)))
    refused(response, 426, "upgrade_required")
    assert response.headers["Upgrade"] == "websocket"


def test_a_handshake_that_is_none_is_a_400(served: str, anna: Person) -> None:
    """A version or a key that RFC 6455 does not know is the client's fault, not ours."""
    path = socket_path(message_of(anna))
    good = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY}
    for change in ({"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Key": "short"}, {"Sec-WebSocket-Key": "é"}):
        headers = bearer(anna) | {"Connection": "Upgrade", "Upgrade": "websocket"} | good | change
        with event_stream(served, path, headers) as response:
            assert response.status == 400
            assert json.loads(response.read())["code"] == "invalid_header"


def test_one_reader_too_many_is_refused_until_another_leaves(api: Api, served: str, anna: Person) -> None:
    """429 before the handshake; sockets and event streams count alike, other users are not touched."""
    message_id = message_of(anna)
    services = api.app.extensions["chatrelay"]
    user = api.store.authenticate(str(anna.token))
    assert user is not None
    admissions = [services.relay.admit(user[0].user_id) for _ in range(api.settings.max_sockets_per_user)]
    assert refused_handshake(served, socket_path(message_id), bearer(anna))[0] == 429
    with event_stream(served, events_path(message_id), bearer(anna)) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
    other = api.person()
    with open_socket(served, socket_path(message_of(other)), bearer(other)):
        pass
    admissions.pop().release()
    with open_socket(served, socket_path(message_id), bearer(anna)):
        pass
    for admission in admissions:
        admission.release()


def test_a_page_of_the_own_host_may_open_a_socket(served: str, anna: Person) -> None:
    headers = bearer(anna) | {"Origin": f"http://{served}"}
    with open_socket(served, socket_path(message_of(anna)), headers):
        pass


# --- streams ----------------------------------------------------------------------------------------------------


def test_a_socket_brings_what_the_log_has_and_then_what_comes(api: Api, served: str, anna: Person) -> None:
    message_id = message_of(anna)
    socket = open_socket(served, socket_path(message_id), bearer(anna))
    socket.send('{"type":"ping"}')
    assert json.loads(socket.recv(timeout=30)) == {"type": "pong"}
    api.finish(message_id, "Hello.")
    told, code = everything(socket)
    assert shown(told) == ("Hello.", "success")
    assert code == 1000


def test_a_ticket_opens_its_socket_once(served: str, anna: Person) -> None:
    """A browser's way: no header, a ticket in the address; the second try is a 401."""
    path = socket_path(message_of(anna))
    ticket = answered(anna.post("/v1/tickets", {"path": path}), 201)["ticket"]
    with open_socket(served, f"{path}?ticket={ticket}"):
        pass
    assert refused_handshake(served, f"{path}?ticket={ticket}")[0] == 401


def test_a_mistake_in_the_address_does_not_use_up_the_ticket(served: str, anna: Person) -> None:
    path = socket_path(message_of(anna))
    ticket = answered(anna.post("/v1/tickets", {"path": path}), 201)["ticket"]
    assert refused_handshake(served, f"{path}?ticket={ticket}&after=x")[0] == 400
    with open_socket(served, f"{path}?ticket={ticket}"):
        pass


def test_a_cancel_frame_ends_the_message(api: Api, served: str, anna: Person) -> None:
    """The same as the call: committed by the API where no worker holds the message."""
    message_id = message_of(anna)
    socket = open_socket(served, socket_path(message_id), bearer(anna))
    socket.send('{"type":"cancel"}')
    told, code = everything(socket)
    assert (told[-1]["type"], told[-1]["status"], code) == ("finalized", "cancelled", 1000)
    assert answered(anna.get(f"/v1/messages/{message_id}"), 200)["status"] == "cancelled"


def test_a_reader_that_has_had_the_end_is_closed_at_once(api: Api, served: str, anna: Person) -> None:
    """1000 on a socket, 204 for an event stream, which stops an EventSource."""
    message_id = message_of(anna)
    api.finish(message_id)
    last, _ = everything(open_socket(served, socket_path(message_id), bearer(anna)))
    position = last[-1]["id"]
    assert everything(open_socket(served, f"{socket_path(message_id)}?after={position}", bearer(anna))) == ([], 1000)
    assert anna.get(f"{events_path(message_id)}?after={position}").status_code == 204
    assert anna.get(events_path(message_id), headers={"Last-Event-ID": position}).status_code == 204


def test_an_event_stream_brings_the_same_events(api: Api, served: str, anna: Person) -> None:
    """`id:` and `data:` lines, ended after the terminal event, on a connection that costs no thread."""
    message_id = message_of(anna)
    lines: list[str] = []

    def read() -> None:
        with event_stream(served, events_path(message_id), bearer(anna)) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            started.set()
            lines.extend(response.read().decode().splitlines())

    started = threading.Event()
    reading = threading.Thread(target=read)
    reading.start()
    assert started.wait(30)
    api.finish(message_id, "Hello.")
    reading.join(30)
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert shown(told) == ("Hello.", "success")
    assert [line.removeprefix("id: ") for line in lines if line.startswith("id: ")] == [event["id"] for event in told]
    assert not [line for line in lines if line.startswith("event")]


def test_the_header_overrides_the_address_of_an_event_stream(api: Api, served: str, anna: Person) -> None:
    """An EventSource keeps its first address and sends where it is in the header."""
    message_id = message_of(anna)
    api.finish(message_id, "Hello.")
    headers = bearer(anna) | {"Last-Event-ID": "1-0"}
    with event_stream(served, f"{events_path(message_id)}?after=9-9", headers) as response:
        assert response.read().count(b"data: ") == 1
    refused(anna.get(events_path(message_id), headers={"Last-Event-ID": "nonsense"}), 400, "invalid_header")


def test_a_server_that_gives_no_connection_away_streams_in_the_requests_thread(api: Api, anna: Person) -> None:
    """As the test client: the same events in the same form."""
    message_id = message_of(anna)
    api.finish(message_id, "Hello.")
    response = anna.get(events_path(message_id))
    assert response.mimetype == "text/event-stream"
    told = [json.loads(line[6:]) for line in response.data.splitlines() if line.startswith(b"data: ")]
    assert shown(told) == ("Hello.", "success")
    services = api.app.extensions["chatrelay"]
    assert not services.relay._admitted, "the admission was given back"


def test_a_users_message_has_no_events(api: Api, served: str, anna: Person) -> None:
    """A reader of it is done at once."""
    message_id = anna.pair(anna.project()["id"])["userMessage"]["id"]
    assert anna.get(events_path(message_id)).status_code == 204
    assert everything(open_socket(served, socket_path(message_id), bearer(anna))) == ([], 1000)


def test_asking_for_the_head_of_a_stream_opens_none(api: Api, anna: Person) -> None:
    response = anna.call("HEAD", events_path(message_of(anna)))
    assert response.status_code == 200
    assert response.data == b""
    services = api.app.extensions["chatrelay"]
    assert services.relay.readers == 0


def test_deleting_a_project_closes_its_sockets(api: Api, served: str, anna: Person) -> None:
    """4403, which tells a client not to come back."""
    project = anna.project()
    message_id = anna.pair(project["id"])["assistantMessage"]["id"]
    socket = open_socket(served, socket_path(message_id), bearer(anna))
    socket.send('{"type":"ping"}')
    socket.recv(timeout=30)
    assert anna.delete(f"/v1/projects/{project['id']}").status_code == 204
    assert everything(socket)[1] == 4403
