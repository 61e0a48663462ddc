"""The HTTP side: the model's own endpoints as OpenAI names them, and `/control/*` for tests.

A request is decoded, its round chosen (a script's, or one made of the natural answer), played, and written down. The
package's docstring is the reference of both sides.
"""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from dev.scripted_model import answers, pieces, playback, script, wire
from dev.scripted_model.records import Journal, Record

MODEL_NAME: Final = "scripted-model"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_SCRIPTS: Final = 10_000
MAX_WAIT_S: Final = 600.0
_CREATED_S: Final = 1_767_225_600
"""The `created` of every answer (2026-01-01): what a request gets hangs on the request alone."""

_AFTER_THE_LAST_ROUND: Final = script.Answer(steps=(script.Text(text="Done."),))
_log = logging.getLogger("scripted_model")


class RegisteredScript(msgspec.Struct, kw_only=True):
    """A script that answers requests whose newest user message contains `match`; `times_left` None: without end."""

    number: int
    match: str
    script: script.Script
    times_left: int | None


class ScriptRegistration(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    match: str
    script: Any
    times: int | None = None

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError("times is at least 1, or null")


class Release(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: str


class ScriptedModelServer:
    """The state of one server. `human_pace` False (`--pace full`) sends natural answers without waiting."""

    def __init__(self, *, human_pace: bool) -> None:
        self._human_pace = human_pace
        self._journal = Journal()
        self._scripts: list[RegisteredScript] = []
        self._scripts_made = 0
        self._times_seen: Counter[tuple[str, str, int]] = Counter()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._chat_completions),
                web.post("/control/scripts", self._add_script),
                web.delete("/control/scripts", self._remove_scripts),
                web.get("/control/requests", self._requests),
                web.get("/control/wait", self._wait),
                web.post("/control/release", self._release),
                web.post("/control/reset", self._reset),
            ]
        )
        return app

    # The model

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": MODEL_NAME, "object": "model", "created": _CREATED_S, "owned_by": "chatrelay"}
        return web.json_response({"object": "list", "data": [model]})

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        record = self._journal.open(dict(request.headers), body)
        started_s = time.monotonic()
        try:
            response = await self._answer(request, body, record)
        except playback.ConnectionCut:
            response = web.Response()
        except (asyncio.CancelledError, ConnectionError):
            record.end("disconnected")
            raise
        finally:
            _log.info(
                "%s #%d %s round=%s chunks=%d %s %.3fs",
                request.path,
                record.number,
                record.answered_by,
                record.round,
                record.chunks_sent,
                record.outcome,
                time.monotonic() - started_s,
            )
        return response

    async def _answer(self, request: web.Request, body: bytes, record: Record) -> web.StreamResponse:
        try:
            chat = wire.parse_request(body)
            if not chat.messages:
                raise msgspec.ValidationError("Expected at least one message - at `$.messages`")
            chosen = self._choose_round(chat, record)
        except msgspec.DecodeError as error:
            return _refusal(record, 400, f"The request isn't one that a model understands: {error}")
        except script.ScriptRejected as error:
            return _refusal(record, 400, f"The script in the message is wrong: {error}")
        if isinstance(chosen, script.HttpError):
            return _scripted_error(record, chosen)
        return await self._play(request, chat, body, chosen, record)

    def _choose_round(self, chat: wire.ChatRequest, record: Record) -> script.Round:
        newest = answers.newest_user_message(chat.messages)
        text = "" if newest is None else chat.messages[newest].text
        index = answers.tool_turns_after(chat.messages, newest)
        record.round = index
        inline = answers.inline_script(text)
        if inline is not None:
            return self._scripted_round(script.parse_script_text(inline), "inline script", text, index, record)
        for registered in reversed(self._scripts):
            if registered.match in text:
                if registered.times_left is not None:
                    registered.times_left -= 1
                    if registered.times_left == 0:
                        self._scripts.remove(registered)
                name = f"script {registered.number} {registered.match!r}"
                return self._scripted_round(registered.script, name, text, index, record)
        return _natural_round(chat)

    def _scripted_round(self, chosen: script.Script, name: str, text: str, index: int, record: Record) -> script.Round:
        record.answered_by = name
        if chosen.has_attempts(index):
            key = (name, text, index)
            record.times_seen = self._times_seen[key]
            self._times_seen[key] += 1
        return chosen.round_for(index, record.times_seen) or _AFTER_THE_LAST_ROUND

    async def _play(
        self, request: web.Request, chat: wire.ChatRequest, body: bytes, chosen: script.Answer, record: Record
    ) -> web.StreamResponse:
        digest = hashlib.blake2b(body, digest_size=16)
        completion_id = f"chatcmpl-{digest.hexdigest()}"
        encoder = wire.ChunkEncoder(
            completion_id=completion_id, created_s=_CREATED_S, model=chat.model, with_usage=chat.wants_usage
        )
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "x-request-id": f"req_{digest.hexdigest()}",
            }
        )
        output: playback.StreamedOutput | playback.WholeOutput
        if chat.stream:
            output = playback.StreamedOutput(request, response, encoder, record)
        else:
            output = playback.WholeOutput(request, record)
        player = playback.Player(
            output,
            hold=self._journal.hold,
            seed=int.from_bytes(digest.digest()[:8], "big"),
            call_id_prefix=f"call_{digest.hexdigest()[:22]}",
            prompt_tokens=sum(pieces.count_tokens(message.text) + 4 for message in chat.messages),
            usage_wanted=chat.wants_usage or not chat.stream,
            human_pace=self._human_pace,
        )
        record.status = 200
        await player.play(chosen.steps)
        if isinstance(output, playback.StreamedOutput):
            await response.write_eof()
            record.end("finished")
            return response
        record.end("finished")
        whole = output.body(completion_id=completion_id, created_s=_CREATED_S, model=chat.model)
        return web.Response(body=whole, content_type="application/json")

    # Control

    async def _add_script(self, request: web.Request) -> web.Response:
        try:
            registration = msgspec.json.decode(await request.read(), type=ScriptRegistration)
            parsed = script.parse_script(registration.script)
        except (msgspec.DecodeError, script.ScriptRejected) as error:
            return _control_error(400, str(error))
        if len(self._scripts) >= MAX_SCRIPTS:
            return _control_error(409, f"there are {MAX_SCRIPTS} scripts already; DELETE /control/scripts first")
        registered = RegisteredScript(
            number=self._scripts_made, match=registration.match, script=parsed, times_left=registration.times
        )
        self._scripts_made += 1
        self._scripts.append(registered)
        return web.json_response({"number": registered.number}, status=201)

    async def _remove_scripts(self, request: web.Request) -> web.Response:
        self._forget_scripts()
        return web.Response(status=204)

    async def _requests(self, request: web.Request) -> web.Response:
        items = [record.as_json() for record in self._journal.records()]
        return web.Response(
            body=msgspec.json.encode({"items": items, "count": self._journal.count}), content_type="application/json"
        )

    async def _wait(self, request: web.Request) -> web.Response:
        try:
            condition = self._condition(dict(request.query))
            timeout_s = min(float(request.query.get("timeout", "10")), MAX_WAIT_S)
        except ValueError as error:
            return _control_error(400, str(error))
        if await self._journal.wait_until(condition, timeout_s):
            return web.json_response({"satisfied": True})
        seen = [
            {"number": record.number, "outcome": record.outcome, "chunks_sent": record.chunks_sent}
            for record in self._journal.records()[-20:]
        ]
        return web.json_response({"satisfied": False, "count": self._journal.count, "newest": seen}, status=504)

    async def _release(self, request: web.Request) -> web.Response:
        try:
            release = msgspec.json.decode(await request.read(), type=Release)
        except msgspec.DecodeError as error:
            return _control_error(400, str(error))
        self._journal.release(release.name)
        return web.Response(status=204)

    async def _reset(self, request: web.Request) -> web.Response:
        self._forget_scripts()
        self._journal.reset()
        return web.Response(status=204)

    def _forget_scripts(self) -> None:
        self._scripts.clear()
        self._times_seen.clear()

    def _condition(self, query: dict[str, str]) -> Callable[[], bool]:
        """What `GET /control/wait` waits for. Raises ValueError on a question that it doesn't know."""
        query.pop("timeout", None)
        journal = self._journal
        match query:
            case {"requests": count, **rest} if not rest:
                wanted = int(count)
                return lambda: journal.count >= wanted
            case {"disconnected": number, **rest} if not rest:
                of = int(number)
                return lambda: (record := journal.record(of)) is not None and record.disconnected
            case {"ended": number, **rest} if not rest:
                of = int(number)
                return lambda: (record := journal.record(of)) is not None and record.outcome is not None
            case {"request": number, "chunks_sent": count, **rest} if not rest:
                of, wanted = int(number), int(count)
                return lambda: (record := journal.record(of)) is not None and record.chunks_sent >= wanted
            case {"held": name, **rest} if not rest:
                return lambda: journal.is_held(name)
            case _:
                raise ValueError("wait for one of: requests, disconnected, ended, request with chunks_sent, held")


