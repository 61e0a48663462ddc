"""Too many requests, bad tokens and sockets: refused with 429 and when to come back, by whom they come from."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from flask import Flask
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from werkzeug.test import TestResponse

from api import relay
from api.rates import InRedis, Rate, Rates
from api.readers import NOBODY
from api.relay import TooManyReaders
from dev.embedded import EmbeddedValkey
from shared import keys
from tests.integration.api_parts import Api, Person, answered, refused, serving

HERE, ELSEWHERE = "198.51.100.7", "203.0.113.9"


def come_from(person: Person, address: str | None, path: str = "/v1/me", **headers: str) -> TestResponse:
    """A request through a proxy on this machine; None: without one."""
    sent = {} if address is None else {"X-Forwarded-For": address}
    return person.get(path, headers=sent | headers)


def spent(person: Person, address: str, path: str = "/v1/me", *, most: int = 200) -> TestResponse:
    """The first answer that is not as the one before it."""
    first = come_from(person, address, path)
    for _ in range(most):
        response = come_from(person, address, path)
        if response.status_code != first.status_code:
            return response
    raise AssertionError("it goes on for ever")


def is_told_when(response: TestResponse, code: str) -> None:
    refused(response, 429, code)
    assert 1 <= int(response.headers["Retry-After"]) <= 60


# --- requests ---------------------------------------------------------------------------------------------------


def test_an_address_may_make_so_many_requests_and_no_other_is_touched(api: Api) -> None:
    anna = api.person(app=api.new_app(max_requests_per_address=20))
    is_told_when(spent(anna, HERE), "too_many_requests")
    is_told_when(come_from(anna, HERE, "/static/app/main.js"), "too_many_requests")
    is_told_when(come_from(anna, HERE, "/nope"), "too_many_requests")
    answered(come_from(anna, ELSEWHERE), 200)


def test_a_user_may_make_so_many_requests_wherever_they_come_from(api: Api) -> None:
    app = api.new_app(max_requests_per_user=20)
    anna, ben = api.person("anna", app=app), api.person("ben", app=app)
    is_told_when(spent(anna, HERE), "too_many_requests")
    is_told_when(come_from(anna, ELSEWHERE), "too_many_requests")
    is_told_when(come_from(api.person("anna", app=app), HERE), "too_many_requests")
    answered(come_from(ben, HERE), 200)


def test_nothing_is_done_for_who_is_refused(api: Api) -> None:
    anna = api.person(app=api.new_app(max_requests_per_user=20))
    spent(anna, HERE)
    response = anna.post("/v1/projects", {"name": "x"}, headers={"X-Forwarded-For": HERE})
    is_told_when(response, "too_many_requests")
    assert answered(anna.get("/v1/projects"), 200)["items"] == []


def test_this_machine_and_monitoring_are_not_counted(api: Api) -> None:
    app = api.new_app(max_requests_per_user=5, max_requests_per_address=5, max_bad_tokens_per_address=5)
    anna, nobody = api.person(app=app), Person(app, "nobody", None)
    operator = Person(app, "operator", api.operator().token)
    for _ in range(20):
        answered(come_from(anna, None), 200)
        assert come_from(nobody, None).status_code == 401
        for path in ("/healthz", "/metrics", "/readyz"):
            assert come_from(nobody, HERE, path).status_code in (200, 503)
    spent(operator, ELSEWHERE)
    is_told_when(come_from(operator, ELSEWHERE), "too_many_requests")


def test_what_operators_read_does_not_count_for_their_address(api: Api) -> None:
    app = api.new_app(max_requests_per_address=5)
    operator = Person(app, "operator", api.operator().token)
    for _ in range(20):
        answered(come_from(operator, HERE, "/v1/ops/summary"), 200)
    answered(come_from(operator, HERE), 200)


def test_an_openai_client_is_refused_in_its_own_words(api: Api) -> None:
    anna = api.person(app=api.new_app(max_requests_per_address=5))
    response = spent(anna, HERE, f"/v1/openai/responses/{uuid.uuid4()}")
    assert response.status_code == 429
    assert response.get_json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(response.headers["Retry-After"]) <= 60


def test_a_page_of_an_allowed_origin_can_read_that_it_is_refused(api: Api) -> None:
    origin = "https://app.example"
    anna = api.person(app=api.new_app(max_requests_per_address=5, allowed_origins=(origin,)))
    spent(anna, HERE)
    response = come_from(anna, HERE, Origin=origin)
    is_told_when(response, "too_many_requests")
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


# --- tokens -----------------------------------------------------------------------------------------------------


def test_who_tries_too_many_tokens_is_refused_before_they_are_looked_at(api: Api) -> None:
    """Also one that would be good, but not one that was good lately: a neighbour's mistakes lock nobody out."""
    app = api.new_app(max_bad_tokens_per_address=20)
    anna, new = api.person(app=app), api.person(app=app)
    answered(come_from(anna, HERE), 200)
    stranger = Person(app, "stranger", "wrong")
    assert come_from(stranger, HERE).status_code == 401
    is_told_when(spent(stranger, HERE), "too_many_attempts")
    is_told_when(come_from(new, HERE), "too_many_attempts")
    is_told_when(come_from(stranger, HERE, "/v1/ops/summary"), "too_many_attempts")
    is_told_when(come_from(Person(app, "nobody", None), HERE, "/v1/me?ticket=x"), "too_many_attempts")
    answered(come_from(anna, HERE), 200)
    answered(come_from(new, ELSEWHERE), 200)
    assert come_from(Person(app, "nobody", None), HERE, "/").status_code == 200


