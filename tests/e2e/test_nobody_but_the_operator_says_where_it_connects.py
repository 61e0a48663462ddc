"""The addresses that processes connect to are the operator's settings: nothing that is sent, stored or answered adds one."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.listening import listening
from tests.people import Person, eventually
from tests.stack import Stack


class Naming(NamedTuple):
    """A request that names `{E}`, an address, wherever one might be looked for."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = {}
    asks: bool = False
    """It is accepted, and the model is asked."""


TEXT: Final = "see {E}/text and ![x]({E}/x.png) and <img src={E}/y.png>"
PARTS: Final = [
    {"type": "image_url", "image_url": {"url": "{E}/x.png"}},
    {"type": "input_image", "image_url": "{E}/x.png"},
    {"type": "input_file", "file_url": "{E}/x.pdf"},
    {"type": "input_file", "file_id": "{E}/x"},
    {"type": "input_audio", "input_audio": {"data": "{E}", "format": "wav"}},
    {"type": "file", "url": "{E}/x.png", "mediaType": "image/png"},
    {"type": "source-url", "sourceId": "x", "url": "{E}/x"},
    {"type": "data-x", "data": {"url": "{E}/x"}},
]
OPENAI: Final = "/v1/openai/responses"
COMPLETIONS: Final = "/v1/openai/chat/completions"
CHAT: Final = "/v1/ai/chat/{project}"
MORE: Final = {
    "base_url": "{E}",
    "baseURL": "{E}",
    "api_base": "{E}",
    "webhook": "{E}",
    "webhook_url": "{E}",
    "callback": "{E}",
    "user": "{E}",
    "safety_identifier": "{E}",
    "extra_headers": {"Host": "{E}"},
    "metadata": {"url": "{E}", "project": "{project}"},
}
FORWARDED: Final = {
    "Forwarded": "for=127.0.0.1;host={H};proto=http",
    "X-Forwarded-Host": "{H}",
    "X-Forwarded-For": "{H}",
    "X-Forwarded-Proto": "gopher",
    "X-Original-URL": "{E}/",
    "X-Rewrite-URL": "{E}/",
    "X-Base-Url": "{E}",
    "X-OpenAI-Base-Url": "{E}",
    "Proxy": "{E}",
    "Proxy-Authorization": "Basic YTpi",
    "Referer": "{E}/",
    "From": "x@{H}",
    "Link": "<{E}/>; rel=preload",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Tracestate": "x={H}",
    "Baggage": "url={E}",
}


def said(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts), **more}


