"""The scripted model as the real `openai` package sees it, and its controls as tests use them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from dev.scripted_model.control import ControlRefused, ScriptedModel, running
from shared import video

_EDIT_TOOL: Any = {"type": "function", "function": {"name": "applyJsonPatch", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedModel]:
    with running(pace="full") as model:
        yield model


@pytest.fixture
def model(server: ScriptedModel) -> ScriptedModel:
    server.reset()
    return server


@pytest.fixture
def client(model: ScriptedModel) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=model.base_url, api_key="any", max_retries=0) as client:
        yield client


def _user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def _stream(client: openai.OpenAI, text: str, **more: Any) -> list[ChatCompletionChunk]:
    with client.chat.completions.create(model="m", messages=_user(text), stream=True, **more) as stream:
        return list(stream)


def _text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _finish(chunks: list[ChatCompletionChunk]) -> list[str]:
    reasons = (chunk.choices[0].finish_reason for chunk in chunks if chunk.choices)
    return [reason for reason in reasons if reason is not None]


def _read_into(received: bytearray, response: httpx.Response) -> None:
    for part in response.iter_raw():
        received += part


def _raw_lines(model: ScriptedModel, text: str, **more: Any) -> list[str]:
    response = httpx.post(
        f"{model.base_url}/chat/completions",
        json={"model": "m", "stream": True, "messages": _user(text), **more},
        trust_env=False,
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    return [line for line in response.text.split("\n\n") if line]


def test_a_natural_answer_streams_and_is_the_same_whole(client: openai.OpenAI) -> None:
    chunks = _stream(client, "tell me a story about tea")
    whole = client.chat.completions.create(model="m", messages=_user("tell me a story about tea"))
    assert len(chunks) > 100
    assert _text(chunks) == whole.choices[0].message.content
    assert _finish(chunks) == [whole.choices[0].finish_reason] == ["stop"]


def test_the_same_request_gets_the_same_bytes(model: ScriptedModel) -> None:
    assert _raw_lines(model, "write a poem about rain") == _raw_lines(model, "write a poem about rain")


def test_the_lines_are_those_of_the_wire(model: ScriptedModel) -> None:
    model.say("exactly", {"text": "aé", "chunks": 2})
    *lines, done = _raw_lines(model, "exactly", stream_options={"include_usage": True})
    assert done == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    for chunk in chunks:
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", "m")
        assert (chunk["id"], chunk["created"]) == (chunks[0]["id"], chunks[0]["created"])
    assert [chunk["choices"] and chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "a"},
        {"content": "é"},
        {},
        [],
    ]
    assert [chunk["usage"] is None for chunk in chunks] == [True, True, True, True, False]
    assert "é" in lines[2], "text goes out as UTF-8, so that a cut can fall inside a character"


def test_usage_comes_only_when_asked_for_or_scripted(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.say("plain", {"text": "abcd" * 10})
    model.say("scripted", {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, {"text": "x"})
    model.say("none", {"text": "x"}, {"usage": None})
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}}
    assert [chunk.usage for chunk in _stream(client, "plain") if chunk.usage] == []
    (usage,) = [chunk.usage for chunk in _stream(client, "plain", **asked) if chunk.usage]
    assert usage.completion_tokens >= 10
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    last = _stream(client, "scripted")[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 7
    assert [chunk.usage for chunk in _stream(client, "none", **asked) if chunk.usage] == []


def test_an_edit_goes_through_the_tool_and_is_told_of_afterwards(client: openai.OpenAI) -> None:
    document = json.dumps(video.new_document())
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": f'Edit.\n<document version="1">\n{document}\n</document>'},
        {"role": "user", "content": 'add a title scene saying "Hi"'},
    ]
    first = client.chat.completions.create(model="m", messages=messages, tools=[_EDIT_TOOL])
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments)["operations"][0]["value"]["data"]["text"] == "Hi"
    messages.append(first.choices[0].message.model_dump(exclude_none=True))  # type: ignore[arg-type]  # a dict of that shape
    messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"applied": true}'})
    second = client.chat.completions.create(model="m", messages=messages, tools=[_EDIT_TOOL])
    assert second.choices[0].message.content == "Done. Added a text scene saying “Hi” at 12 s, 4 s long."


def test_fragments_of_several_calls_interleave_and_only_the_first_bears_id_and_name(
    model: ScriptedModel, client: openai.OpenAI
) -> None:
    calls = [
        {"name": "a", "arguments": {"text": "ü"}, "every_byte": True},
        {"name": "b", "arguments": "{broken", "split": 3, "id": "mine"},
    ]
    model.say("both", {"text": "Wait."}, {"tools": calls, "interleave": True})
    chunks = _stream(client, "both")
    fragments = [fragment for chunk in chunks if chunk.choices for fragment in chunk.choices[0].delta.tool_calls or []]
    assert [fragment.index for fragment in fragments[:6]] == [0, 1, 0, 1, 0, 1]
    named = [(fragment.id, fragment.function and fragment.function.name) for fragment in fragments]
    assert named[0][1] == "a"
    assert named[1] == ("mine", "b")
    assert all(pair == (None, None) for pair in named[2:])
    joined = ["", ""]
    for fragment in fragments:
        assert fragment.function is not None
        joined[fragment.index] += fragment.function.arguments or ""
    assert joined == ['{"text":"ü"}', "{broken"]
    assert _finish(chunks) == ["tool_calls"]


def test_rounds_follow_the_tool_turns_and_end_with_done(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.on("go", {"rounds": [{"steps": [{"tool": {"name": "t"}}]}, {"steps": [{"text": "second"}]}]})
    turn: list[Any] = [
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "t", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
    ]
    answers = [
        client.chat.completions.create(model="m", messages=[*_user("go"), *(turn * turns)]).choices[0].message.content
        for turns in range(3)
    ]
    assert answers == [None, "second", "Done."]


def test_a_script_can_stand_in_the_message(client: openai.OpenAI) -> None:
    script = {"rounds": [{"steps": [{"text": "as written"}, {"finish": "length"}]}]}
    chunks = _stream(client, f"Please\n#script {json.dumps(script)}")
    assert _text(chunks) == "as written"
    assert _finish(chunks) == ["length"]
    with pytest.raises(openai.BadRequestError, match=r"rounds\[0\]"):
        _stream(client, '#script {"rounds": [{"stepz": []}]}')


def test_the_newest_matching_script_answers_and_only_so_many_times(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.say("", {"text": "any"})
    model.say("one", {"text": "special"}, times=2)
    assert [_text(_stream(client, text)) for text in ("one", "two", "one", "one")] == [
        "special",
        "any",
        "special",
        "any",
    ]
    model.remove_scripts()
    assert "hello" in _text(_stream(client, "say hello"))


def test_an_http_error_has_its_status_headers_and_body(model: ScriptedModel, client: openai.OpenAI) -> None:
    limited = {"status": 429, "headers": {"Retry-After": "7"}, "error": {"code": "insufficient_quota"}}
    model.on("limited", {"rounds": [limited]})
    with pytest.raises(openai.RateLimitError) as refused:
        _stream(client, "limited")
    assert refused.value.response.headers["retry-after"] == "7"
    assert refused.value.code == "insufficient_quota"
    model.on("gateway", {"rounds": [{"status": 502, "body": "<html>bad gateway"}]})
    with pytest.raises(openai.InternalServerError) as broken:
        _stream(client, "gateway")
    assert broken.value.response.text == "<html>bad gateway"
    model.on("key", {"rounds": [{"status": 401}]})
    with pytest.raises(openai.AuthenticationError) as unknown:
        _stream(client, "key")
    assert unknown.value.code == "invalid_api_key"
    assert [request["outcome"] for request in model.requests()] == ["refused"] * 3


def test_attempts_differ_for_the_same_request(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.on("again", {"rounds": [{"attempts": [{"status": 500}, {"steps": [{"text": "now"}]}]}]})
    with pytest.raises(openai.InternalServerError):
        _stream(client, "again")
    with pytest.raises(openai.InternalServerError):
        _stream(client, "again, another one")
    assert _text(_stream(client, "again")) == "now"
    assert [request["times_seen"] for request in model.requests()] == [0, 0, 1]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_cut_breaks_the_stream_where_it_stands(model: ScriptedModel, client: openai.OpenAI, how: str) -> None:
    model.say("cut", {"text": "abc", "chunks": 3}, {"cut": how}, {"text": "never"})
    stream = client.chat.completions.create(model="m", messages=_user("cut"), stream=True)
    received = [next(stream) for _ in range(4)]
    with pytest.raises(openai.APIConnectionError):
        next(stream)
    assert _text(received) == "abc"
    assert model.requests()[0]["outcome"] == "cut"


@pytest.mark.parametrize(
    ("where", "end"), [({"at_byte": 9}, b'\n\ndata: {"i'), ({"inside_character": True}, b'"a\xc3')]
)
def test_a_cut_can_fall_inside_a_line_and_inside_a_character(
    model: ScriptedModel, where: dict[str, Any], end: bytes
) -> None:
    model.say("cut", {"text": "first"}, {"cut": "fin", **where}, {"text": "aé"})
    received = bytearray()
    body = {"model": "m", "stream": True, "messages": _user("cut")}
    with (
        httpx.stream("POST", f"{model.base_url}/chat/completions", json=body, trust_env=False) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        _read_into(received, response)
    assert received.endswith(end)


def test_a_cut_before_anything_sends_no_byte(model: ScriptedModel) -> None:
    model.say("cut", {"cut": "fin"})
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        httpx.post(
            f"{model.base_url}/chat/completions",
            json={"model": "m", "stream": True, "messages": _user("cut")},
            trust_env=False,
        )


def test_a_missing_finish_reason_and_a_missing_done_end_cleanly(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.say("open end", {"text": "abc"}, {"finish": None}, {"done": False})
    chunks = _stream(client, "open end")
    assert _text(chunks) == "abc"
    assert _finish(chunks) == []
    assert "data: [DONE]" not in _raw_lines(model, "open end")


def test_raw_bytes_and_error_lines_arrive_as_they_are(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.say("garbage", {"text": "a"}, {"raw": "data: {oops\n\n"})
    model.say("latin", {"raw64": "ZGF0YTogIv8iCgo="})
    model.say("overload", {"raw": 'data: {"error":{"type":"server_error","message":"overloaded"}}\n\n'})
    with pytest.raises(json.JSONDecodeError):
        _stream(client, "garbage")
    with pytest.raises(UnicodeDecodeError):
        _stream(client, "latin")
    with pytest.raises(openai.APIError, match="overloaded"):
        _stream(client, "overload")


def test_a_refusal_comes_as_refusal(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.say("bad", {"refusal": "I won't do that."})
    chunks = _stream(client, "bad")
    assert "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks) == "I won't do that."
    whole = client.chat.completions.create(model="m", messages=_user("bad"))
    assert (whole.choices[0].message.refusal, whole.choices[0].message.content) == ("I won't do that.", None)


def test_a_client_that_closes_a_stalled_stream_is_seen(model: ScriptedModel) -> None:
    model.say("stall", {"text": "abc", "chunks": 3}, {"stall": True})

    async def read_and_leave() -> str:
        async with openai.AsyncOpenAI(base_url=model.base_url, api_key="any", max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=_user("stall"), stream=True)
            text = ""
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                if text == "abc":
                    break
            await stream.close()
            return text

    assert asyncio.run(read_and_leave()) == "abc"
    model.wait_disconnected(0)
    (request,) = model.requests()
    assert (request["outcome"], request["chunks_sent"]) == ("disconnected", 3)


@pytest.mark.parametrize("steps", [[{"stall": True}], [{"open": True}, {"stall": True}]])
def test_silence_before_or_behind_the_headers_times_out(
    model: ScriptedModel, client: openai.OpenAI, steps: list[dict[str, Any]]
) -> None:
    model.say("silence", *steps)
    with pytest.raises(openai.APITimeoutError):
        _stream(client.with_options(timeout=0.2), "silence")
    model.wait_disconnected(0)


def test_a_held_stream_goes_on_when_its_name_is_released(model: ScriptedModel, client: openai.OpenAI) -> None:
    model.say("held", {"text": "before"}, {"hold": "gate"}, {"text": " after"})
    with client.chat.completions.create(model="m", messages=_user("held"), stream=True) as stream:
        model.wait_held("gate")
        model.wait_chunks(0, 1)
        assert model.requests()[0]["outcome"] is None
        model.release("gate")
        assert _text(list(stream)) == "before after"
    model.wait_ended(0)
    assert _text(_stream(client, "held")) == "before after", "a name stays released until the reset"


def test_a_wait_that_is_not_satisfied_says_what_was_seen(model: ScriptedModel) -> None:
    with pytest.raises(TimeoutError, match='"count": 0'):
        model.wait_requests(1, timeout_s=0.05)
    with pytest.raises(ControlRefused, match="wait for one of"):
        model._wait(1, nonsense=1)


def test_requests_are_kept_without_what_authenticates(model: ScriptedModel, client: openai.OpenAI) -> None:
    _stream(client, "hello there", tools=[_EDIT_TOOL])
    model.wait_requests(1)
    (request,) = model.requests()
    assert request["messages"] == [{"role": "user", "content": "hello there"}]
    assert (request["number"], request["model"], request["tools"]) == (0, "m", [_EDIT_TOOL])
    assert "authorization" not in request["headers"]
    assert request["headers"]["user-agent"].startswith("OpenAI/Python")
    assert request["received_ms"] <= request["first_chunk_ms"] <= request["ended_ms"]


def test_a_wrong_script_is_refused_with_its_place(model: ScriptedModel) -> None:
    with pytest.raises(ControlRefused, match=r"400.*rounds\[0\]\.steps\[1\]"):
        model.say("x", {"text": "a"}, {"txet": "b"})
    with pytest.raises(ControlRefused, match="times"):
        model.say("x", {"text": "a"}, times=0)


def test_what_is_no_request_is_answered_with_400(model: ScriptedModel, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="at least one message"):
        client.chat.completions.create(model="m", messages=[])
    assert httpx.post(f"{model.base_url}/chat/completions", content=b"{", trust_env=False).status_code == 400


def test_models_and_health_are_served(model: ScriptedModel, client: openai.OpenAI) -> None:
    assert [entry.id for entry in client.models.list()] == ["scripted-model"]
    assert model.is_ready()


def test_it_listens_on_loopback_only_and_stops_at_once_on_sigterm_with_streams_open() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.scripted_model", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address.startswith("http://127.0.0.1:")
        with (
            ScriptedModel(address) as model,
            openai.OpenAI(base_url=model.base_url, api_key="x", max_retries=0) as client,
        ):
            model.say("stall", {"text": "a"}, {"stall": True})
            stream = client.chat.completions.create(model="m", messages=_user("stall"), stream=True)
            model.wait_chunks(0, 1)
            os.kill(process.pid, signal.SIGTERM)
            _, errors = process.communicate(timeout=10)
            stream.close()
        assert process.returncode == 0
        assert errors.decode().splitlines() == [errors.decode().strip()], "one line a request, and no traceback"
    finally:
        process.kill()
        process.wait()
