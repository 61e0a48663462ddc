"""A person with a project: what is asked over HTTP while an outside client follows the answer."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from tests.stack import Stack

_numbers: Final = itertools.count(1)

Json = dict[str, Any]


class Chat:
    """Asks in one project, through the first web process. `url` is the second one's: events cross between them."""

    def __init__(self, stack: Stack, *, document: Mapping[str, Any] | None = None) -> None:
        self.stack = stack
        self.url = stack.urls[-1]
        self.token = stack.token
        body = {"name": "clients", "document": document or {}}
        self.project_id: str = stack.client().post("/v1/projects", json=body).raise_for_status().json()["id"]

    def script(self, *rounds: list[Json]) -> str:
        """A message to ask which the model answers by these rounds, each a list of steps."""
        content = f"Question {next(_numbers)}?"
        self.stack.model.on(content, {"rounds": [{"steps": steps} for steps in rounds]})
        return content

    def ask(self, *rounds: list[Json]) -> str:
        """Asks what is answered so: the id of the assistant's message."""
        return self.submit(self.script(*rounds))

    def submit(self, content: str) -> str:
        """The id of the assistant's message."""
        answer = self.stack.client().post(f"/v1/projects/{self.project_id}/messages", json={"content": content})
        message_id: str = answer.raise_for_status().json()["assistantMessage"]["id"]
        return message_id

    def row(self, message_id: str) -> Json:
        row: Json = self.stack.client().get(f"/v1/messages/{message_id}").raise_for_status().json()
        return row

    def project(self) -> Json:
        project: Json = self.stack.client().get(f"/v1/projects/{self.project_id}").raise_for_status().json()
        return project

    def ticket(self, path: str) -> str:
        ticket: str = self.stack.client().post("/v1/tickets", json={"path": path}).raise_for_status().json()["ticket"]
        return ticket


def texts(events: Iterable[str]) -> str:
    """What the deltas among these events append, one behind the other."""
    return "".join(event["content"] for event in map(json.loads, events) if event["type"] == "delta")


class BusyPerson(NamedTuple):
    """`message_id` is the newest of their answers, which is not begun."""

    token: str
    project_id: str
    message_id: str


@contextmanager
def busy_person(chat: Chat) -> Iterator[BusyPerson]:
    """Somebody who has as many unfinished messages as are allowed."""
    token, _ = chat.stack.store.create_token(f"busy-{uuid.uuid4()}")
    with chat.stack.client_for(token) as client:
        project_id = client.post("/v1/projects", json={"name": "busy"}).raise_for_status().json()["id"]
        content = chat.script([{"text": "Wait"}, {"hold": "busy"}])
        path = f"/v1/projects/{project_id}/messages"
        made = [client.post(path, json={"content": content}).raise_for_status().json() for _ in range(20)]
        yield BusyPerson(token, project_id, made[-1]["assistantMessage"]["id"])
        client.delete(f"/v1/projects/{project_id}").raise_for_status()
