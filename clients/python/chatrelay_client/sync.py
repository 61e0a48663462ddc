"""The same client for programs without an event loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from chatrelay_client.client import Client, OnBusy, Transport
from chatrelay_client.events import EventId, ProjectEvent, StreamEvent
from chatrelay_client.rows import Message, Page, Project, Submitted
from chatrelay_client.streams import Stream
from chatrelay_client.transcript import Transcript

T = TypeVar("T")


class SyncClient:
    """A `Client` whose calls block. It has no thread: its loop runs in the caller's, and only while a call does.

    So between two calls nobody reads what comes; a server that finds this reader too slow sends it away, and the next call
    goes on where it was. For one thread at a time, and none that runs an event loop.
    """

    def __init__(
        self, base_url: str, token: str, *, transport: Transport = "auto", give_up_after_s: float | None = 300.0
    ) -> None:
        self._runner = asyncio.Runner()
        self._client = Client(base_url, token, transport=transport, give_up_after_s=give_up_after_s)

    def create_project(
        self, name: str, *, document: Any = None, schema: Any = None, template: str | None = None
    ) -> Project:
        return self._run(self._client.create_project(name, document=document, schema=schema, template=template))

    def project(self, project_id: str) -> Project:
        return self._run(self._client.project(project_id))

    def message(self, message_id: str) -> Message:
        return self._run(self._client.message(message_id))

    def messages(self, project_id: str, *, limit: int = 50, before: str | None = None) -> Page[Message]:
        return self._run(self._client.messages(project_id, limit=limit, before=before))

    def submit(
        self,
        project_id: str,
        content: str,
        *,
        model: str | None = None,
        on_busy: OnBusy | None = None,
        key: str | None = None,
    ) -> Submitted:
        return self._run(self._client.submit(project_id, content, model=model, on_busy=on_busy, key=key))

    def cancel(self, message_id: str) -> Message:
        return self._run(self._client.cancel(message_id))

    def retry(self, message_id: str) -> Message:
        return self._run(self._client.retry(message_id))

    def answer(self, message_id: str) -> Transcript:
        return self._run(self._client.answer(message_id))

    def follow(self, message_id: str, *, after: EventId | str | None = None) -> SyncStream[StreamEvent]:
        return SyncStream(self._runner, self._client.follow(message_id, after=after))

    def watch(self, project_id: str) -> SyncStream[ProjectEvent]:
        return SyncStream(self._runner, self._client.watch(project_id))

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def close(self) -> None:
        """Closes every stream and the connections."""
        self._run(self._client.aclose())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SyncStream(Generic[T]):
    """A stream as an iterator, which blocks until something comes; also a context manager."""

    def __init__(self, runner: asyncio.Runner, stream: Stream[T]) -> None:
        self._runner = runner
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        found = self._runner.run(self._next())
        if not found:
            raise StopIteration
        return found[0]

    async def _next(self) -> tuple[T, ...]:
        async for event in self._stream:
            return (event,)
        return ()

    def close(self) -> None:
        self._runner.run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
