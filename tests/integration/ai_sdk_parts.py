"""A client of the AI SDK by hand: every chunk and every frame as it is on the wire."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from shared import closing, events, notices
from shared.event_log import Entry
from shared.events import Delta, EventId, Snapshot, Status, StreamEvent, ToolResult, ToolStart
from shared.outcomes import Cancelled, HandedOver, Outcome, Succeeded
from shared.records import JobPhase, StoredCall
from shared.store import Built, StartJob
from tests.integration.api_parts import Api, Person
from tests.people import eventually
from tests.ui_message import Json, UiMessage, Version

DONE: Final = "[DONE]"


def said(text: str, message_id: str | None = None) -> Json:
    """A user's message as `useChat` makes one."""
    return {"parts": [{"type": "text", "text": text}], "id": message_id or uuid.uuid4().hex[:16], "role": "user"}


def posted(*messages: Json, **more: Any) -> Json:
    """What `useChat` posts."""
    return {"id": "chat-1", "messages": list(messages), "trigger": "submit-message", **more}


def chat_path(project_id: str, *rest: str) -> str:
    return "/".join(["/v1/ai/chat", project_id, *rest])


class Stream:
    """An event stream that is read chunk by chunk. `is_whole`: it ended as an answer does, and was not broken off."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.chunks: list[Json] = []
        self.is_done = False
        self.is_whole: bool | None = None
        self._unread = b""

    def next(self) -> Json | None:
        """The next chunk; None at the end."""
        while (line := self._line()) is not None:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].decode()
            if data == DONE:
                self.is_done = True
                continue
            chunk: Json = json.loads(data)
            self.chunks.append(chunk)
            return chunk
        return None

    def _line(self) -> bytes | None:
        while b"\n" not in self._unread:
            try:
                piece = self.response.read1(1 << 16)
            except (http.client.IncompleteRead, ConnectionError):
                self.is_whole = False
                return None
            if not piece:
                self.is_whole = True
                return None
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def until(self, kind: str) -> Json:
        while (chunk := self.next()) is not None:
            if chunk["type"] == kind:
                return chunk
        raise AssertionError(f"no {kind} in {self.chunks}")

    def finish(self) -> Stream:
        while self.next() is not None:
            pass
        return self

    def shown(self, version: Version = 7) -> UiMessage:
        return UiMessage(version).take_all(self.chunks)


@contextmanager
def streaming(
    address: str, person: Person, method: str, path: str, body: Any = None, *, headers: Json | None = None
) -> Iterator[Stream]:
    """An answer of 200 that is read as it comes."""
    connection = http.client.HTTPConnection(address, timeout=30)
    own = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json", **(headers or {})}
    connection.request(method, path, None if body is None else json.dumps(body), own)
    response = connection.getresponse()
    try:
        assert response.status == 200, response.read()
        assert response.headers.get_content_type() == "text/event-stream"
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["x-accel-buffering"] == "no"
        yield Stream(response)
    finally:
        response.close()
        connection.close()


class Frames:
    """One socket of a `WebSocketChatTransport`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def say(self, frame: Any) -> None:
        self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def send(self, request_id: str, *messages: Json, **more: Any) -> None:
        self.say({"type": "send", "requestId": request_id, "headers": {}, "body": {}, **posted(*messages), **more})

    def resume(self, request_id: str, **body: Any) -> None:
        self.say({"type": "resume", "requestId": request_id, "id": "chat-1", "headers": {}, "body": body})

    def abort(self, request_id: str) -> None:
        self.say({"type": "abort", "requestId": request_id})

    def hear(self) -> Json:
        frame: Json = json.loads(self.socket.recv(timeout=30))
        return frame

    def until(self, kind: str, request_id: str, chunk: str | None = None) -> list[Json]:
        """A request's frames up to the next of that type, and with a chunk of that type; others' are passed over."""
        found: list[Json] = []
        while True:
            frame = self.hear()
            if frame["requestId"] != request_id:
                continue
            found.append(frame)
            if frame["type"] == kind and (chunk is None or frame["chunk"]["type"] == chunk):
                return found

    def until_closed(self) -> tuple[list[Json], int]:
        heard = []
        try:
            while True:
                heard.append(self.hear())
        except ConnectionClosed:
            assert self.socket.close_code is not None
            return heard, self.socket.close_code


@contextmanager
def frames(
    address: str, person: Person | None, project_id: str, *, ticket: str | None = None, **headers: str
) -> Iterator[Frames]:
    own = {} if person is None else {"Authorization": f"Bearer {person.token}"}
    url = f"ws://{address}{chat_path(project_id, 'socket')}" + (f"?ticket={ticket}" if ticket else "")
    with connect(url, additional_headers={**own, **headers}, proxy=None, legacy=True, max_size=None) as socket:
        yield Frames(socket)


