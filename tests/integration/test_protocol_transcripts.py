"""The transcripts in docs/protocols.md are recordings: what stands there is what goes over the wire today."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_parts import Api, Person, answered
from tests.integration.openai_parts import asking
from tests.integration.trpc_parts import Line, Writer, follow, line, query, stop, stream_address

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocols.md"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Recorder:
    """Both sides of a conversation, with ids, tokens and times that differ from run to run shortened."""

    def __init__(self, **names: str) -> None:
        self.lines: list[str] = []
        self._names = {text: name for name, text in names.items()}

    def plain(self, said: str) -> str:
        for text, name in self._names.items():
            said = said.replace(text, f"<{name}>")
        said = re.sub(r'"timing":\{[^}]*\}', '"timing":{…}', said)
        said = re.sub(r'"ts":[0-9]+', '"ts":…', said)
        assert not _ID.search(said), said
        return said

    def note(self, direction: str, said: str) -> None:
        self.lines.append(f"{direction} {self.plain(said)}")

    def says(self, socket: Line, *messages: Any) -> None:
        [text] = [messages[0] if isinstance(messages[0], str) else json.dumps(messages[0], separators=(",", ":"))]
        self.note(">", text)
        socket.send(text)

    def hears(self, socket: Line, *, shorten: Callable[[str], str] = str) -> Any:
        text = socket.socket.recv(timeout=30)
        assert isinstance(text, str)
        self.note("<", shorten(text))
        return text


def documented(name: str) -> str:
    found = re.search(rf"<!-- transcript: {name} -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def check(name: str, lines: list[str]) -> None:
    recorded = "\n" + "\n".join(["```", *lines, "```"]) + "\n\n"
    assert documented(name) == recorded, f"docs/protocols.md should have:{recorded}"


@pytest.fixture
def anna(api: Api) -> Person:
    return api.person()


def test_the_conversation_on_a_socket_is_as_documented(api: Api, served: str, anna: Person) -> None:
    project_id = anna.project()["id"]
    with line(served, None, params={"token": anna.token}) as socket:
        recorder = Recorder(token=str(anna.token), projectId=project_id)
        recorder.note(
            ">", json.dumps({"method": "connectionParams", "data": {"token": anna.token}}, separators=(",", ":"))
        )
        socket.send(query(1, "chat.initiateChat", {"projectId": project_id, "message": "Hello"}, "mutation"))
        started = socket.hear()
        message_id = started["result"]["data"]["assistantMessageId"]
        recorder._names[message_id] = "messageId"
        asked = query(1, "chat.initiateChat", {"projectId": project_id, "message": "Hello"}, "mutation")
        recorder.note(">", json.dumps(asked, separators=(",", ":")))
        recorder.note("<", json.dumps(started, separators=(",", ":")))
        pair = {"assistantMessage": {"id": message_id, "projectId": project_id}}
        writer = Writer(api, pair)
        recorder.says(socket, follow(2, pair))
        recorder.hears(socket)
        recorder.hears(socket)
        for text in ("Hel", "lo!"):
            writer.say(text)
            recorder.hears(socket)
        recorder.says(socket, "PING")
        recorder.hears(socket)
        recorder.says(socket, stop(2))
        recorder.hears(socket)
        writer.finish()
        recorder.says(socket, follow(3, pair, after="1-1"))
        for _ in range(5):
            recorder.hears(socket)
        recorder.says(socket, query(4, "chat.getMessages", {"projectId": "somebody else's"}))
        recorder.hears(socket)
        api.app.extensions["chatrelay"].relay.stop(20.0)
        recorder.hears(socket)
    check("socket", recorder.lines)


def test_the_event_stream_is_as_documented(api: Api, anna: Person) -> None:
    pair = anna.pair(anna.project()["id"])
    answer = pair["assistantMessage"]
    writer = Writer(api, pair)
    writer.say("Hello!")
    answered(anna.post(f"/v1/messages/{answer['id']}/cancel"), 202)
    writer.cancel()
    recorder = Recorder(messageId=answer["id"], projectId=answer["projectId"])
    path = stream_address(pair)
    body = anna.get(path, headers={"Last-Event-ID": "1-0"}).get_data(as_text=True)
    recorder.lines.append(f"GET {recorder.plain(path)}")
    recorder.lines += ["Last-Event-ID: 1-0", ""]
    recorder.lines += [line.rstrip() for line in recorder.plain(body).rstrip("\n").split("\n")]
    check("stream", recorder.lines)


def test_the_responses_are_as_documented(api: Api, served: str, anna: Person) -> None:
    """Made, cut off in the midst of its text, and gone on with behind the last number that came."""
    project_id = anna.project()["id"]
    recorder = Recorder(projectId=project_id)
    body = {"input": "Hello", "conversation": project_id, "stream": True}

    def hear(told: list[dict[str, Any]]) -> None:
        for event in told:
            response = event.get("response")
            shown = event if response is None else {**event, "response": ["id", "status", "output", "usage"]}
            text = json.dumps(shown, separators=(",", ":"), ensure_ascii=False)
            if response is not None:
                kept = json.dumps({key: response[key] for key in ("id", "status")}, separators=(",", ":"))
                text = text.replace('["id","status","output","usage"]', f"{kept[:-1]},…}}")
            recorder.lines += [f"event: {event['type']}", recorder.plain(f"data: {text}"), ""]

    recorder.lines += ["POST /v1/openai/responses", recorder.plain(json.dumps(body)), ""]
    with asking(served, anna, "POST", "/v1/openai/responses", body) as request:
        opening = request.until("response.queued")
        message_id = opening[0]["response"]["id"].removeprefix("resp_")
        recorder._names[message_id] = "messageId"
        writer = Writer(api, {"assistantMessage": {"id": message_id}})
        writer.say("Hel")
        told = opening + request.until("response.output_text.delta")
    hear(told)
    writer.say("lo!")
    writer.finish()
    path = f"/v1/openai/responses/resp_{message_id}?stream=true&starting_after={told[-1]['sequence_number']}"
    recorder.lines += [f"GET {recorder.plain(path)}", ""]
    with asking(served, anna, "GET", path) as request:
        hear(request.rest())
    check("responses", recorder.lines[:-1])