# --- sockets ----------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(api: Api) -> Iterator[tuple[Flask, str]]:
    app = api.new_app(max_sockets_per_address=3)
    with serving(app) as address:
        yield app, address


def test_an_address_has_only_so_many_sockets_and_gets_the_places_back(api: Api, crowded: tuple[Flask, str]) -> None:
    app, address = crowded
    anna, ben = api.person(app=app), api.person(app=app)

    open_ = ExitStack()

    def opened(person: Person, place: str | None) -> ClientConnection:
        project_id = person.project()["id"]
        headers = {"Authorization": f"Bearer {person.token}"} | ({"X-Forwarded-For": place} if place else {})
        url = f"ws://{address}/v1/projects/{project_id}/socket"
        return open_.enter_context(connect(url, additional_headers=headers, proxy=None))

    with open_:
        first = [opened(anna, HERE), opened(anna, HERE), opened(ben, HERE)]
        for person in (anna, ben):
            with pytest.raises(InvalidStatus) as full:
                opened(person, HERE)
            assert full.value.response.status_code == 429
            assert full.value.response.headers["Retry-After"]
        for person, place in ((anna, ELSEWHERE), *((ben, None) for _ in range(5))):
            opened(person, place)
        first.pop().close()
        is_in = False
        while not is_in:  # its place is given back once the server has seen it go
            try:
                is_in = opened(ben, HERE) is not None
            except InvalidStatus:
                pass


def test_who_does_not_say_who_he_is_takes_no_other_s_place(api: Api) -> None:
    """Of the sockets that may be open without a token, an address has a part."""
    found: Any = api.app.extensions["chatrelay"].relay
    taken = [found.admit(NOBODY, place=HERE) for _ in range(relay.MOST_UNKNOWN_PER_ADDRESS)]
    with pytest.raises(TooManyReaders):
        found.admit(NOBODY, place=HERE)
    found.admit(uuid.uuid4(), place=HERE).release()
    found.admit(NOBODY, place=ELSEWHERE).release()
    taken.pop().release()
    taken.append(found.admit(NOBODY, place=HERE))
    for admission in taken:
        admission.release()
    assert not found._admitted_from


# --- Redis ------------------------------------------------------------------------------------------------------


def test_the_count_in_redis_is_of_all_processes_and_expires(redis_url: str, redis_client: redis.Redis) -> None:
    shared = [InRedis(redis_url, deadline_s=30) for _ in range(2)]
    processes = [Rates({Rate.USER: 100}, each) for each in shared]
    let_through = sum(process.spend(Rate.USER, "anna") == 0 for _ in range(200) for process in processes)
    assert 90 <= let_through <= 110
    found: Any = redis_client.keys("*")
    assert found
    for key in found:
        assert key.startswith(keys.RATES.encode())
        assert 0 < redis_client.ttl(key) <= 120
    for each in shared:
        each.close()


def test_without_redis_requests_are_served_and_counted_all_the_same(own_valkey: EmbeddedValkey) -> None:
    """Where it is gone, and where it stands still."""
    shared = InRedis(own_valkey.url)
    assert sum(Rates({Rate.USER: 100}, shared).spend(Rate.USER, "anna") == 0 for _ in range(50)) == 50
    os.kill(own_valkey.pid, signal.SIGSTOP)
    found = Rates({Rate.USER: 100}, shared)
    assert sum(found.spend(Rate.USER, "ben") == 0 for _ in range(200)) == 100
    os.kill(own_valkey.pid, signal.SIGCONT)
    own_valkey.kill()
    found = Rates({Rate.USER: 100}, shared)
    assert sum(found.spend(Rate.USER, "cleo") == 0 for _ in range(200)) == 100
    shared.close()
