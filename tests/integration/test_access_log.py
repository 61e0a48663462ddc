"""Requests have ids and lines: what they bear, and what they never do."""

from __future__ import annotations

import json
import logging
import re
from typing import Any
from uuid import uuid4

import pytest
from celery.app.task import Context

from api.access_log import REQUEST_ID_HEADER
from shared import event_log, keys, log_context
from shared.doorbell import REQUEST_ID_HEADER as BELLS_HEADER
from shared.doorbell import Doorbell, make_celery
from tests import rights
from tests.integration.api_parts import Api
from worker import telling

SECRET = "canary-5d1c"


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="api")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The requests' lines so far, as they are given to the formatter."""
    told = [record for record in caplog.records if record.name == "api.access_log"]
    return [{**record.msg, "level": record.levelname} for record in told if isinstance(record.msg, dict)]


def test_a_request_is_one_line_with_its_route_and_without_its_address_or_query(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    anna = api.person()
    anna.get(f"/v1/messages/{uuid4()}?{SECRET}=1&ticket={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})
    anna.get(f"/{SECRET}/nowhere?{SECRET}")
    first, second = lines(caplog)
    assert (first["event"], first["method"], first["route"], first["status"]) == (
        "request",
        "GET",
        "/v1/messages/<message_id>",
        401,
    )
    assert first["ms"] >= 0
    assert first["level"] == "INFO"
    assert (second["route"], second["status"]) == (None, 404)
    assert SECRET not in str(first) + str(second)


def test_a_method_of_somebodys_own_is_not_told(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.nobody().call(SECRET.upper(), "/v1/projects")
    (line,) = lines(caplog)
    assert (line["method"], line["status"]) == ("other", 405)


def test_probes_and_the_pages_files_are_lines_for_debugging(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/static/page.css"):
        api.nobody().get(path)
    assert {line["level"] for line in lines(caplog)} == {"DEBUG"}


def test_the_id_that_a_request_brings_is_answered_back(api: Api) -> None:
    answer = api.nobody().get("/healthz", headers={REQUEST_ID_HEADER: "from-the-proxy.1"})
    assert answer.headers[REQUEST_ID_HEADER] == "from-the-proxy.1"


@pytest.mark.parametrize("given", [None, "two words", "x" * 129])
def test_a_request_without_a_sane_id_is_given_one(api: Api, given: str | None) -> None:
    """Each its own, on refusals too."""
    headers = {} if given is None else {REQUEST_ID_HEADER: given}
    made = {api.nobody().get(path, headers=headers).headers[REQUEST_ID_HEADER] for path in ("/healthz", "/v1/projects")}
    assert len(made) == 2
    assert all(re.fullmatch(r"[0-9a-f-]{36}", one) for one in made)


def test_a_bell_bears_the_request_that_submitted_its_message_and_no_others(redis_url: str) -> None:
    """What a worker tells of the message's first turn can be found by the request's id. The next in line had its own."""
    celery = make_celery(redis_url)
    doorbell = Doorbell(celery)
    client: Any = event_log.connect(rights.as_admin(redis_url))
    message_id, other = uuid4(), uuid4()
    with log_context.about(request_id="r-1"):
        doorbell.ring(message_id)
        log_context.note(message_id=message_id)
        doorbell.ring(message_id)
        doorbell.ring(other)
    bells = [json.loads(bell)["headers"] for bell in reversed(client.lrange(keys.INTERACTIVE_QUEUE, 0, -1))]
    assert [bell.get(BELLS_HEADER) for bell in bells] == [None, "r-1", None]
    client.delete(keys.INTERACTIVE_QUEUE)
    client.close()
    celery.close()


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ({BELLS_HEADER: "r-1"}, "r-1"),
        (None, None),
        ({}, None),
        ({BELLS_HEADER: "no\nid"}, None),
        ({BELLS_HEADER: 7, "traceparent": 7}, None),
    ],
)
def test_a_turns_lines_bear_what_its_bell_brought(headers: dict[str, Any] | None, request_id: str | None) -> None:
    """Whoever can write to Redis can ring: what is no id is not taken."""
    message_id = uuid4()
    with telling.bell(Context({"args": [str(message_id)], "headers": headers}), message_id):
        assert log_context.facts().get("request_id") == request_id
        assert log_context.facts()["message_id"] == str(message_id)
    assert log_context.facts() == {}


def test_a_bell_that_leads_to_another_message_says_nothing_of_it() -> None:
    """One that a task goes on to was asked for by somebody else."""
    with telling.bell(Context({"args": [str(uuid4())], "headers": {BELLS_HEADER: "r-1"}}), uuid4()):
        assert "request_id" not in log_context.facts()
