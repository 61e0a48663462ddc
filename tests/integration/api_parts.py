"""What the API's tests stand on: the application on a real Postgres and Valkey, and people who call it."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from api.calls import Call
from shared import closing
from shared.event_log import EventLog
from shared.events import EventId
from shared.outcomes import HandedOver, Succeeded
from shared.records import StoredCall
from shared.settings import Settings
from shared.store import StartJob, Store

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
OWN_CODES = {"unauthorized": "invalid_api_key", "quota_exceeded": "insufficient_quota"}
"""Codes that OpenAI's clients know by another name."""


@dataclass(frozen=True)
class Person:
    """Somebody with a token, at a client of the application."""

    app: Flask
    name: str
    token: str | None

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = ...,
        raw: bytes | None = None,
        media_type: str = JSON,
        headers: dict[str, str] | None = None,
        buffered: bool = True,
    ) -> TestResponse:
        """One request; `body` is encoded as JSON, `raw` is sent as it is. An answer without an end is not `buffered`."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        data = raw if raw is not None else None if body is ... else json.dumps(body).encode()
        kind = media_type if data is not None else None
        return self.app.test_client().open(
            path, method=method, data=data, content_type=kind, headers=sent, buffered=buffered
        )

    def get(self, path: str, **rest: Any) -> TestResponse:
        return self.call("GET", path, **rest)

    def post(self, path: str, body: Any = ..., **rest: Any) -> TestResponse:
        return self.call("POST", path, body=body, **rest)

    def patch(self, path: str, body: Any = ..., **rest: Any) -> TestResponse:
        return self.call("PATCH", path, body=body, **rest)

    def delete(self, path: str) -> TestResponse:
        return self.call("DELETE", path)

    def project(self, **body: Any) -> dict[str, Any]:
        """A new project."""
        made: dict[str, Any] = answered(self.post("/v1/projects", {"name": "A project", **body}), 201)
        return made

    def pair(self, project_id: str, content: str = "Hello", **rest: Any) -> dict[str, Any]:
        """A new pair of messages."""
        path = f"/v1/projects/{project_id}/messages"
        made: dict[str, Any] = answered(self.post(path, {"content": content}, **rest), 202)
        return made


@dataclass(frozen=True)
class Api:
    app: Flask
    store: Store
    log: EventLog
    settings: Settings
    new_app: Callable[..., Flask]
    """The application with other settings: ``new_app(max_body_bytes=100)``."""

    def person(self, name: str | None = None, *, app: Flask | None = None) -> Person:
        """Somebody new, or a new token of somebody known."""
        name = name or f"user-{uuid.uuid4()}"
        token, _ = self.store.create_token(name)
        return Person(app or self.app, name, token)

    def operator(self) -> Person:
        """Somebody new, who may see what operators see and is a member of nothing."""
        name = f"operator-{uuid.uuid4()}"
        token, _ = self.store.create_token(name, scopes=frozenset({"ops"}))
        return Person(self.app, name, token)

    def nobody(self) -> Person:
        return Person(self.app, "nobody", None)

    def finish(self, message_id: str, content: str = "Done.") -> None:
        """End a message as a worker does."""
        claim = self.store.claim(uuid.UUID(message_id), "test", lease_s=60, max_tries=3)
        assert claim is not None
        ending = self.store.finalize(
            claim.lease,
            Succeeded(content=content),
            first=EventId(claim.lease.attempt, 0),
            usage=None,
            first_token_ms=None,
        )
        closing.append_ending(self.store, self.log, ending)


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The address, ``127.0.0.1:<port>``, of a server that serves the application and gives its connections away."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="server")
    thread.start()
    yield f"127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def listening(client: redis.Redis, channel: str) -> Iterator[Callable[[], Any]]:
    """Calls answer the next of what is published on `channel`."""
    with client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]  # redis-py's
        subscription.subscribe(channel)
        while not subscription.subscribed:
            subscription.get_message(timeout=0.1)

        def next_told() -> Any:
            for _ in range(100):
                if (message := subscription.get_message(timeout=5)) is not None:
                    return json.loads(message["data"])
            raise AssertionError(f"nothing was published on {channel}")

        yield next_told


def answered(response: TestResponse, status: int) -> Any:
    """The body of an answer that has this status."""
    assert response.status_code == status, response.get_data(as_text=True)
    return response.get_json() if response.data else None


def refused(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem of an answer that has this status and code."""
    assert response.mimetype == "application/problem+json", response.get_data(as_text=True)
    problem: dict[str, Any] = json.loads(response.data)
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"]
    return problem


def refused_in_words(call: Call, response: TestResponse, status: int, code: str) -> None:
    """As `refused`, for a call that may have words of its own; an address that leads to no call has none."""
    if call.words is None or response.mimetype == "application/problem+json":
        refused(response, status, code)
        return
    assert response.mimetype == JSON, response.get_data(as_text=True)
    error = json.loads(response.data)["error"]
    assert (response.status_code, error["code"]) == (status, OWN_CODES.get(code, code)), error
    assert error["message"]
    assert error["type"]


def everything_stored(engine: Engine) -> list[Any]:
    """What a refused call must not change."""
    tables = ("projects", "messages", "document_versions", "members", "tickets", "users", "component_jobs", "batches")
    with engine.connect() as connection:
        return [connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all() for table in tables]


def job_made(api: Api, person: Person, project_id: str, *, name: str = "Ball") -> tuple[str, str]:
    """The id of a job that waits for its builder, as a worker leaves it, and of its message."""
    message_id = person.pair(project_id)["assistantMessage"]["id"]
    claim = api.store.claim(uuid.UUID(message_id), "test", lease_s=60, max_tries=3)
    assert claim is not None
    effect = api.store.commit_effect(
        claim.lease,
        1,
        0,
        StoredCall(tool_call_id=f"call_{message_id}", name="generateRemotionComponent", arguments="{}"),
        StartJob(name=name, effect_description="a ball"),
    )
    job_id = effect.call.job_id
    assert job_id is not None
    ending = api.store.finalize(
        claim.lease,
        HandedOver(content="I build it.", job_id=job_id),
        first=EventId(1, 0),
        usage=None,
        first_token_ms=None,
    )
    closing.append_ending(api.store, api.log, ending)
    return job_id, message_id
