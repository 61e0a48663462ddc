"""Requests to OpenAI's protocols by hand, at a server that gives its connections away."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.api_parts import Person

Json = dict[str, Any]


def blocks(body: str) -> list[Json]:
    """The data of an event stream's blocks, `[DONE]` apart."""
    found = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    return [json.loads(data) for data in found if data != "[DONE]"]


class Request:
    """One request to a server that gives its connections away: its answer, or its stream up to some event."""

    def __init__(self, served: str, person: Person, method: str, path: str, body: Any = None, **headers: str) -> None:
        self.connection = http.client.HTTPConnection(served, timeout=30)
        own = {
            "Authorization": f"Bearer {person.token}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        raw = None if body is None else json.dumps(body)
        if raw is not None:
            own["Content-Type"] = "application/json"
        self.connection.request(method, path, raw, own)
        self._response: http.client.HTTPResponse | None = None

    @property
    def response(self) -> http.client.HTTPResponse:
        if self._response is None:
            self._response = self.connection.getresponse()
        return self._response

    def answer(self, status: int = 200) -> Any:
        body = self.response.read()
        assert self.response.status == status, body
        return json.loads(body)

    def until(self, kind: str) -> list[Json]:
        """The events of a stream up to the next of that type."""
        found: list[Json] = []
        while not found or found[-1]["type"] != kind:
            line = self.response.readline().decode()
            assert line, found
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
        return found

    def rest(self) -> list[Json]:
        return blocks(self.response.read().decode())

    def close(self) -> None:
        self.connection.close()


@contextmanager
def asking(served: str, person: Person, method: str, path: str, body: Any = None, **headers: str) -> Iterator[Request]:
    request = Request(served, person, method, path, body, **headers)
    try:
        yield request
    finally:
        request.close()