def shown_by(told: Sequence[Json]) -> UiMessage:
    """What these frames of one request show; their chunks are numbered without a gap."""
    numbered = [frame for frame in told if frame["type"] == "chunk"]
    assert [frame["sequence"] for frame in numbered] == list(range(len(numbered)))
    return UiMessage().take_all(frame["chunk"] for frame in numbered)


class ChatWriter:
    """A worker, and a builder, by hand: of the newest answer of a project, or of the one of that id."""

    def __init__(self, api: Api, person: Person, project_id: str, message_id: str | None = None) -> None:
        self.message_id = uuid.UUID(message_id or newest_answer(person, project_id)["id"])
        self._api = api
        claim = api.store.claim(self.message_id, "test", lease_s=60, max_tries=3)
        assert claim is not None
        self._lease = claim.lease
        self._text = claim.content
        self._n = 0
        if self._lease.attempt > 1:
            self._append(Snapshot, content=self._text, status="pending", tool_calls=(), reason="attempt")
        self._append(Status, status="thinking")

    def say(self, *texts: str) -> None:
        for text in texts:
            self._text += text
            self._append(Delta, content=text)

    def call(self, name: str, arguments: Any, *, fails: bool = False) -> None:
        """Tells of a call, of whose effect nothing is stored."""
        common = {"name": name, "tool_call_id": f"call_{self._n}"}
        self._append(ToolStart, **common, arguments=arguments)
        came_to: Json = {"success": False, "error": "No."} if fails else {"success": True, "final_content": "Done."}
        self._append(ToolResult, **common, **came_to)

    def begin_anew(self, content: str = "") -> None:
        """Another attempt, with the text of the stored rounds."""
        self._lease = self._api.store.begin_attempt(self._lease)
        self._n, self._text = 0, content
        self._append(Snapshot, content=content, status="pending", tool_calls=(), reason="attempt")

    def finish(self) -> str:
        """The row's text."""
        return self._end(Succeeded(content=self._text))

    def cancel(self) -> str:
        return self._end(Cancelled(content=self._text))

    def cancel_once_asked(self) -> str:
        """As a worker does, whose lease's renewal tells it."""
        owner = self._lease.owner
        eventually(lambda: self._api.store.renew_leases([owner], lease_s=60)[owner].cancel_requested)
        return self.cancel()

    def hand_over(self, name: str) -> ChatBuilder:
        """Has a component built, and is its builder from then on."""
        call = StoredCall(
            tool_call_id=f"call_{self._n}", name="generateRemotionComponent", arguments=json.dumps({"name": name})
        )
        common = {"name": call.name, "tool_call_id": call.tool_call_id}
        self._append(ToolStart, **common, arguments={"name": name})
        effect = self._api.store.commit_effect(self._lease, 1, 0, call, StartJob(name=name, effect_description="x"))
        job_id = effect.call.job_id
        assert job_id is not None
        self._append(ToolResult, **common, success=True, final_content="Begun.", job_id=job_id)
        self._end(HandedOver(content=self._text, job_id=job_id))
        return ChatBuilder(self._api, self.message_id)

    def _append(self, kind: type[StreamEvent], **fields: Any) -> None:
        event_id = EventId(self._lease.attempt, self._n)
        event = kind(id=str(event_id), message_id=str(self.message_id), ts=1_795_000_000_000, **fields)
        assert self._api.log.append(self.message_id, [Entry(event_id, events.encode(event))]).word == "ok"
        self._n += 1

    def _end(self, outcome: Outcome, built: Built | None = None) -> str:
        ending = self._api.store.finalize(
            self._lease,
            outcome,
            first=EventId(self._lease.attempt, self._n),
            usage=None,
            first_token_ms=None,
            built=built,
        )
        closing.append_ending(self._api.store, self._api.log, ending)
        return self._text


class ChatBuilder(ChatWriter):
    """The builder of a message's component."""

    def __init__(self, api: Api, message_id: uuid.UUID) -> None:
        self.message_id = message_id
        self._api = api
        claim = api.store.claim_build(message_id, "builder", lease_s=60, max_tries=3)
        assert claim is not None
        self._lease, self._text, self._n, self.job = claim.lease, claim.content, 0, claim.job
        calls = tuple(effect.call for effect in claim.effects)
        self._append(Snapshot, content=self._text, status="building", tool_calls=calls, reason="attempt")
        self._append(Status, status="building")

    def enter(self, phase: JobPhase) -> None:
        job = self._api.store.write_phase(self._lease, self.job.id, phase, tries=1)
        self._api.log.publish(notices.job_changed(job))

    def finish(self) -> str:
        self._text += "\n\nBuilt."
        built = Built(source="x", source_sha256="0" * 64, bundle="x", bundle_sha256="0" * 64)
        return self._end(Succeeded(content=self._text), built)


def newest_answer(person: Person, project_id: str) -> Json:
    items = person.get(f"/v1/projects/{project_id}/messages").get_json()["items"]
    answer: Json = next(item for item in items if item["role"] == "assistant")
    return answer
