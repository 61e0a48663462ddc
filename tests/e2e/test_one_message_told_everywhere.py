"""One message from POST to the row: over the socket, as Server-Sent Events and on the raw Redis channels."""

from __future__ import annotations

import json
import time
from typing import Any, Final, Self
from urllib.parse import urlencode

from shared import event_log, keys
from tests import rights
from tests.people import Person
from tests.stack import Stack
from tests.trace_checker import check_trace

CANARY: Final = "zinnober-canary-1f3a"
PATCH: Final = {
    "operations": [{"op": "replace", "path": "/meta/title", "value": f"Title {CANARY}"}],
    "explanation": f"Renamed it to {CANARY}.",
}
WAIT_S: Final = 30.0


class Tail:
    """`redis-cli PSUBSCRIBE 'chatrelay:*'`: what an operator sees."""

    def __init__(self, redis_url: str) -> None:
        self._client = event_log.connect(rights.as_operator(redis_url))
        self._subscription = self._client.pubsub()  # type: ignore[no-untyped-call]  # redis-py's is untyped
        self._subscription.psubscribe("chatrelay:*")
        self._messages: list[tuple[str, bytes]] = []
        while self._subscription.get_message(timeout=WAIT_S) is None:
            pass  # the acknowledgement

    def until(self, channel: str, kind: str, **fields: str) -> Self:
        """Reads until a line of this type, with these fields, came on the channel."""
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            message = self._subscription.get_message(timeout=1.0)
            if message is None or message["type"] != "pmessage":
                continue
            at, payload = message["channel"].decode(), message["data"]
            self._messages.append((at, payload))
            line = json.loads(payload)
            if at == channel and line["type"] == kind and fields.items() <= line.items():
                return self
        raise TimeoutError(f"no {kind} on {channel}; seen: {self._messages}")

    def on(self, channel: str) -> list[bytes]:
        return [payload for at, payload in self._messages if at == channel]

    def close(self) -> None:
        self._subscription.close()
        self._client.close()


def _lines(payloads: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in payloads]


def test_a_message_is_told_alike_on_every_channel_and_then_stands_in_its_row(
    shared_stack: Stack, person: Person
) -> None:
    """The message's channel is the log byte for byte; the project's has lifecycle; the operators' has no user's text."""
    shared_stack.model.on(
        CANARY,
        {
            "rounds": [
                {
                    "steps": [
                        {"text": f"I will rename it, {CANARY}."},
                        {"tool": {"name": "applyJsonPatch", "arguments": PATCH}},
                    ]
                },
                {"steps": [{"text": f"It is called {CANARY} now.", "pace": 0.005}]},
            ]
        },
    )
    project_id = person.project(template="video")
    tail = Tail(shared_stack.redis_url)
    try:
        message_id = person.submit(project_id, f"Rename it to {CANARY}")
        with person.audience(message_id) as audience:
            audience.finish()
            row = person.row(message_id)
            received = audience.check(row)
            frames = [follower.frames for follower in audience.followers]
        tail.until(keys.OPS, "finalized", messageId=message_id)
    finally:
        tail.close()

    log = shared_stack.log.replay(message_id)
    logged = [entry.payload for entry in log]
    check_trace(logged, row=row)
    assert tail.on(keys.message_channel(message_id)) == logged

    told = _lines(tail.on(keys.project_channel(project_id)))
    assert [(line["type"], line["message"]["role"]) for line in told if line["type"] == "message"] == [
        ("message", "user"),
        ("message", "assistant"),
    ]
    assert [(line["version"], line["messageId"]) for line in told if line["type"] == "document"] == [(2, message_id)]
    lifecycle = [line for line in told if line["type"] not in ("message", "document")]
    assert lifecycle == [{**line, "projectId": project_id} for line in _lines(logged) if line["type"] != "delta"]

    ops = _lines(tail.on(keys.OPS))
    mine = [line for line in ops if line["messageId"] == message_id]
    assert [line["type"] for line in mine if line["type"] != "submitted"] == ["started", "finalized"]
    assert [line["type"] for line in mine].count("submitted") == 1, "told by another process, so that it may come late"
    ended = next(line for line in mine if line["type"] == "finalized")
    assert ended["status"] == "success"
    assert ended["timing"] == row["timing"]
    assert CANARY not in json.dumps(ops)

    assert row["status"] == "success"
    assert row["content"] == f"I will rename it, {CANARY}.\n\nIt is called {CANARY} now."
    assert [(call["state"], call["version"]) for call in row["toolCalls"]] == [("succeeded", 2)]
    assert row["attempt"] == 1
    assert person.document(project_id)["document"]["meta"]["title"] == f"Title {CANARY}"
    assert all(one[-1] == logged[-1] for one in frames)
    assert all(events[-1].id == str(log[-1].id) for events in received)


def test_a_log_expires_an_hour_after_its_last_event_and_the_row_stays(shared_stack: Stack, person: Person) -> None:
    """A reader that comes after the log is gone gets the row's text and its end."""
    shared_stack.model.say("kept in the row", {"text": "So it is."})
    row = person.answer_to(person.project(), "Is this kept in the row?")
    name = keys.log(row["id"])
    assert 3500 < shared_stack.redis.ttl(name) <= 3600
    shared_stack.redis.delete(name)
    with person.audience(row["id"]) as audience:
        for received in audience.check(row):
            assert [type(event).__name__ for event in received] == ["Snapshot", "Finalized"]
    assert person.row(row["id"]) == row