def _natural_round(chat: wire.ChatRequest) -> script.Answer:
    planned = answers.plan(chat.messages, chat.tools or [])
    steps: list[script.Step] = []
    if planned.text:
        steps.append(script.Text(text=planned.text, pace="human"))
    for call in planned.calls:
        encoded = msgspec.json.encode(call.arguments).decode()
        steps.append(
            script.Tool(
                tool=script.ScriptedCall(
                    name=call.name, arguments=encoded, split=max(1, len(encoded) // 12), pace="human"
                )
            )
        )
    return script.Answer(steps=tuple(steps))


def _refusal(record: Record, status: int, message: str) -> web.Response:
    record.status = status
    record.end("refused")
    return web.Response(status=status, body=wire.error_body(status, message), content_type="application/json")


def _scripted_error(record: Record, scripted: script.HttpError) -> web.Response:
    record.status = scripted.status
    record.end("refused")
    headers = dict(scripted.headers)
    if scripted.body is not None:
        headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        return web.Response(status=scripted.status, body=scripted.body.encode(), headers=headers)
    headers.setdefault("Content-Type", "application/json")
    body = wire.error_body(scripted.status, f"The script answers {scripted.status}.", more=scripted.error)
    return web.Response(status=scripted.status, body=body, headers=headers)


def _control_error(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)
