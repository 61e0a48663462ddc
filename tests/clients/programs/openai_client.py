"""A program on the `openai` package, blocking or asynchronous. It does and says what `openai_client.mjs` does; see there."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai

Json = dict[str, Any]
ENDS = ("response.completed", "response.failed", "response.incomplete")


def say(happened: Json) -> None:
    print(json.dumps(happened), flush=True)


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
    def __init__(self, task: Json) -> None:
        self._task = task
        self._kind = openai.AsyncOpenAI if task.get("asynchronous") else openai.OpenAI
        self._at = 0
        self._client = self._connect()

    def _connect(self) -> Any:
        task = self._task
        return self._kind(
            base_url=f"{task['origins'][self._at % len(task['origins'])]}/v1/openai",
            api_key=task["token"],
            project=task.get("project"),
            max_retries=task.get("maxRetries", 2),
        )

    async def run(self) -> None:
        await getattr(self, f"do_{self._task['do']}")()

    # --- responses ------------------------------------------------------------------------------------------------

    async def do_create(self) -> None:
        await self._follow(await got(self._client.responses.create(**self._task["body"], stream=True)))

    async def do_follow(self) -> None:
        await self._follow(await self._resumed(self._task["responseId"], None))

    async def do_wait(self) -> None:
        say({"response": (await got(self._client.responses.create(**self._task["body"]))).to_dict(mode="json")})

    async def do_background(self) -> None:
        response = await got(self._client.responses.create(**self._task["body"], background=True))
        say({"created": response.id})
        while response.status in ("queued", "in_progress"):
            await asyncio.sleep(0.05)
            response = await got(self._client.responses.retrieve(response.id))
        say({"response": response.to_dict(mode="json")})

    async def do_helper(self) -> None:
        manager = self._client.responses.stream(**self._task["body"])
        if self._task.get("asynchronous"):
            async with manager as stream:
                response = await stream.get_final_response()
        else:
            with manager as stream:
                response = stream.get_final_response()
        say({"text": response.output_text})
        say({"response": response.to_dict(mode="json")})

    async def do_cancel(self) -> None:
        response = await got(self._client.responses.cancel(self._task["responseId"]))
        say({"response": response.to_dict(mode="json")})

    async def _follow(self, stream: Any) -> None:
        shown: Json = {"text": "", "appended": "", "status": None, "error": None, "items": {}}
        response_id, last = self._task.get("responseId"), None
        while True:
            lost = "ended"
            try:
                async for event in each(stream):
                    told = event.to_dict(mode="json")
                    if told["type"] == "response.created":
                        response_id = told["response"]["id"]
                        say({"created": response_id})
                    last = told["sequence_number"]
                    show(shown, told)
                    say({"event": told})
                    if told["type"] in self._task.get("stopAfter", ()):
                        await got(stream.close())
                        say({"stopped": True})
                        return
            except openai.APIConnectionError as error:
                lost = type(error).__name__
            if shown["status"] is not None or shown["error"] is not None:
                break
            say({"lost": lost})
            stream = await self._resumed(response_id, last)
        say({"shown": shown})

    async def _resumed(self, response_id: Any, starting_after: int | None) -> Any:
        behind = {} if starting_after is None else {"starting_after": starting_after}
        while True:
            self._client = self._connect()
            try:
                return await got(self._client.responses.retrieve(response_id, stream=True, **behind))
            except openai.APIConnectionError:
                self._at += 1
                await asyncio.sleep(0.05)

    # --- completions, models, refusals ----------------------------------------------------------------------------

    async def do_complete(self) -> None:
        completion = await got(self._client.chat.completions.create(**self._task["body"]))
        say({"completion": completion.to_dict(mode="json")})

    async def do_chunks(self) -> None:
        text, reason, usage = "", None, None
        try:
            stream = await got(self._client.chat.completions.create(**self._task["body"], stream=True))
            async for chunk in each(stream):
                usage = chunk.usage.to_dict() if chunk.usage else usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason
                say({"chunk": text})
        except openai.APIError as error:
            say({"failed": error.code})
        say({"text": text, "reason": reason, "usage": usage})

    async def do_models(self) -> None:
        say({"models": [model.id async for model in each(await got(self._client.models.list()))]})

    async def do_refusals(self) -> None:
        client, body, response_id = self._client, self._task["body"], self._task["responseId"]
        calls: dict[str, Callable[[], Any]] = {
            "create": lambda: client.responses.create(**body),
            "stream": lambda: client.responses.create(**body, stream=True),
            "background": lambda: client.responses.create(**body, background=True),
            "retrieve": lambda: client.responses.retrieve(response_id),
            "follow": lambda: client.responses.retrieve(response_id, stream=True),
            "delete": lambda: client.responses.delete(response_id),
            "complete": lambda: client.chat.completions.create(**self._task["completion"]),
            "cancel": lambda: client.responses.cancel(response_id),
        }
        for name, call in calls.items():
            try:
                await got(call())
                say({"answered": name})
            except openai.APIStatusError as error:
                say({"refused": name, "status": error.status_code, "code": error.code, "error": type(error).__name__})


def show(shown: Json, told: Json) -> None:
    match told["type"]:
        case "response.output_text.delta":
            shown["appended"] += told["delta"]
            shown["text"] += told["delta"]
        case "response.output_text.done":
            shown["text"] = told["text"]
        case "response.output_item.done":
            shown["items"][str(told["output_index"])] = told["item"]
        case "error":
            shown["error"] = told["code"]
        case kind if kind in ENDS:
            shown["status"] = told["response"]["status"]


asyncio.run(Program(json.loads(sys.stdin.readline())).run())
