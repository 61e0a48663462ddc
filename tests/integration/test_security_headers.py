"""What every answer says to a browser, whatever is asked: pages, data, files, refusals, streams."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from flask import Flask
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

from api.app import ROUTES
from api.calls import Access, Call
from api.security_headers import SECURITY_HEADERS
from tests.integration.api_parts import Api, Person

_STATIC: Final = Path(__file__).parents[2] / "api" / "static"
_PARTS: Final = {"version": "1", "user": "somebody", "chatId": "chat", "procedures": "chat.getMessages"}
_ENDLESS: Final = {"ops_events_stream"}
"""With a good token."""


def path_of(call: Call) -> str:
    path = call.path
    for name in call.path_parts:
        path = path.replace(f"{{{name}}}", _PARTS.get(name, str(uuid.uuid4())))
    return path


def asked(person: Person, method: str, path: str, **headers: str) -> TestResponse:
    body = b"{not json" if method in ("POST", "PUT", "PATCH") else None
    return person.call(method, path, raw=body, headers=headers)


def answers(api: Api) -> Iterator[tuple[str, TestResponse]]:
    """An answer of each kind that each call has: refused, served, of a method that it does not have, asked about."""
    people = {"nobody": api.nobody(), "operator": api.operator()}
    for call in ROUTES:
        for who, person in people.items():
            method = "HEAD" if call.name in _ENDLESS and who == "operator" else call.method
            for tried in (method, "OPTIONS", "DELETE" if call.method != "DELETE" else "POST"):
                yield f"{who}: {tried} {call.path}", asked(person, tried, path_of(call))
    for path in ("/docs", "/docs.css", "/openapi.json", "/nope", "/v1/nope", "/static/", "/static/nope.js", "/docs/"):
        yield path, asked(people["nobody"], "GET", path)
    for file in sorted(_STATIC.rglob("*.*")):
        path = f"/static/{file.relative_to(_STATIC)}"
        yield path, asked(people["nobody"], "GET", path)


def test_every_answer_of_every_route_bounds_the_page_that_reads_it(api: Api) -> None:
    statuses = set()
    for what, response in answers(api):
        statuses.add(response.status_code)
        for name, value in SECURITY_HEADERS.items():
            if name == "Cross-Origin-Resource-Policy":
                assert response.headers[name] in (value, "cross-origin"), what
            else:
                assert response.headers[name] == value, (what, name)
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Request-Id"], what
        assert "Strict-Transport-Security" not in response.headers, what
        assert "Server" not in response.headers, what
        assert "Set-Cookie" not in response.headers, what
    assert statuses >= {200, 400, 401, 404, 405, 415, 426}


def test_nothing_private_is_kept_by_anybody_on_the_way(api: Api) -> None:
    """What a token opened, or failed to open, is stored neither by proxies nor by the browser."""
    public = {call.path for call in ROUTES if call.access is Access.ANYBODY}
    for what, response in answers(api):
        path = what.rpartition(" ")[2]
        if path in public or path.startswith(("/static/", "/docs", "/openapi.json")):
            continue
        assert response.headers["Cache-Control"] in ("no-store", "private, no-cache"), what


def test_who_came_by_tls_is_told_to_stay_with_it(api: Api) -> None:
    """The scheme is what the web server makes of a trusted proxy's word; test_slow_clients.py has an untrusted one's."""
    for path in ("/", "/v1/projects", "/nope", "/static/app/main.js"):
        response = api.app.test_client().get(path, base_url="https://chat.example", buffered=True)
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


# --- other origins ----------------------------------------------------------------------------------------------

_ORIGIN: Final = "https://app.example"


@pytest.fixture
def crossed(api: Api) -> Flask:
    """With an origin that is allowed."""
    return api.new_app(allowed_origins=(_ORIGIN,))


@pytest.mark.parametrize("origin", [_ORIGIN, "https://evil.example", "null", "https://app.example.evil.example", None])
def test_an_answer_may_be_read_by_allowed_origins_alone_and_never_with_cookies(
    api: Api, crossed: Flask, origin: str | None
) -> None:
    person = api.person(app=crossed)
    headers = {} if origin is None else {"Origin": origin}
    for call in ROUTES:
        if call.is_socket:
            continue
        for response in (
            person.call("HEAD" if call.method == "GET" else call.method, path_of(call), raw=b"{", headers=headers),
            person.call("OPTIONS", path_of(call), headers=headers | {"Access-Control-Request-Method": call.method}),
        ):
            found = response.headers
            assert "Access-Control-Allow-Credentials" not in found
            assert "Origin" in found["Vary"]
            if call.any_origin:
                assert found["Access-Control-Allow-Origin"] == "*"
                assert found["Cross-Origin-Resource-Policy"] == "cross-origin"
            elif origin == _ORIGIN:
                assert found["Access-Control-Allow-Origin"] == _ORIGIN
            else:
                assert "Access-Control-Allow-Origin" not in found
                if origin is not None and call.access is not Access.ANYBODY:
                    assert response.status_code == 403


def test_without_allowed_origins_nothing_varies_and_no_other_page_reads_anything(api: Api) -> None:
    for path in ("/v1/projects", "/page.json", "/"):
        response = api.person().get(path)
        assert "Vary" not in response.headers
        assert "Access-Control-Allow-Origin" not in response.headers


# --- what the framework does not answer -------------------------------------------------------------------------


def head_of(address: str, request: bytes) -> tuple[int, Headers]:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        raw = b""
        while b"\r\n\r\n" not in raw:
            data = connection.recv(4096)
            assert data, raw
            raw += data
    status, *lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    named = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return int(status.split()[1]), Headers(named)


@pytest.mark.parametrize("kind", ["messages", "projects"])
def test_a_stream_whose_connection_was_taken_bears_the_same_headers(api: Api, served: str, kind: str) -> None:
    anna = api.person()
    project_id = anna.project()["id"]
    thing = project_id if kind == "projects" else anna.pair(project_id)["assistantMessage"]["id"]
    lines = [f"GET /v1/{kind}/{thing}/events HTTP/1.1", f"Host: {served}", f"Authorization: Bearer {anna.token}"]
    status, headers = head_of(served, "\r\n".join([*lines, "", ""]).encode())
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    for name, value in SECURITY_HEADERS.items():
        assert headers[name] == value


SOCKETS: Final = [call for call in ROUTES if call.is_socket]


@pytest.mark.parametrize("call", SOCKETS, ids=lambda call: call.name)
def test_a_socket_is_not_opened_for_a_page_of_another_origin(api: Api, served: str, call: Call) -> None:
    """Also not for a sandboxed one, whose origin is null; a client that is no browser sends none."""
    anna = api.operator()
    path = path_of(call) + ("?connectionParams=1" if call.name == "trpc_socket" else "")
    if "{projectId}" in call.path or "{chatId}" in call.path:
        path = call.path.replace("{projectId}", found := anna.project()["id"]).replace("{chatId}", found)
    if "{messageId}" in call.path:
        path = call.path.replace("{messageId}", anna.pair(anna.project()["id"])["assistantMessage"]["id"])

    def status_from(origin: str | None) -> int:
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {served}",
            f"Authorization: Bearer {anna.token}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Extensions: permessage-deflate",
            *([] if origin is None else [f"Origin: {origin}"]),
        ]
        status, headers = head_of(served, "\r\n".join([*lines, "", ""]).encode())
        assert "Sec-WebSocket-Extensions" not in headers
        return status

    for origin in ("null", "https://evil.example", "", "file://"):
        assert status_from(origin) == 403, origin
    assert status_from(None) == status_from(f"http://{served}") == status_from(f"https://{served}") == 101
