"""A tRPC client by hand: every frame and every answer as it is on the wire."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from shared import closing, events
from shared.event_log import Entry
from shared.events import Delta, EventId, Snapshot, SnapshotReason, Status, StreamEvent
from shared.outcomes import Cancelled, Succeeded
from tests.integration.api_parts import Api, Person

Json = dict[str, Any]
FOLLOW: Final = "chat.streamResponse"


class Line:
    """One socket. `send` says something, `hear` is the next frame."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, *messages: Any) -> None:
        """One frame: a message, an array of several, or a text as it is."""
        [first, *more] = messages
        self.socket.send(first if isinstance(first, str) else json.dumps([first, *more] if more else first))

    def hear(self) -> Any:
        """The next frame, as JSON where it is some."""
        text = self.socket.recv(timeout=30)
        assert isinstance(text, str)
        return text if text in ("PING", "PONG") else json.loads(text)

    def until_closed(self) -> tuple[list[Any], int]:
        """What is said until the server closes, and its close code."""
        heard = []
        try:
            while True:
                heard.append(self.hear())
        except ConnectionClosed:
            assert self.socket.close_code is not None
            return heard, self.socket.close_code

    def until_type(self, kind: str, request_id: int | str) -> list[Json]:
        """The events of a subscription up to the next of that type; frames of others are passed over."""
        found: list[Json] = []
        while not found or found[-1]["type"] != kind:
            frame = self.hear()
            if frame["id"] == request_id and frame["result"]["type"] == "data":
                found.append(frame["result"]["data"]["data"])
        return found


@contextmanager
def line(
    served: str, person: Person | None, *, params: Any = ..., headers: Mapping[str, str] | None = None
) -> Iterator[Line]:
    """A socket of `person`, with the token in the header; or with these connection parameters, and no header."""
    own = {} if person is None or params is not ... else {"Authorization": f"Bearer {person.token}"}
    address = f"ws://{served}/trpc" + ("" if params is ... else "?connectionParams=1")
    with connect(
        address, additional_headers={**own, **(headers or {})}, proxy=None, legacy=True, max_size=None
    ) as socket:
        opened = Line(socket)
        if params is not ...:
            opened.send({"method": "connectionParams", "data": params})
        yield opened


def query(request_id: int | str, path: str, given: Any, kind: str = "query") -> Json:
    return {"id": request_id, "method": kind, "params": {"path": path, "input": given}}


def follow(request_id: int | str, pair: Json, *, after: str | None = None) -> Json:
    """A subscription to the answer of a pair of messages."""
    answer = pair["assistantMessage"]
    params: Json = {"path": FOLLOW, "input": {"assistantMessageId": answer["id"], "projectId": answer["projectId"]}}
    if after is not None:
        params["lastEventId"] = after
    return {"id": request_id, "method": "subscription", "params": params}


def stop(request_id: int | str) -> Json:
    return {"id": request_id, "method": "subscription.stop"}


def stream_address(pair: Json, **more: Any) -> str:
    answer = pair["assistantMessage"]
    given = {"assistantMessageId": answer["id"], "projectId": answer["projectId"], **more}
    return f"/trpc/{FOLLOW}?input={urllib.parse.quote(json.dumps(given))}"


def blocks(body: str) -> list[dict[str, str]]:
    """The blocks of an event stream, each as its fields."""
    found = [dict(line.split(": ", 1) for line in block.split("\n")) for block in body.split("\n\n") if block]
    return [block for block in found if "retry" not in block]


class Writer:
    """A worker of one message, by hand: it says what it is told to, and ends as a worker does."""

    def __init__(self, api: Api, pair: Json) -> None:
        self._api = api
        self.message_id = uuid.UUID(pair["assistantMessage"]["id"])
        claim = api.store.claim(self.message_id, "test", lease_s=60, max_tries=3)
        assert claim is not None
        self._lease = claim.lease
        self._n = 0
        self._text = ""
        self.append(Status(**self.base(), status="thinking"))

    def base(self) -> Json:
        base = {"id": f"{self._lease.attempt}-{self._n}", "message_id": str(self.message_id), "ts": 1_795_000_000_000}
        self._n += 1
        return base

    def append(self, *made: StreamEvent) -> None:
        entries = [Entry(EventId.parse(event.id), events.encode(event)) for event in made]
        assert self._api.log.append(self.message_id, entries).word == "ok"

    def say(self, *texts: str) -> None:
        self._text += "".join(texts)
        self.append(*(Delta(**self.base(), content=text) for text in texts))

    def begin_anew(self, reason: SnapshotReason = "attempt") -> None:
        """The next attempt: after a failure with no round stored, or (`restored`) going on with all text so far."""
        self._lease = self._api.store.begin_attempt(self._lease)
        self._n = 0
        self._text = self._text if reason == "restored" else ""
        self.append(Snapshot(**self.base(), content=self._text, status="pending", tool_calls=(), reason=reason))

    def finish(self) -> str:
        """The row's text."""
        return self._end(Succeeded(content=self._text))

    def cancel(self) -> str:
        return self._end(Cancelled(content=self._text))

    def _end(self, outcome: Succeeded | Cancelled) -> str:
        ending = self._api.store.finalize(
            self._lease,
            outcome,
            first=EventId(self._lease.attempt, self._n),
            usage=None,
            first_token_ms=None,
        )
        closing.append_ending(self._api.store, self._api.log, ending)
        return self._text


def fold(told: Sequence[Json]) -> str:
    """What an old client shows after these events."""
    text = ""
    for event in told:
        text = text + event["content"] if event["type"] == "delta" else event.get("finalContent", text)
    return text
