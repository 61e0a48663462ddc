"""A provider or a model that means harm: its message ends with a code, its worker stays within bounds, nobody else notices.

Each row of the table is one way to answer, as bytes on a socket. A neighbour on the same worker is answered meanwhile.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from shared.events import Usage
from shared.lifecycle import ErrorCode
from shared.records import Message
from tests.hostile_model import HEAD, POLITE, Attack, answer, calls, chunk, endless, raw, running, trickle
from tests.integration.worker_parts import PATIENCE_S, Bench
from worker.assembler import MOST_TOKENS
from worker.turn import run_turn

MOST_GROWTH_BYTES: Final = 256 * 1024 * 1024
"""What one message may take of its worker for a while, whatever its provider sends."""
BOMB: Final = gzip.compress(b"\0" * 200_000_000, 1)
MEGABYTE: Final = b"x" * 1_000_000


# --- what the table is made of ----------------------------------------------------------------------------------


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *lines, "", ""]).encode("latin-1")


def text(*pieces: object) -> list[bytes]:
    return [chunk({"content": piece}) for piece in pieces]


def call(arguments: object, *, index: int = 0, name: str = "applyJsonPatch", call_id: str | None = None) -> bytes:
    """A whole call in a line; arguments that are no text are encoded."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    function = {"name": name, "arguments": written}
    return chunk({"tool_calls": [{"index": index, "id": call_id or f"id-{index}", "function": function}]})


def adding(value: object, **fields: object) -> dict[str, Any]:
    return {"operations": [{"op": "add", "path": "/items/-", "value": value, **fields}]}


def fragments(count: int, **fields: object) -> bytes:
    return chunk({"tool_calls": [{"index": 10**9 + number, **fields} for number in range(count)]})


STOP: Final = chunk(finish="stop")


class Case(NamedTuple):
    attack: Attack
    ends: ErrorCode | str
    """The error's code, or the text of a success."""
    settings: Mapping[str, object] = {}


SOON: Final = {"run_deadline_s": 2, "provider_silence_s": 30}

ENDLESS: Final = {
    "a byte now and then": Case(trickle(HEAD, b":"), ErrorCode.DEADLINE, SOON),
    "a head, a byte now and then": Case(trickle(b"HTTP/1.1 200 OK\r\nX: ", b"x"), ErrorCode.DEADLINE, SOON),
    "small comments": Case(endless(b": x\n\n"), ErrorCode.DEADLINE, SOON),
    "lines of nothing": Case(endless(b"\n"), ErrorCode.DEADLINE, SOON),
    "chunks of nothing": Case(endless(chunk({"content": ""})), ErrorCode.DEADLINE, SOON),
    "roles": Case(endless(chunk({"role": "assistant"})), ErrorCode.DEADLINE, SOON),
    "usage": Case(endless(chunk(usage={"total_tokens": 1})), ErrorCode.DEADLINE, SOON),
    "comments of a megabyte": Case(endless(b":" + MEGABYTE + b"\n"), ErrorCode.STREAM_BROKEN),
    "one line": Case(endless(MEGABYTE, before=HEAD + b"data: "), ErrorCode.STREAM_BROKEN),
    "one comment": Case(endless(MEGABYTE, before=HEAD + b":"), ErrorCode.STREAM_BROKEN),
    "text, a letter each": Case(endless(chunk({"content": "x"})), ErrorCode.LENGTH, {"max_answer_bytes": 5_000}),
    "a refusal": Case(endless(chunk({"refusal": "no "})), ErrorCode.LENGTH, {"max_answer_bytes": 5_000}),
    "indexes of calls": Case(endless(fragments(1000)), ErrorCode.DEADLINE, SOON),
    "arguments": Case(endless(fragments(1, function={"arguments": "x" * 1000})), ErrorCode.DEADLINE, SOON),
    "a call's name": Case(endless(fragments(1, function={"name": "x" * 1000})), ErrorCode.DEADLINE, SOON),
    "early heads": Case(endless(b"HTTP/1.1 100 Continue\r\n\r\n", before=b""), ErrorCode.STREAM_BROKEN),
    "chunks that are none": Case(
        endless(b"zz\r\n", before=head("200 OK", "Transfer-Encoding: chunked") + b"5\r\n: hi\n\r\n"),
        ErrorCode.STREAM_BROKEN,
        SOON,
    ),
    "header lines": Case(endless(b"X: y\r\n", before=b"HTTP/1.1 200 OK\r\n"), ErrorCode.STREAM_BROKEN),
    "one header line": Case(endless(MEGABYTE, before=b"HTTP/1.1 200 OK\r\nX: "), ErrorCode.STREAM_BROKEN),
    "what 500 is about": Case(endless(MEGABYTE, before=head("500 No")), ErrorCode.PROVIDER_UNAVAILABLE),
    "what 400 is about": Case(endless(MEGABYTE, before=head("400 No")), ErrorCode.PROVIDER_REJECTED),
    "behind the end": Case(
        endless(b": x\n\n", before=HEAD + b"".join([*text("Hi."), STOP]) + b"data: [DONE]\n\n"), "Hi."
    ),
}