def test_text_arrives_byte_for_byte_through_everything(shared_stack: Stack, person: Person) -> None:
    """Emoji of several code points, right-to-left and combining text, control and separator characters, one at a time."""
    text = (
        "👩🏽‍🚀🏳️‍🌈🇺🇳🇩🇪 שלום العالم \u202eabc\u202c \u2066x\u2069 e\u0301 é a\u0323\u0302 ﷽ ﬀ Ⅷ K 𝔘𝔫𝔦"
        " हिन्दी ไทย 한국어 한국 日本語 漢字 𠀀𪛖 ქართული አማርኛ ᏣᎳᎩ ꦧꦱꦗꦮ 𓂀 𐍈 ß ı İ \ufeff \u200b\u00ad"
        " \ufffe\uffff\ufdd0\U0001fffe\U0010ffff \ue000\U000f0000 \u2028\u2029 \x7f\x80\x9f\x01 tab\there\r\nline"
        " \\u0041 \"'</script>"
    )
    shared_stack.model.on(
        "byte for byte",
        {
            "rounds": [
                {
                    "steps": [
                        {"text": text, "chunk_size": 1},
                        {
                            "tool": {
                                "name": "applyJsonPatch",
                                "arguments": {
                                    "operations": [{"op": "add", "path": "/t", "value": text}],
                                    "explanation": text,
                                },
                                "every_byte": True,
                            }
                        },
                    ]
                },
                {"steps": [{"text": text, "chunk_size": 2}]},
            ]
        },
    )
    project_id = person.project(name=f"{text[:150]}")
    row = person.answer_to(project_id, f"byte for byte {text}")

    assert row["content"].encode() == f"{text}\n\n{text}".encode()
    assert row["toolCalls"][0]["finalContent"].encode() == text.strip().encode()
    assert row["toolCalls"][0]["arguments"]["operations"][0]["value"].encode() == text.encode()
    assert person.document(project_id)["document"] == {"t": text}
    asked = shared_stack.model.requests()[0]["messages"][-1]["content"]
    assert asked.encode() == f"byte for byte {text}".encode()
    items = person.client.get(f"/v1/projects/{project_id}/messages").json()["items"]
    assert items[1]["content"].encode() == f"byte for byte {text}".encode()
    assert person.document(project_id)["name"] == text[:150]
    check_trace([entry.payload for entry in shared_stack.log.replay(row["id"])], row=row)
    _check_other_protocols(person, project_id, row)


def _check_other_protocols(person: Person, project_id: str, row: dict[str, Any]) -> None:
    """Each tells the answer, and takes a question, byte for byte too."""
    content, question = row["content"], f"byte for byte, once more: {row['content'][:400]}"
    told = person.client.get(f"/v1/openai/responses/resp_{row['id']}").json()
    assert (
        "".join(part["text"] for item in told["output"] if item["type"] == "message" for part in item["content"])
        == content
    )
    chunks = _data(person, f"/v1/openai/responses/resp_{row['id']}?stream=true")
    assert "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "response.output_text.delta") == content
    parts = _data(person, f"/v1/ai/chat/{project_id}/stream?messageId={row['id']}&sdk=7")
    assert "".join(part["delta"] for part in parts if part["type"] == "text-delta") == content
    given = {"assistantMessageId": row["id"], "projectId": project_id}
    events = _data(person, f"/trpc/chat.streamResponse?{urlencode({'input': json.dumps(given)})}")
    assert [event["finalContent"] for event in events if event.get("type") == "complete"][-1] == content
    listed = person.client.get(
        f"/trpc/chat.getMessages?{urlencode({'input': json.dumps({'projectId': project_id})})}"
    ).json()
    assert listed["result"]["data"]["items"][0]["content"] == content

    said = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": question}]}
    for path, body in (
        ("/trpc/chat.initiateChat", {"projectId": project_id, "message": question}),
        ("/v1/openai/responses", {"input": question, "conversation": project_id, "background": True}),
        (f"/v1/ai/chat/{project_id}", {"id": "chat", "messages": [said]}),
    ):
        with person.stack.client_for(person.token) as client:
            assert client.post(path, json=body).status_code == 200, path
    items = person.client.get(f"/v1/projects/{project_id}/messages").json()["items"]
    asked = [item["content"] for item in items if item["role"] == "user"]
    assert asked[:3] == [question] * 3


def _data(person: Person, path: str) -> list[dict[str, Any]]:
    """The events of a stream that ends, and its connection with it."""
    with person.stack.client_for(person.token) as client:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.content.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line not in ("", "[DONE]")]


def test_twelve_readers_of_one_message_all_see_the_same_story(shared_stack: Stack, person: Person) -> None:
    """Readers share one subscription of each process, and none is forgotten."""
    shared_stack.model.say(
        "twelve readers", {"text": "First. "}, {"hold": "all here"}, {"text": "And last.", "pace": 0.005}
    )
    message_id = person.submit(person.project(), "for twelve readers")
    with person.audience(message_id) as one, person.audience(message_id) as two, person.audience(message_id) as three:
        audiences = (one, two, three)
        for audience in audiences:
            audience.wait_text("First. ")
        channel = keys.message_channel(message_id).encode()
        assert dict(shared_stack.redis.pubsub_numsub(channel)) == {channel: 2}
        shared_stack.model.release("all here")
        for audience in audiences:
            audience.finish()
        row = person.row(message_id)
        for audience in audiences:
            audience.check(row)
    assert row["content"] == "First. And last."
