"""The Procfile's processes at their most talkative: what they log and trace of known traffic, and what they never tell."""

from __future__ import annotations

import json
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import NullPool, create_engine
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from shared import keys
from shared.engine import sqlalchemy_url
from shared.lifecycle import FINAL, OnBusy
from shared.store import SubmitLimits
from tests import rights
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.identity_provider import AUDIENCE, ISSUER, IdentityProvider, claims, providing, rsa_key, signed
from tests.otlp import Collector, Span, collecting
from tests.people import Person, eventually
from tests.stack import Stack, StackStarter

SECRETS: Final = {
    name: f"canary-{name}-{uuid.uuid4().hex[:12]}"
    for name in (
        *("prompt", "answer", "document", "token", "ticket", "key", "password", "arguments", "project", "provider"),
        *("broken", "source", "header", "tool"),
    )
}
"""Planted where users, providers and operators put what nobody else may read."""
PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "logs-and-traces.md"
PRODUCT: Final = ("web-1", "worker-1", "builder-1", "sweeper")
INVALID_COMPONENT: Final = f"import fs from '{SECRETS['source']}';\nexport default 1;"


class _WithPassword(PostgresDatabases):
    """Their addresses bear a password, which these servers do not ask for."""

    def __init__(self, inner: PostgresDatabases) -> None:
        self._inner = inner

    @contextmanager
    def database(self, *, is_new: bool = False) -> Iterator[str]:
        with self._inner.database(is_new=is_new) as url:
            parts = urlsplit(url)
            yield parts._replace(
                netloc=f"{parts.username}:{SECRETS['password']}@{parts.hostname}:{parts.port}"
            ).geturl()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with providing() as provider:
        yield provider


@pytest.fixture(scope="module")
def stack(
    postgres_databases: PostgresDatabases,
    valkey_databases: ValkeyDatabases,
    collector: Collector,
    provider: IdentityProvider,
) -> Iterator[Stack]:
    print(f"the secrets: {SECRETS}")
    with StackStarter(_WithPassword(postgres_databases), valkey_databases) as starter:
        yield starter(
            builders=1,
            settings={
                "CHATRELAY_JWT_AUDIENCE": AUDIENCE,
                "CHATRELAY_JWT_ISSUER": ISSUER,
                "CHATRELAY_JWT_JWKS_URL": provider.url,
                "CHATRELAY_LOG_LEVEL": "DEBUG",
                "CHATRELAY_MODELS": "scripted",
                "CHATRELAY_RETRY_FIRST_S": "0.01",
                "CHATRELAY_RETRY_MOST_S": "0.02",
                "OPENAI_API_KEY": SECRETS["key"],
                "OPENAI_LOG": "debug",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "NO_PROXY": "127.0.0.1",
            },
        )


@pytest.fixture
def person(stack: Stack) -> Iterator[Person]:
    with Person(stack) as somebody:
        yield somebody


def end_of(person: Person, message_id: str) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        row = person.row(message_id)
        return row if row["status"] in FINAL else None

    return eventually(final)


def lines(stack: Stack, name: str) -> list[dict[str, Any]]:
    """What a process logged. Each line is one JSON object: what else it writes, a library's greeting say, is none."""
    return [json.loads(line) for line in stack.output(name).splitlines()]


def about(stack: Stack, name: str, message_id: str) -> list[dict[str, Any]]:
    return [line for line in lines(stack, name) if line.get("message_id") == message_id]


def ends(stack: Stack, name: str, message_id: str) -> list[dict[str, Any]]:
    return [line for line in about(stack, name, message_id) if line["event"] == "message ended"]


def tree(spans: list[Span], parent_id: str) -> list[Any]:
    """The spans below one, by their names, each with those below it where there are any; in the order of their names."""
    below = []
    for span in sorted((span for span in spans if span.parent_id == parent_id), key=lambda span: span.name):
        more = tree(spans, span.span_id)
        below.append({span.name: more} if more else span.name)
    return below