BROKEN: Final = {
    "no HTTP": Case(raw(b"SSH-2.0-OpenSSH_9.2\r\n"), ErrorCode.STREAM_BROKEN),
    "nothing": Case(raw(b""), ErrorCode.PROVIDER_UNAVAILABLE),
    "a status of four digits": Case(raw(head("2000 OK")), ErrorCode.STREAM_BROKEN),
    "a status of nobody": Case(raw(head("799 Hm")), ErrorCode.PROVIDER_UNAVAILABLE),
    "a reason that is no text": Case(raw(head("500 \xff\xfe")), ErrorCode.PROVIDER_UNAVAILABLE),
    "a switch of protocols": Case(raw(head("101 Switching Protocols", "Upgrade: x")), ErrorCode.PROVIDER_REJECTED),
    "no content": Case(raw(head("204 No Content")), ErrorCode.STREAM_INCOMPLETE),
    "a page": Case(raw(head("200 OK", "Content-Type: text/html"), b"<h1>Log in</h1>"), ErrorCode.STREAM_INCOMPLETE),
    "an answer in one piece": Case(
        raw(head("200 OK", "Content-Type: application/json"), b'{"choices":[{"message":{"content":"Hi."}}]}'),
        ErrorCode.STREAM_INCOMPLETE,
    ),
    "a bomb": Case(
        raw(head("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}"), BOMB), ErrorCode.STREAM_INCOMPLETE
    ),
    "a bomb as what 400 is about": Case(
        raw(head("400 No", "Content-Encoding: gzip", "Content-Type: application/json"), BOMB),
        ErrorCode.PROVIDER_REJECTED,
    ),
    "chunks of a wrong size": Case(
        raw(head("200 OK", "Transfer-Encoding: chunked") + b"fffffffffffffffffff\r\n"), ErrorCode.STREAM_BROKEN
    ),
    "a length that is none": Case(raw(head("200 OK", "Content-Length: -1")), ErrorCode.STREAM_BROKEN),
    "more parts than there can be": Case(
        answer(chunk({"tool_calls": [{}] * 1_000_000})), ErrorCode.STREAM_BROKEN
    ),
    "JSON of brackets": Case(answer(b"data: " + b"[" * 4_000_000 + b"\n"), ErrorCode.STREAM_BROKEN),
    "a number of a megabyte": Case(
        answer(b'data: {"usage":{"total_tokens":' + b"9" * 10**6 + b"}}\n"), ErrorCode.STREAM_BROKEN
    ),
    "an error in a list": Case(answer(b'data: {"error":[[[]]]}\n'), ErrorCode.STREAM_BROKEN),
    "an error of a megabyte": Case(
        answer(b"data: " + json.dumps({"error": {"type": "x" * 10**6, "code": "y" * 10**6}}).encode() + b"\n"),
        ErrorCode.PROVIDER_UNAVAILABLE,
    ),
    "a pause of centuries": Case(
        raw(head("429 Slow", "Retry-After: 99999999999999999999")), ErrorCode.PROVIDER_RATE_LIMITED, {"max_tries": 2}
    ),
    "a pause that is no number": Case(
        raw(head("429 Slow", "Retry-After: nan")), ErrorCode.PROVIDER_RATE_LIMITED, {"max_tries": 2}
    ),
    "an error that is a number": Case(
        raw(head("400 No", "Content-Type: application/json"), b'{"error":7}'), ErrorCode.PROVIDER_REJECTED
    ),
    "an error nested deep": Case(
        raw(head("400 No", "Content-Type: application/json"), b"[" * 60_000), ErrorCode.PROVIDER_REJECTED
    ),
    "codes of the wrong shapes": Case(
        raw(head("429 No", "Content-Type: application/json"), b'{"error":{"code":{"a":1},"type":[],"message":{}}}'),
        ErrorCode.PROVIDER_RATE_LIMITED,
    ),
}  # fmt: skip

