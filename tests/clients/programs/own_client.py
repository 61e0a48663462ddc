"""A program on `chatrelay_client`. It does and says what `own_client.mjs` does; see there.

`form` is sync, websocket, sse or auto.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from chatrelay_client import ChatrelayError, Client, Delta, EventId, Snapshot, SyncClient, Transcript
from chatrelay_client.transcript import NOWHERE

Json = dict[str, Any]


def say(**happened: Any) -> None:
    print(msgspec.json.encode(happened).decode(), flush=True)


async def got(value: Any) -> Any:
    """What a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Any) -> AsyncIterator[Any]:
    if hasattr(stream, "__aiter__"):
        async for one in stream:
            yield one
    else:
        for one in stream:
            yield one


class Program:
    def __init__(self, task: Json, client: Any) -> None:
        self._task = task
        self._client = client

    async def run(self) -> None:
        await getattr(self, f"do_{self._task['do']}")()

    async def do_ask(self) -> None:
        submitted = await got(self._client.submit(self._task["projectId"], self._task["content"]))
        say(submitted=submitted.assistant_message.id)
        await self._follow(submitted.assistant_message.id, None)

    async def do_follow(self) -> None:
        await self._follow(self._task["messageId"], self._task.get("after"))

    async def do_retry(self) -> None:
        message_id = self._task["messageId"]
        say(retried=(await got(self._client.retry(message_id))).status)
        await self._follow(message_id, self._task["after"])

    async def _follow(self, message_id: str, after: str | None) -> None:
        transcript = Transcript(position=EventId.parse(after) if after else NOWHERE)
        stream = self._client.follow(message_id, after=after)
        async for event in each(stream):
            transcript = transcript.after(event)
            say(event=msgspec.json.encode(event).decode())
            kind = msgspec.json.decode(msgspec.json.encode(event))["type"]
            if kind == self._task.get("cancelAfter"):
                self._task.pop("cancelAfter")
                say(cancelled=(await got(self._client.cancel(message_id))).id)
            if kind == self._task.get("stopAfter"):
                await got(stream.aclose() if hasattr(stream, "aclose") else stream.close())
                say(stopped=True)
        say(done={"row": await got(self._client.message(message_id)), "shown": transcript})

    async def do_watch(self) -> None:
        text: dict[str, str] = {}
        stream = self._client.watch(self._task["projectId"])
        async for event in each(stream):
            say(told=msgspec.json.decode(msgspec.json.encode(event)))
            if isinstance(event, Delta):
                text[event.message_id] = text.get(event.message_id, "") + event.content
            if isinstance(event, Snapshot):
                text[event.message_id] = event.content
            if event.__struct_config__.tag == self._task["stopAfter"]:
                break
        say(texts=text)

    async def do_refusals(self) -> None:
        client, task = self._client, self._task
        calls: dict[str, Callable[[], Any]] = {
            "submit": lambda: client.submit(task["projectId"], "x"),
            "cancel": lambda: client.cancel(task["messageId"]),
            "retry": lambda: client.retry(task["messageId"]),
            "message": lambda: client.message(task["messageId"]),
            "follow": lambda: self._first(client.follow(task["messageId"])),
            "watch": lambda: self._first(client.watch(task["projectId"])),
        }
        for name, call in calls.items():
            try:
                await got(call())
            except ChatrelayError as error:
                say(refused=name, code=error.code, status=error.status, detail=error.detail)
            else:
                say(accepted=name)

    async def _first(self, stream: Any) -> None:
        async for _ in each(stream):
            break
        await got(stream.aclose() if hasattr(stream, "aclose") else stream.close())


def main() -> None:
    task = json.loads(sys.stdin.readline())
    if task["form"] == "sync":
        with SyncClient(task["origin"], task["token"]) as blocking:
            # nothing of it waits for an event loop
            run = Program(task, blocking).run()
            try:
                run.send(None)
            except StopIteration:
                return
            raise AssertionError("the blocking client waited for a loop")

    async def asynchronous() -> None:
        async with Client(task["origin"], task["token"], transport=task["form"]) as client:
            await Program(task, client).run()

    asyncio.run(asynchronous())


if __name__ == "__main__":
    main()