def test_one_message_is_one_trace_across_processes_and_its_lines_bear_its_request(
    stack: Stack, person: Person, collector: Collector
) -> None:
    """From the caller's span over the API and the worker to the builder, with the model's and the tools' calls in between."""
    trace_id, caller = uuid.uuid4().hex, "00f067aa0ba902b7"
    stack.model.on(
        "change it and build",
        {
            "rounds": [
                {"steps": [{"tool": {"name": "applyJsonPatch", "arguments": {"operations": []}}}]},
                {"steps": [{"tool": {"name": SECRETS["tool"], "arguments": {}}}]},
                {
                    "steps": [
                        {"tool": {"name": "generateRemotionComponent", "arguments": {"effectDescription": "ball"}}}
                    ]
                },
            ]
        },
    )
    answer = person.client.post(
        f"/v1/projects/{person.project()}/messages",
        json={"content": "change it and build"},
        headers={"traceparent": f"00-{trace_id}-{caller}-01", "X-Request-Id": "from-the-test"},
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["X-Request-Id"] == "from-the-test"
    message_id = answer.json()["assistantMessage"]["id"]
    assert end_of(person, message_id)["status"] == "success"

    for name in ("POST /v1/projects/<project_id>/messages", "turn", "build"):
        spans = collector.wait_for(name, trace_id)
    assert tree(spans, caller) == [
        {
            "POST /v1/projects/<project_id>/messages": [
                {
                    "turn": [
                        "append ending",
                        {
                            "build": [
                                "append ending",
                                "bundling",
                                "chat scripted",
                                "checking",
                                "claim",
                                "commit",
                                "writing",
                            ]
                        },
                        *["chat scripted"] * 3,
                        "claim",
                        "commit",
                        *["context"] * 3,
                        "execute_tool applyJsonPatch",
                        "execute_tool generateRemotionComponent",
                        "execute_tool other",
                    ]
                }
            ]
        }
    ]
    by_name = {span.name: span for span in spans}
    services = {name: by_name[name].service for name in ("POST /v1/projects/<project_id>/messages", "turn", "build")}
    assert list(services.values()) == ["chatrelay-web", "chatrelay-worker", "chatrelay-builder"]
    call = by_name["chat scripted"]
    assert call.kind == "client"
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.request.model"] == "scripted"
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    assert call.attributes["gen_ai.response.finish_reasons"] in (["stop"], ["tool_calls"])
    assert by_name["turn"].attributes["chatrelay.message.id"] == message_id

    for name in ("worker-1", "builder-1"):
        (end,) = eventually(partial(ends, stack, name, message_id))
        assert end["request_id"] == "from-the-test"
        assert end["trace_id"] == trace_id
    (end,) = ends(stack, "builder-1", message_id)
    assert (end["status"], end["attempt"], end["model"], end["process"]) == ("success", 2, "scripted", "builder")
    (request,) = eventually(lambda: [line for line in about(stack, "web-1", message_id) if line["event"] == "request"])
    assert (request["method"], request["route"], request["status"], request["request_id"]) == (
        "POST",
        "/v1/projects/<project_id>/messages",
        202,
        "from-the-test",
    )


def test_a_message_whose_bell_was_lost_is_answered_in_the_trace_of_its_own_id(
    stack: Stack, person: Person, collector: Collector
) -> None:
    """The sweeper's bell carries nothing; such attempts are found by the message's id. A retry is an event of its turn."""
    stack.model.on("fails once", {"rounds": [{"attempts": [{"status": 503}, {"steps": [{"text": "Better"}]}]}]})
    known = stack.store.authenticate(person.token)
    assert known is not None
    pair = stack.store.submit(
        known[0],
        uuid.UUID(person.project()),
        "fails once",
        model="scripted",
        on_busy=OnBusy.QUEUE,
        limits=SubmitLimits(max_unfinished=20, max_tokens_per_day=None),
    )
    message_id = pair.assistant_message.id
    assert end_of(person, str(message_id))["status"] == "success"
    spans = collector.wait_for("turn", message_id.hex)
    assert tree(spans, "") == [
        {"turn": ["append ending", "chat scripted", "chat scripted", "claim", "commit", "context"]}
    ]
    first, second = (span for span in spans if span.name == "chat scripted")
    assert {(span.failed, span.attributes.get("error.type")) for span in (first, second)} == {
        (True, "provider_unavailable"),
        (False, None),
    }
    (turn,) = (span for span in spans if span.name == "turn")
    assert [(name, facts["error.type"]) for name, facts in turn.events] == [("retry", "provider_unavailable")]


def test_nothing_that_users_providers_or_operators_keep_secret_is_told_anywhere(
    stack: Stack, person: Person, collector: Collector, provider: IdentityProvider
) -> None:
    """Through answers, failures of the provider, the database and ourselves, refusals and nonsense: no log line, span, line
    for operators, error of a row, or command line has any of it. What opens something is in no row and no key either."""
    operators = stack.redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
    operators.subscribe(keys.OPS)
    opening = sign_in(stack, person, provider)
    rows = drive(stack, person, collector)
    told = {name: stack.output(name) for name in PRODUCT}
    told["spans"] = b"".join(collector.raw).decode("latin-1")
    told["operators"] = str([message["data"] for message in iter(partial(operators.get_message, timeout=0.2), None)])
    told["errors"] = json.dumps([row["error"] for row in rows])
    # the compiler's words are for whoever's component it is, and quote its source
    (job,) = stack.sql("SELECT error FROM component_jobs WHERE status = 'error'")
    told["errors"] += job.error.replace(SECRETS["source"], "")
    told["commands"] = " ".join(path.read_bytes().decode("latin-1") for path in command_lines())
    operators.close()

    assert len(json.dumps(told)) > 10_000
    assert "finalized" in told["operators"]
    assert "provider_rejected" in told["errors"]
    assert "Traceback" in told["worker-1"], "a turn broke"
    assert "Traceback" in told["web-1"], "a request broke"
    assert "sqlstate=P0001" in told["web-1"]
    found = [(name, kind) for name, text in told.items() for kind, secret in SECRETS.items() if secret in text]
    assert not found
    told["rows"], told["keys"] = everything_stored(stack)
    assert len(told["rows"]) > 10_000
    found = [(name, kind) for name, text in told.items() for kind, secret in opening.items() if secret in text]
    assert not found


def everything_stored(stack: Stack) -> tuple[str, str]:
    """All that Postgres and Redis have."""
    tables = stack.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    rows = "".join(str(stack.sql(f'SELECT * FROM "{table.table_name}"')) for table in tables)
    kept = [(key, stack.redis.dump(key)) for key in stack.redis.scan_iter()]
    return rows, str(kept)


def sign_in(stack: Stack, person: Person, provider: IdentityProvider) -> dict[str, str]:
    """Whoever is let in, by each way in, and who is not; the secret parts of what they came with, by what each is."""
    good, bad = provider.jwt(nonce="canary"), signed(rsa_key("somebody else's"), claims(nonce="canary"))
    project = person.project()
    path = f"/v1/projects/{project}"
    used = {"token": person.token}
    for kind in ("events", "socket"):
        used[f"ticket for {kind}"] = person.client.post("/v1/tickets", json={"path": f"{path}/{kind}"}).json()["ticket"]
    for name, token in (("good JWT", good), ("bad JWT", bad)):
        used |= {f"{name}'s claims": token.split(".")[1], f"{name}'s signature": token.split(".")[2]}
    url = stack.urls[0]
    before = {"Referer": f"{url}{path}/events?ticket={used['ticket for events']}"}
    params = json.dumps({"token": good})
    with httpx.Client(base_url=url, trust_env=False) as anybody:
        for token, status in ((good, 200), (bad, 401)):
            headers = {"Authorization": f"Bearer {token}", **before}
            for address in ("/v1/me", "/v1/openai/models", f"/v1/me?access_token={token}"):
                assert anybody.get(address, headers=headers).status_code == status
            assert anybody.get(f"/nowhere/{token}", headers=headers).status_code == 404
        query = {"input": json.dumps({"projectId": project}), "connectionParams": params}
        assert anybody.get("/trpc/chat.getMessages", params=query).status_code == 404
        with anybody.stream("GET", f"{path}/events?ticket={used['ticket for events']}", headers=before) as answer:
            assert answer.status_code == 200
    socket = f"{url.replace('http', 'ws', 1)}{path}/socket?ticket={used['ticket for socket']}"
    with connect(socket, additional_headers=before, proxy=None) as line:
        assert json.loads(line.recv(timeout=60))["type"] == "ready"
    with pytest.raises(InvalidStatus), connect(socket, proxy=None):
        pass
    return used


def command_lines() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            path.read_bytes()
        except OSError:
            continue  # it has ended
        yield path


def drive(stack: Stack, person: Person, collector: Collector) -> list[dict[str, Any]]:
    """Traffic with a secret in each place that has one; the final rows."""
    model, secret = stack.model, SECRETS
    echo = {"message": f"you said {secret['prompt']}: {secret['provider']}", "code": secret["provider"], "type": "x"}
    model.on("echoed", {"rounds": [{"status": 400, "error": echo}]})
    model.on("unavailable", {"rounds": [{"status": 500, "body": f"{secret['provider']} {secret['prompt']}"}]})
    line = json.dumps(
        {"error": {"message": secret["provider"], "type": "invalid_request_error", "code": secret["provider"]}}
    )
    model.say("line", {"text": secret["answer"]}, {"raw": f"data: {line}\n\n"})
    model.say("nonsense", {"text": secret["answer"]}, {"raw": f"data: {secret['provider']}\n\n"})
    model.say("cut", {"text": secret["answer"]}, {"cut": "rst"})
    calls = [
        {"name": "applyJsonPatch", "arguments": f"no JSON {secret['arguments']}"},
        {
            "name": "applyJsonPatch",
            "arguments": {"operations": [{"op": "test", "path": "/a", "value": secret["arguments"]}]},
        },
        {"name": secret["tool"], "arguments": {"a": secret["arguments"]}},
    ]
    model.on("tools", {"rounds": [{"steps": [{"tools": calls}]}, {"steps": [{"text": secret["answer"]}]}]})
    model.on(
        "component",
        {
            "rounds": [
                {
                    "steps": [
                        {
                            "tool": {
                                "name": "generateRemotionComponent",
                                "arguments": {"effectDescription": secret["source"]},
                            }
                        }
                    ]
                }
            ]
        },
    )
    model.say(secret["source"], {"text": f"```tsx\n{INVALID_COMPONENT}\n```"})
    model.say("breaks", {"text": secret["broken"]})
    owners = create_engine(sqlalchemy_url(rights.as_owner(stack.database_url)), poolclass=NullPool)
    with owners.begin() as connection:  # what a constraint or a trigger of an operator's would do
        connection.exec_driver_sql(
            "CREATE FUNCTION quote_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.content LIKE '%%{secret['broken']}%%' THEN RAISE EXCEPTION 'no: %%', NEW.content; END IF;"
            " RETURN NEW; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER quote_it BEFORE INSERT OR UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION quote_it()"
        )
    try:
        project = person.project(name=secret["project"], document={"a": secret["document"]})
        said = ("echoed", "unavailable", "line", "nonsense", "cut", "tools", "component")
        asked = [person.submit(project, f"{what} {secret['prompt']}") for what in said]
        rows = [end_of(person, message_id) for message_id in asked]
        assert [row["status"] for row in rows] == [*["error"] * 5, "success", "error"], rows
        broken = person.submit(project, "breaks")
        eventually(lambda: f"the turn of message {broken} broke" in stack.output("worker-1"))
        person.client.post(f"/v1/messages/{broken}/cancel")
        refused = person.client.post(f"/v1/projects/{project}/messages", json={"content": secret["broken"]})
        assert refused.status_code == 500
    finally:
        with owners.begin() as connection:
            connection.exec_driver_sql("DROP FUNCTION quote_it CASCADE")
    refuse(stack, person, project)
    answered_last(stack, person, collector)
    return rows


def answered_last(stack: Stack, person: Person, collector: Collector) -> None:
    """What was told before has come, where this has."""
    trace_id = uuid.uuid4().hex
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    stack.model.say("last", {"text": "Over."})
    person.client.post(f"/v1/projects/{person.project()}/messages", json={"content": "last"}, headers=headers)
    for name in ("POST /v1/projects/<project_id>/messages", "turn"):
        collector.wait_for(name, trace_id)


def refuse(stack: Stack, person: Person, project: str) -> None:
    """What clients get wrong, with their secrets in it."""
    secret, url = SECRETS, stack.urls[0]
    person.client.patch(f"/v1/projects/{project}", json={"schema": {"type": secret["document"]}})
    person.client.get(f"/v1/projects/{project}/events?ticket={secret['ticket']}", headers={"Authorization": ""})
    with httpx.Client(trust_env=False) as stranger:
        stranger.get(f"{url}/v1/projects", headers={"Authorization": f"Bearer {secret['token']}"})
        stranger.get(f"{url}/v1/messages/{uuid.uuid4()}/socket?ticket={secret['ticket']}")
        stranger.get(f"{url}/{secret['ticket']}?token={secret['token']}")
    address = urlsplit(url)
    assert address.port is not None
    for request in (
        f"GET /v1/x?ticket={secret['ticket']} nonsense\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret['header']}\r\n{secret['header']} no header\r\n\r\n",
        f"{secret['header']}\r\n\r\n",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=30) as raw:
            raw.sendall(request.encode())
            while raw.recv(4096):
                pass


def documented(section: str, table_from: str) -> str:
    """A table of the page about logs and traces."""
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return text.partition(table_from)[2].partition("\n\n")[0]


def test_the_page_tells_every_field_span_and_attribute(stack: Stack, person: Person, collector: Collector) -> None:
    """Of all that this file's traffic brought forth; and its examples have the fields that lines have."""
    stack.model.say("hello", {"text": "Hello!"})
    message_id = person.submit(person.project(), "hello")
    assert end_of(person, message_id)["status"] == "success"
    eventually(lambda: ends(stack, "worker-1", message_id))
    fields = set(
        re.findall(
            r"`(\w+)`", " ".join(row.split("|")[1] for row in documented("Logs", "| --- | --- | --- |\n").splitlines())
        )
    )
    told = [line for name in PRODUCT for line in lines(stack, name)]
    assert {field for line in told for field in line} <= fields
    for example in map(json.loads, re.findall(r"^\{.*\}$", PAGE.read_text(), re.MULTILINE)):
        alike = [line.keys() - {"trace_id", "span_id"} for line in told if line["event"] == example["event"]]
        assert example.keys() in alike, example["event"]
    attributes = set(re.findall(r"`([\w.]+)`", documented("Traces", "| --- | --- |\n")))
    assert {name for span in collector.spans for name in span.attributes} <= attributes
    names = documented("Traces", "```\nPOST")
    for span in collector.spans:
        assert span.kind == "server" or span.name.split(" ")[0] in names, span.name


def test_every_process_writes_json_lines_alone(stack: Stack) -> None:
    """So that whoever ships them can read each."""
    for name in PRODUCT:
        told = lines(stack, name)
        assert told, name
        for line in told:
            assert line.keys() >= {"timestamp", "level", "logger", "event", "process", "pid"}
            assert line["process"] == re.sub(r"-\d+$", "", name)
