"""The Python client's pure parts, and its calls over a transport that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

import chatrelay_client
from api.close_codes import CloseCode
from chatrelay_client import ApiError, Client, Delta, NoAnswer, Transcript, backoff_s, fold
from chatrelay_client.errors import is_for_good
from chatrelay_client.events import EventId, StreamEvent, event_of, frame_of, is_next
from chatrelay_client.streams import Watching
from shared import events as the_servers

FOLD_CASES: Final[list[dict[str, Any]]] = json.loads((Path(__file__).parents[1] / "cases" / "fold.json").read_text())
MESSAGE: Final = {
    "id": "m",
    "projectId": "p",
    "role": "assistant",
    "kind": "status",
    "status": "pending",
    "content": "",
    "createdAt": "2026-11-26T00:00:00Z",
    "updatedAt": "2026-11-26T00:00:00Z",
}
PAIR: Final = {"userMessage": {**MESSAGE, "somethingNew": 1}, "assistantMessage": MESSAGE}


def decoded(raw: dict[str, Any]) -> StreamEvent:
    payload = json.dumps(raw)
    event = event_of(frame_of(payload), payload)
    assert event is not None
    return event


# --- the fold, ids, close codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FOLD_CASES, ids=lambda case: str(case["name"]))
def test_the_clients_fold_gives_what_the_servers_does(case: dict[str, Any]) -> None:
    """The cases are shared with the server's fold and with the page's; a replay after any part changes nothing."""
    log = [decoded(raw) for raw in case["events"]]
    once = fold(Transcript(), log)
    calls = [{"toolCallId": call.tool_call_id, "name": call.name, "state": call.state} for call in once.tool_calls]
    position = str(once.position) if once.position.attempt else None
    shown = {"position": position, "content": once.content, "status": once.status, "toolCalls": calls}
    assert shown == case["expected"]
    for n in range(len(log) + 1):
        assert fold(fold(Transcript(), log[:n]), log) == once


def test_the_clients_events_are_the_servers_to_the_byte() -> None:
    for case in FOLD_CASES:
        for raw in case["events"]:
            assert msgspec.json.decode(msgspec.json.encode(decoded(raw))) == msgspec.json.decode(
                the_servers.encode(the_servers.decode(json.dumps(raw)))
            )


def test_the_clients_close_codes_are_the_servers() -> None:
    """1000 is the end; of the others those that are not for good mean to come back."""
    assert {code for code in CloseCode if is_for_good(code)} == {
        code for code in CloseCode if not code.reconnects and code is not CloseCode.FINISHED
    }


def test_all_that_is_named_is_there() -> None:
    for name in chatrelay_client.__all__:
        assert getattr(chatrelay_client, name) is not None


@pytest.mark.parametrize(
    ("position", "event", "taken"),
    [
        (None, {"id": "1-0", "type": "status"}, True),
        (None, {"id": "1-4", "type": "delta", "from": "1-0"}, True),
        (None, {"id": "1-3", "type": "delta"}, False),
        (None, {"id": "3-2", "type": "snapshot"}, True),
        ("1-3", {"id": "1-9", "type": "delta", "from": "1-4"}, True),
        ("1-3", {"id": "1-9", "type": "delta", "from": "1-5"}, False),
        ("1-3", {"id": "1-9", "type": "delta", "from": "1-2"}, False),
        ("1-9", {"id": "1-10", "type": "something new"}, True),
        ("1-3", {"id": "2-0", "type": "status"}, False),
        ("2-0", {"id": "1-9", "type": "snapshot"}, False),
    ],
)
def test_only_the_very_next_event_or_a_newer_snapshot_is_taken(
    position: str | None, event: dict[str, str], taken: bool
) -> None:
    """The same cases as the page's."""
    at = None if position is None else EventId.parse(position)
    assert is_next(at, frame_of(json.dumps(event))) is taken


def test_pauses_grow_up_to_a_limit_and_are_spread() -> None:
    shortest = [backoff_s(failures, lambda: 0.0) for failures in range(1, 2000)]
    longest = [backoff_s(failures, lambda: 1.0) for failures in range(1, 2000)]
    assert longest == sorted(longest)
    assert (longest[0], longest[-1]) == (0.25, 10.0)
    assert [2 * short for short in shortest] == longest


# --- a project's events, told again -------------------------------------------------------------------------------


