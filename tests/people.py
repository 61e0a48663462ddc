"""Somebody who uses a running stack: makes projects, says things, and looks at what came of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

import httpx

from tests.followers import Audience
from tests.stack import Stack

T = TypeVar("T")

WAIT_S: Final = 60.0
_POLL_S: Final = 0.03
_numbers: Final[Iterator[int]] = itertools.count(1)


class Person:
    """A user of one's own, with a client for each web process; nobody else's limits or projects are in the way."""

    def __init__(self, stack: Stack, *, scopes: frozenset[str] = frozenset()) -> None:
        self.stack = stack
        self.name = f"person-{next(_numbers)}"
        self.token, _ = stack.store.create_token(self.name, scopes=scopes)
        self.clients = [stack.client_for(self.token, web) for web in range(len(stack.urls))]

    @property
    def client(self) -> httpx.Client:
        return self.clients[0]

    def project(self, **fields: Any) -> str:
        """The id of a new project."""
        answer = self.client.post("/v1/projects", json={"name": "A project", **fields})
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["id"]
        return made

    def submit(self, project_id: str, content: str, *, web: int = 0, **fields: Any) -> str:
        """Says something; the id of the assistant's message."""
        answer = self.clients[web].post(f"/v1/projects/{project_id}/messages", json={"content": content, **fields})
        assert answer.status_code == 202, answer.text
        message_id: str = answer.json()["assistantMessage"]["id"]
        return message_id

    def row(self, message_id: str, *, web: int = 0) -> dict[str, Any]:
        answer = self.clients[web].get(f"/v1/messages/{message_id}")
        assert answer.status_code == 200, answer.text
        row: dict[str, Any] = answer.json()
        return row

    def document(self, project_id: str, *, web: int = 0) -> dict[str, Any]:
        """The project as a GET shows it."""
        answer = self.clients[web].get(f"/v1/projects/{project_id}")
        assert answer.status_code == 200, answer.text
        project: dict[str, Any] = answer.json()
        return project

    def versions(self, project_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.client.get(f"/v1/projects/{project_id}/versions").json()["items"]
        return items

    def audience(self, message_id: str, *, leaves_after: Callable[[], int] | None = None) -> Audience:
        """Followers on every web process and over each transport; to be entered."""
        return Audience(self.stack, self.token, message_id, leaves_after=leaves_after)

    def answer_to(self, project_id: str, content: str) -> dict[str, Any]:
        """Says something and waits for the end; the final row. Everybody who followed saw what it says."""
        message_id = self.submit(project_id, content)
        with self.audience(message_id) as audience:
            audience.finish()
            row = self.row(message_id)
            audience.check(row)
        return row

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def eventually(look: Callable[[], T | None], *, timeout_s: float = WAIT_S) -> T:
    """What `look` sees, once it is something. For what tells nobody when it happens. Raises `TimeoutError`."""
    deadline_s = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not so within {timeout_s:g} s")
        time.sleep(_POLL_S)
    return seen
