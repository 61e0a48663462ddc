"""What the edge refuses whatever the call: bodies, addresses, methods, and failures of our own."""

from __future__ import annotations

import http.client
import logging
from typing import Any

import msgspec
import pytest
from flask import Flask
from sqlalchemy.exc import ProgrammingError

from api.app import create_app
from api.errors import Problem
from shared.engine import make_engine
from shared.store import Store
from tests.integration.api_parts import Api, Person, answered, refused

BAD_BODIES: list[bytes] = [
    b"",
    b"{",
    b'{"name": "canary"} x',
    b'{"name": "canary", "name": "canary"}',
    b'{"name": "canary", "document": {"a": NaN}}',
    b'{"name": "canary", "document": {"a": 1e999}}',
    b'{"name": "canary\\u0000"}',
    b'{"name": "canary\\ud800"}',
    b'{"name": "canary\xff"}',
    b'{"name": "canary", "document": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    b'{"name": "canary", "document": {"a": 99999999999999999999}}',
]


def test_a_body_that_is_not_the_json_that_is_accepted_is_refused(api: Api) -> None:
    """400 without any of it, nothing made."""
    anna = api.person()
    for body in BAD_BODIES:
        response = anna.post("/v1/projects", raw=body)
        refused(response, 400, "invalid_json")
        assert b"canary" not in response.data
    assert answered(anna.get("/v1/projects"), 200)["items"] == []


def test_a_body_of_another_media_type_is_refused(api: Api) -> None:
    anna = api.person()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "x"):
        refused(anna.post("/v1/projects", {"name": "x"}, media_type=media_type), 415, "unsupported_media_type")
    compressed = anna.post("/v1/projects", {"name": "x"}, headers={"Content-Encoding": "gzip"})
    refused(compressed, 415, "unsupported_media_type")


def test_a_body_may_be_as_large_as_the_limit_and_no_larger(api: Api) -> None:
    anna = api.person(app=api.new_app(max_body_bytes=1000))
    head = b'{"name": "x", "schema": true'
    answered(anna.post("/v1/projects", raw=head + b" " * (1000 - len(head) - 1) + b"}"), 201)
    problem = refused(anna.post("/v1/projects", raw=head + b" " * (1001 - len(head) - 1) + b"}"), 413, "body_too_large")
    assert "1000" in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("GET", "/v1/nope"),
        ("POST", "/v1/projects/"),
        ("GET", "//v1/projects"),
        ("GET", "/v1/projects/../projects"),
        ("GET", "/static/../app.py"),
        ("GET", "/static/%2e%2e/app.py"),
    ],
)
def test_an_address_that_is_none_is_a_problem_too(api: Api, method: str, path: str) -> None:
    refused(api.person().call(method, path), 404, "not_found")


def test_a_method_that_is_not_served_is_a_problem_too(api: Api) -> None:
    response = api.person().call("PUT", "/v1/projects")
    refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_a_database_that_is_away_is_a_503_that_says_what_is_not_known(api: Api) -> None:
    """The outcome is unknown; the same key may be used again. No address, no driver's words."""
    person = Person(_without_database(api), "anna", "token")
    for response in (person.get("/v1/projects"), person.post("/v1/projects", {"name": "x"})):
        problem = refused(response, 503, "outcome_unknown")
        assert int(response.headers["Retry-After"]) > 0
        assert "unknown" in problem["detail"]
        assert b"canary" not in response.data
        assert b"127.0.0.1" not in response.data


@pytest.mark.parametrize(
    "error",
    [RuntimeError("canary"), ProgrammingError("canary", {}, Exception("canary")), RecursionError("canary")],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_our_own_is_a_500_without_its_inside(
    api: Api, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it all; the caller has a code."""
    app = api.new_app()

    def broken() -> Any:
        raise error

    app.add_url_rule("/broken", view_func=broken)
    with caplog.at_level(logging.ERROR):
        response = Person(app, "anna", None).get("/broken")
    refused(response, 500, "internal")
    assert b"canary" not in response.data
    assert "canary" in caplog.text


def test_every_problem_is_of_one_shape(api: Api) -> None:
    """As the OpenAPI document says: nothing more, nothing else."""
    anna = api.person()
    for response in (
        anna.get("/nope"),
        anna.get("/v1/projects?limit=0"),
        anna.post("/v1/projects", {}),
        anna.post("/v1/projects", raw=b"{"),
    ):
        msgspec.json.decode(response.data, type=Problem, strict=True)
        assert set(msgspec.json.decode(response.data)) <= {
            "type",
            "title",
            "status",
            "detail",
            "code",
            "errors",
            "index",
        }


# --- on the wire ------------------------------------------------------------------------------------------------


def test_readiness_names_what_is_not_ready(api: Api) -> None:
    """503 with each part's state, without its address."""
    answered(api.nobody().get("/readyz"), 200)
    answered(api.nobody().get("/healthz"), 200)
    app = _without_database(api)
    checks = answered(Person(app, "nobody", None).get("/readyz"), 503)["checks"]
    assert checks["postgres"] == "unreachable"
    answered(Person(app, "nobody", None).get("/healthz"), 200)


def _without_database(api: Api) -> Flask:
    services = api.app.extensions["chatrelay"]
    gone = make_engine("postgresql://canary@127.0.0.1:1/canary", pool_size=1, application="test")
    return create_app(api.settings, Store(gone), services.log, services.doorbell, services.relay)


def test_the_page_and_its_facts_need_no_token(api: Api) -> None:
    nobody = api.nobody()
    assert nobody.get("/").mimetype == "text/html"
    facts = answered(nobody.get("/page.json"), 200)
    assert facts["model"] == facts["models"][0]
    assert facts["scriptedModel"] is False
    assert facts["version"]


def test_the_documentation_is_served(api: Api) -> None:
    nobody = api.nobody()
    document = answered(nobody.get("/openapi.json"), 200)
    page = nobody.get("/docs").get_data(as_text=True)
    for path, operations in document["paths"].items():
        assert path in page
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in page
    assert "<script" not in page
    assert "style=" not in page
    assert nobody.get("/docs.css").mimetype == "text/css"


def test_a_short_body_is_refused_and_the_connection_ends(served: str, api: Api) -> None:
    """A client that sends less than it announced gets no project."""
    anna = api.person()
    connection = http.client.HTTPConnection(served, timeout=30)
    connection.putrequest("POST", "/v1/projects")
    for name, value in {
        "Authorization": f"Bearer {anna.token}",
        "Content-Type": "application/json",
        "Content-Length": "100",
    }.items():
        connection.putheader(name, value)
    connection.endheaders(b'{"name": "x"}')
    assert connection.sock is not None
    connection.sock.shutdown(1)
    with connection.getresponse() as response:
        assert response.status == 400
    connection.close()
    assert answered(anna.get("/v1/projects"), 200)["items"] == []