NAMING: Final = [
    Naming("POST", "/v1/projects", {"name": TEXT, "document": {"$schema": "{E}/s.json", "$ref": "{E}/d.json"}}),
    *(
        Naming("POST", "/v1/projects", {"name": "a", "document": {"a": 1}, "schema": {**schema, "type": "object"}})
        for schema in (
            {"$schema": "{E}/schema"},
            {"$id": "{E}/schema", "$ref": "other.json"},
            {"$ref": "{E}/schema.json"},
            {"$dynamicRef": "{E}/schema.json"},
            {"$recursiveRef": "{E}/schema.json"},
            {"allOf": [{"$ref": "{E}/a.json#/x"}]},
            {"properties": {"a": {"$ref": "{E}/a.json"}}},
            {"$defs": {"a": {"$id": "{E}/a"}}, "properties": {"a": {"$ref": "{E}/a"}}},
            {"properties": {"a": {"type": "string", "format": "uri", "contentSchema": {"$ref": "{E}/a"}}}},
        )
    ),
    Naming("PATCH", "/v1/projects/{project}", {"schema": {"$ref": "{E}/schema.json"}}),
    Naming(
        "PATCH",
        "/v1/projects/{project}/document",
        [{"op": "add", "path": "/url", "value": {"$ref": "{E}/x", "src": "{E}/y"}}],
        {"Content-Type": "application/json-patch+json"},
    ),
    Naming("PUT", "/v1/projects/{project}/members/{H}", {"role": "viewer"}),
    Naming("POST", "/v1/projects/{project}/messages", {"content": TEXT}, asks=True),
    Naming("POST", "/v1/projects/{project}/messages", {"content": TEXT}, FORWARDED, asks=True),
    Naming("POST", "/v1/projects/{project}/messages", {"content": TEXT, "model": "{E}"}),
    Naming("POST", "/v1/projects/{project}/messages", {"content": TEXT, **MORE}),
    Naming("POST", "/v1/tickets", {"path": "{E}/v1/messages"}),
    Naming("POST", "/v1/tickets", {"path": "//{H}/v1/messages"}),
    Naming("POST", OPENAI, {"input": TEXT, "model": "chatrelay:{project}", **MORE}, FORWARDED, asks=True),
    Naming("POST", OPENAI, {"input": TEXT, "model": "{E}", "metadata": {"project": "{project}"}}),
    Naming("POST", OPENAI, {"input": TEXT, "previous_response_id": "{E}/r"}),
    Naming("POST", OPENAI, {"input": TEXT, "conversation": "{E}/c"}),
    Naming("POST", OPENAI, {"input": TEXT, "conversation": {"id": "{project}"}, "prompt": {"id": "{E}"}}),
    *(
        Naming("POST", OPENAI, {"input": TEXT, "conversation": "{project}", "tools": [tool]})
        for tool in (
            {"type": "mcp", "server_label": "x", "server_url": "{E}"},
            {"type": "web_search", "filters": {"allowed_domains": ["{H}"]}},
            {"type": "code_interpreter", "container": "{E}"},
        )
    ),
    *(Naming("POST", OPENAI, {"input": [said(part)], "conversation": "{project}"}) for part in PARTS),
    *(Naming("POST", COMPLETIONS, {"messages": [said(part)], "model": "chatrelay:{project}"}) for part in PARTS),
    Naming("POST", COMPLETIONS, {"messages": [said({"type": "text", "text": TEXT})], "model": "chatrelay:{project}", **MORE},
           {"OpenAI-Project": "{project}", "OpenAI-Organization": "{E}"}, asks=True),
    Naming("POST", COMPLETIONS, {"messages": [said({"type": "text", "text": "x"})], "model": "chatrelay:{project}",
           "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "{E}/s"}}}}),
    Naming("POST", CHAT, {"id": "{E}", "api": "{E}", "messages": [{"id": "m", "role": "user", "parts": [
           {"type": "text", "text": TEXT}, {"type": "data-x", "data": "{E}"}]}], **MORE}, asks=True),
    *(Naming("POST", CHAT, {"messages": [{"id": "m", "role": "user", "parts": [part]}]}) for part in PARTS),
    Naming("POST", "/trpc/chat.initiateChat", {"projectId": "{project}", "message": TEXT, "url": "{E}"}, asks=True),
    Naming("POST", "/trpc/chat.initiateChat", {"projectId": "{E}", "message": TEXT}),
    Naming("GET", "/v1/openai/responses/resp_{H}"),
    Naming("GET", "/v1/projects?before={E}"),
    Naming("GET", "/docs?url={E}&configUrl={E}"),
    Naming("GET", "/v1/jobs/{project}/preview?url={E}"),
]  # fmt: skip


ANSWER: Final = {
    "rounds": [
        {
            "steps": [
                {"text": f"{TEXT} [x]({{E}}/z)"},
                {
                    "tools": [
                        {"name": "{E}", "arguments": {"url": "{E}"}},
                        {
                            "name": "applyJsonPatch",
                            "arguments": {
                                "operations": [{"op": "add", "path": "/$ref", "value": "{E}/x"}],
                                "explanation": TEXT,
                            },
                        },
                    ]
                },
            ]
        },
        {"steps": [{"text": "Done."}]},
    ]
}


def filled(value: Any, names: dict[str, str]) -> Any:
    text = json.dumps(value)
    for name, meant in names.items():
        text = text.replace(f"{{{name}}}", meant)
    return json.loads(text)


def final_answers(person: Person, project: str) -> list[dict[str, Any]] | None:
    """The project's answers, once all of them are final."""
    items = person.client.get(f"/v1/projects/{project}/messages?limit=100").json()["items"]
    answers = [item for item in items if item["role"] == "assistant"]
    return None if any(item["status"] == "pending" for item in answers) else answers


def test_no_request_and_no_answer_of_the_model_makes_a_process_connect_to_elsewhere(shared_stack: Stack) -> None:
    """A server that is named in every field, header, document, schema and answer hears nothing; what asks the model is
    answered by the operator's."""
    asked = 0
    with Person(shared_stack) as person, listening() as elsewhere:
        project = person.project(document={"a": 1})
        names = {"E": elsewhere.address, "H": f"127.0.0.1:{elsewhere.port}", "project": project}
        shared_stack.model.on("see http", filled(ANSWER, names))
        for naming in NAMING:
            answer = person.client.request(
                naming.method,
                filled(naming.path, names),
                json=filled(naming.body, names),
                headers={"Content-Type": "application/json", "Connection": "close", **filled(naming.headers, names)},
                timeout=60,
            )
            assert answer.status_code < 500, (naming, answer.text)
            asked += naming.asks
            assert answer.is_success or not naming.asks, (naming, answer.text)
        rows = eventually(lambda: final_answers(person, project))
        assert [row["error"] for row in rows] == [None] * asked
        heard = elsewhere.close()
    assert heard == []
    assert len(shared_stack.model.requests()) == 2 * asked


@pytest.mark.parametrize("line", ["GET {E}/x HTTP/1.1", "CONNECT {H} HTTP/1.1", "POST {E}/v1/projects HTTP/1.1"])
def test_the_web_processes_are_no_proxies(shared_stack: Stack, line: str) -> None:
    """A request target with another host in it is a path like every other."""
    web = urlsplit(shared_stack.urls[0])
    with listening() as elsewhere:
        first = line.replace("{E}", elsewhere.address).replace("{H}", f"127.0.0.1:{elsewhere.port}")
        with socket.create_connection((web.hostname, web.port), timeout=30) as connection:
            connection.sendall(f"{first}\r\nHost: 127.0.0.1:{elsewhere.port}\r\nConnection: close\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                status = int(answer.readline().split()[1])
        assert status >= 400
        heard = elsewhere.close()
    assert heard == []