ODD: Final = {
    "some early heads": Case(
        raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", HEAD, *text("Hi."), STOP), "Hi."
    ),
    "pictures for a type": Case(raw(head("200 OK", "Content-Type: image/png"), *text("Hi."), STOP), "Hi."),
    "reasons that nobody knows": Case(answer(*text("Hi."), chunk(finish="x" * 10_000)), "Hi."),
    "an empty reason": Case(answer(*text("Hi."), chunk(finish="")), ErrorCode.STREAM_INCOMPLETE),
    "other roles": Case(
        answer(*(chunk({"role": role, "content": role}) for role in ("system", "user", "tool", "\0")), STOP),
        "systemusertool",
    ),
    "several choices": Case(
        answer(b'data: {"choices":[{"delta":{"content":"one"}},{"delta":{"content":"two"}}]}\n\n', STOP), "one"
    ),
    "what cannot be stored": Case(answer(*text("a\0b", "\ud83d", "\ude00", "\udfff!"), STOP), "ab😀!"),
    "calls of which nobody has the name": Case(calls(*(call({}, index=n, name=f"tool-{n}\0") for n in range(3))), POLITE),
    "a call without an end": Case(calls(call('{"operations":[')), POLITE),
    "calls that are no JSON": Case(
        calls(*(call(written, index=n) for n, written in enumerate(["NaN", '{"operations":[NaN]}', "[" * 9000, "\\"]))),
        POLITE,
    ),
    "arguments of megabytes": Case(
        calls(call("x"), *[chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x" * 10**6}}]})] * 8), POLITE
    ),
    "thousands of calls": Case(calls(*(call(adding(n), index=n) for n in range(5000))), POLITE),
    "negative and huge indexes": Case(
        calls(*(call(adding(n), index=n) for n in (-1, 10**9, 2**62))), POLITE
    ),
    "an index beyond all numbers": Case(calls(call(adding(1), index=2**80)), POLITE),
    "calls without names": Case(calls(chunk({"tool_calls": [{}, {"function": {}}, {"function": {"name": None}}]})), POLITE),
    "calls in every round": Case(answer(call(adding(1)), chunk(finish="tool_calls")), ErrorCode.TOO_MANY_ROUNDS),
}  # fmt: skip


def grown(since_bytes: int) -> int:
    """By how much this process was larger at its largest, since `since_bytes` was measured."""
    return _of_status("VmHWM") - since_bytes


def size_now() -> int:
    """And from now on its largest size is noted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return _of_status("VmRSS")


def _of_status(name: str) -> int:
    for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc has no {name}")


def made_to_end(bench: Bench, cases: dict[str, Case]) -> dict[str, ErrorCode | str]:
    """All of them at once on one worker: how each message ended, once the worker's growth was found to be bounded."""
    with running({name: case.attack for name, case in cases.items()}) as model:
        workshop = bench.workshop(model_url=model.base_url)
        ids, turns = {}, []
        before = size_now()
        for name, case in cases.items():
            settings = bench.settings(model_url=model.base_url, **{"max_tries": 1, **case.settings})
            ids[name] = bench.ask(f"{name}\n", project_id=bench.new_project())
            turns.append(bench.start(msgspec.structs.replace(workshop, settings=settings), ids[name]))
            if len(turns) >= 19:
                turns.pop(0).join()
        for turn in turns:
            turn.join()
    growth = grown(before)
    print(f"the worker grew by {growth / 2**20:.1f} MiB")
    assert growth < MOST_GROWTH_BYTES
    rows = {name: bench.check(message_id)[0] for name, message_id in ids.items()}
    return {name: row.content if row.error is None else row.error.code for name, row in rows.items()}


@pytest.mark.parametrize("cases", [ENDLESS, BROKEN, ODD], ids=["endless", "broken", "odd"])
def test_a_hostile_answer_ends_its_message_and_nothing_else(bench: Bench, cases: dict[str, Case]) -> None:
    """With a code that says what it was, in bounded memory, also where a worker has all of these at a time."""
    assert made_to_end(bench, cases) == {name: case.ends for name, case in cases.items()}


def test_a_neighbour_of_a_flood_is_answered(bench: Bench) -> None:
    """Streams take turns on a worker's loop, and a flood can still be cancelled."""
    with running({"flood": endless(b": x\n\n")}) as model:
        workshop = bench.workshop(model_url=model.base_url)
        flooded, neighbour = bench.ask("flood\n"), bench.ask("hello", project_id=bench.new_project())
        turn = bench.start(workshop, flooded)
        model.wait_begun("flood", PATIENCE_S)
        run_turn(workshop, neighbour)
        assert bench.check(neighbour)[0].content == POLITE
        assert not turn.is_over
        bench.cancel(flooded)
        turn.join()
    assert bench.check(flooded)[0].status == "cancelled"


# --- calls ------------------------------------------------------------------------------------------------------


def answered(bench: Bench, attack: Attack) -> tuple[Message, list[str | None]]:
    """The message whose model answers so, and the errors of its calls."""
    with running({"go": attack}) as model:
        message_id = bench.ask("go\n")
        run_turn(bench.workshop(model_url=model.base_url), message_id)
    row, _ = bench.check(message_id)
    return row, [call.error for call in row.tool_calls]


def test_of_thousands_of_calls_the_first_are_made_and_the_rest_is_not_kept(bench: Bench) -> None:
    row, errors = answered(bench, calls(*(call(adding(number), index=number) for number in range(5000))))
    assert (row.content, errors) == (POLITE, [None] * 16)
    assert bench.document()["items"] == list(range(16))


def test_calls_that_share_their_id_are_each_made_once(bench: Bench) -> None:
    """Under ids of ours."""
    row, errors = answered(bench, calls(*(call(adding(number), index=number, call_id="same") for number in range(3))))
    assert (bench.document()["items"], errors) == ([0, 1, 2], [None] * 3)
    assert len({one.tool_call_id for one in row.tool_calls}) == 3


@pytest.mark.parametrize("figure", [-5, "7", 10**30, 2.5, None, [1], 1e300, True], ids=lambda figure: str(figure)[:12])
def test_a_figure_of_usage_that_nobody_can_believe_fails_no_answer_and_costs_nobody_too_much(
    bench: Bench, figure: object
) -> None:
    told = {"prompt_tokens": figure, "completion_tokens": 3, "total_tokens": figure}
    row, _ = answered(bench, answer(*text("Hi."), STOP, chunk(usage=told)))
    believed = MOST_TOKENS if figure == 10**30 else 0
    assert row.content == "Hi."
    assert row.usage == Usage(prompt_tokens=believed, completion_tokens=3, total_tokens=believed)


# --- where the worker connects to -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(bench: Bench, status: int) -> None:
    """What a provider names gets neither the key nor the conversation, not even a connection."""
    with running({}) as elsewhere:
        location = f"Location: {elsewhere.base_url}/chat/completions"
        row, _ = answered(bench, raw(head(f"{status} Moved", location, "Content-Length: 0")))
        assert elsewhere.asked == []
        assert elsewhere.connections == 0
    assert row.error is not None
    assert row.error.code == ErrorCode.PROVIDER_REJECTED


def test_a_provider_sets_no_cookies(bench: Bench) -> None:
    """One conversation bears nothing to the next."""
    cookie = raw(head("200 OK", "Set-Cookie: who=anna; Path=/"), *text("Hi."), STOP)
    with running({"first": cookie}) as model:
        workshop = bench.workshop(model_url=model.base_url.replace("127.0.0.1", "localhost"))
        for content in ("first\n", "second"):
            message_id = bench.ask(content)
            run_turn(workshop, message_id)
            assert bench.row(message_id).status == "success"
    assert [asked.newest for asked in model.asked] == ["first\n", "second"]
    assert "who=anna" not in model.asked[1].head


def test_the_way_leads_through_the_proxy_that_the_operators_environment_names(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is as much the operator's as the address is."""
    with running({}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
        message_id = bench.ask()
        run_turn(bench.workshop(model_url="http://model.invalid/v1"), message_id)
        assert bench.check(message_id)[0].content == POLITE
        assert proxy.asked[0].head.startswith("POST http://model.invalid/v1/chat/completions ")