def test_what_a_new_connection_tells_anew_is_yielded_once_wherever_the_old_one_broke() -> None:
    """Also out of the middle of deltas that come merged: over many random breaks the text is whole and nothing is doubled."""
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ready = json.dumps({"type": "ready", "version": 1, "newestMessageId": None})
    for _ in range(200):
        words = [f"w{number}🦀 " for number in range(chance.randrange(1, 40))]
        log = [{"type": "status", "id": "1-0", "messageId": "m", "ts": 1, "status": "thinking"}]
        log += [
            {"type": "delta", "id": f"1-{n}", "messageId": "m", "ts": 1, "content": word}
            for n, word in enumerate(words, 1)
        ]
        end = {"type": "finalized", "id": f"1-{len(log)}", "messageId": "m", "ts": 1, "status": "success"}
        watching = Watching(Nobody(), "p")
        told: list[Any] = []
        for _ in range(chance.randrange(1, 5)):
            seen = log[: chance.randrange(len(log) + 1)]
            for raw in [json.loads(ready), *merged(seen, chance)]:
                told.append(watching._take(frame_of(json.dumps(raw)), json.dumps(raw)))
        for raw in [json.loads(ready), *merged(log, chance), end]:
            told.append(watching._take(frame_of(json.dumps(raw)), json.dumps(raw)))
        events = [event for event in told if event is not None and hasattr(event, "id")]
        assert "".join(event.content for event in events if isinstance(event, Delta)) == "".join(words)
        at: EventId | None = None
        for event in events:
            assert is_next(at, frame_of(msgspec.json.encode(event))), (at, event)
            at = event.event_id


def merged(log: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The log as a replay may tell it: runs of neighbouring deltas as one."""
    told: list[dict[str, Any]] = []
    for raw in log:
        last = told[-1] if told else raw
        if last["type"] == raw["type"] == "delta" and told and chance.random() < 0.8:
            told[-1] = {
                **raw,
                "from": last.get("from", last["id"]),
                "content": last["content"] + raw["content"],
            }
        else:
            told.append(raw)
    return told


class Nobody:
    """A server that nobody asks."""

    give_up_after_s: float | None = None

    async def connect(self, path: str, after: EventId | None) -> Any:
        raise NotImplementedError

    async def message(self, message_id: str) -> Any:
        raise NotImplementedError

    def forget(self, stream: object) -> None:
        raise NotImplementedError


# --- calls --------------------------------------------------------------------------------------------------------


def call(answers: list[httpx.Response | Exception], make: Callable[[Client], Any]) -> tuple[Any, list[httpx.Request]]:
    """What a call gives where the server answers so, one after the other, and the requests that it made."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = answers[len(asked) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    async def run() -> Any:
        async with (
            httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
            Client("http://server/", "token", http=http) as client,
        ):
            try:
                return await make(client)
            except chatrelay_client.ChatrelayError as error:
                return error

    return asyncio.run(run()), asked


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"type": "/docs", "title": "No.", "status": status, "detail": "Not so.", "code": code}
    return httpx.Response(status, json=body, headers=headers)


def test_a_submit_of_unknown_outcome_is_repeated_under_its_key_and_not_before_it_is_asked_to() -> None:
    """After a lost connection and a 503; fields that are not known are ignored."""
    began_s = time.monotonic()
    answers: list[httpx.Response | Exception] = [
        httpx.ConnectError("gone"),
        problem(503, "outcome_unknown", **{"Retry-After": "2"}),
        httpx.Response(202, json=PAIR),
    ]
    submitted, asked = call(answers, lambda client: client.submit("p", "Hello", on_busy="reject"))
    assert submitted.assistant_message.id == "m"
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1
    assert len(asked) == 3
    assert [json.loads(request.content) for request in asked] == [{"content": "Hello", "onBusy": "reject"}] * 3
    assert time.monotonic() - began_s >= 2


def test_a_refusal_is_raised_at_once_with_all_that_it_says() -> None:
    answers: list[httpx.Response | Exception] = [problem(429, "too_many_unfinished", **{"Retry-After": "5"})]
    error, asked = call(answers, lambda client: client.submit("p", "Hello"))
    assert isinstance(error, ApiError)
    assert (error.status, error.code, error.detail, error.retry_after_s) == (429, "too_many_unfinished", "Not so.", 5.0)
    assert len(asked) == 1


def test_a_retry_whose_outcome_is_unknown_is_not_repeated() -> None:
    """A second one could begin a second run."""
    error, asked = call([httpx.ReadError("gone")], lambda client: client.retry("m"))
    assert isinstance(error, NoAnswer)
    assert (error.code, error.status, len(asked)) == ("no_answer", None, 1)


def test_what_a_proxy_answers_in_its_own_words_is_an_error_with_a_code() -> None:
    error, _ = call([httpx.Response(413, text="<html>")], lambda client: client.cancel("m"))
    assert isinstance(error, ApiError)
    assert (error.status, error.code, error.detail) == (413, "http_413", "HTTP 413")
