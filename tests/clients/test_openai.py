"""`openai` for Python, blocking and asynchronous, and for Node.js: OpenAI's own clients, which know nothing of us."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.chat import Chat, busy_person
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program, Programs, Said
from tests.databases import PostgresDatabases, ValkeyDatabases
from tests.fault_proxy import FaultProxies, Manner, through
from tests.people import eventually
from tests.stack import Stack, StackStarter

README: Final = Path(__file__).parents[2] / "README.md"
SEED: Final = 20_261_126
CLIENTS: Final = ("python", "asyncio", "node")
SHORT_LEASES: Final = {
    "CHATRELAY_LEASE_S": 2,
    "CHATRELAY_HEARTBEAT_S": 0.5,
    "CHATRELAY_SWEEP_S": 0.5,
    "CHATRELAY_RING_AGAIN_S": 1,
}
PATCH: Final = {"operations": [{"op": "add", "path": "/colour", "value": "green"}], "explanation": "Grass"}
COMPONENT: Final = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "a ball", "name": "Ball"}}

every_client = pytest.mark.parametrize("client", CLIENTS)


def start(programs: Programs, chat: Chat, client: str, do: str, **task: Any) -> Program:
    """A client with the chat's token, or as `task` says."""
    program = "openai_client.mjs" if client == "node" else "openai_client.py"
    common = {"origins": [chat.url], "token": chat.token, "asynchronous": client == "asyncio"}
    return programs.run(program, {**common, "do": do, **task})


def asking(chat: Chat, content: str, **more: Any) -> Said:
    return {"input": content, "conversation": chat.project_id, **more}


def completing(chat: Chat, content: str, **more: Any) -> Said:
    said = [{"role": "system", "content": "Be somebody else."}, {"role": "user", "content": content}]
    return {"model": f"chatrelay:{chat.project_id}", "messages": said, **more}


def created(program: Program) -> str:
    """The id of the message that it made."""
    response_id: str = program.until(lambda said: "created" in said)["created"]
    return response_id.removeprefix("resp_")


def until_told(program: Program, kind: str) -> Said:
    """The next event of that type."""
    told: Said = program.until(lambda said: said.get("event", {}).get("type") == kind)["event"]
    return told


def output_text(response: Said) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def check_shows(program: Program, row: Said, status: str, *, appended: bool = True) -> Said:
    """It shows the row's text, and has appended just that; each event came once, under rising numbers. Its last response."""
    [shown] = program.heard("shown")
    assert shown["text"] == row["content"]
    if appended:
        assert shown["appended"] == row["content"]
    assert (shown["status"], shown["error"]) == (status, None)
    events = program.heard("event")
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    response: Said = events[-1]["response"]
    assert output_text(response) == row["content"]
    assert response["id"] == f"resp_{row['id']}"
    return response


# --- answers --------------------------------------------------------------------------------------------------------


@every_client
def test_an_answer_is_streamed_and_is_the_row(programs: Programs, chat: Chat, client: str) -> None:
    text = "Ünïcödé, 漢字 and 🦀: every character arrives. " * 5
    content = chat.script([{"text": text, "chunk_size": 3, "pace": 0.002}])
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        program.finish()
    row = chat.row(message_id)
    assert row["content"] == text
    response = check_shows(program, row, "completed")
    usage = {"input_tokens": "promptTokens", "output_tokens": "completionTokens", "total_tokens": "totalTokens"}
    assert {name: response["usage"][name] for name in usage} == {
        name: row["usage"][ours] for name, ours in usage.items()
    }
    assert not program.heard("lost")


@every_client
@pytest.mark.parametrize("do", ["wait", "background", "helper"])
def test_an_answer_is_waited_for_polled_and_put_together_by_the_package(
    programs: Programs, chat: Chat, client: str, do: str
) -> None:
    """All three come to the same response."""
    content = chat.script([{"text": "The answer, ", "pace": 0.002}, {"text": "in pieces."}])
    body = asking(chat, content, **({"model": "chatrelay"} if do == "helper" else {}))
    with start(programs, chat, client, do, body=body) as program:
        program.finish()
    [response] = program.heard("response")
    row = chat.row(response["id"].removeprefix("resp_"))
    assert (response["status"], output_text(response)) == ("completed", row["content"])
    assert response["conversation"]["id"] == chat.project_id
    if do == "helper":
        assert program.heard("text") == [row["content"]]


@every_client
def test_a_tool_call_is_shown_with_what_came_of_it_and_has_changed_the_document(
    programs: Programs, chat: Chat, client: str
) -> None:
    content = chat.script(
        [{"text": "I paint it. "}, {"tool": {"name": "applyJsonPatch", "arguments": PATCH, "split": 4}}],
        [{"text": "It is green now."}],
    )
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        until_told(program, "response.function_call_arguments.done")
        program.finish()
    row = chat.row(message_id)
    response = check_shows(program, row, "completed")
    [shown] = program.heard("shown")
    assert [shown["items"][str(index)] for index in range(3)] == response["output"]
    _, call, result = response["output"]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == ("function_call", "applyJsonPatch", PATCH)
    assert (result["type"], result["call_id"]) == ("function_call_output", call["call_id"])
    assert json.loads(result["output"])["success"] is True
    assert chat.project()["document"] == {"colour": "green"}


@every_client
def test_the_package_itself_puts_an_answer_with_a_tool_call_together(
    programs: Programs, chat: Chat, client: str
) -> None:
    """Its helpers hold the events to rules of their own, and would raise."""
    content = chat.script([{"tool": {"name": "applyJsonPatch", "arguments": PATCH}}], [{"text": "It is green now."}])
    with start(programs, chat, client, "helper", body=asking(chat, content, model="chatrelay")) as program:
        program.finish()
    assert program.heard("text") == ["It is green now."]
    assert [item["type"] for item in program.heard("response")[0]["output"]] == [
        *("message", "function_call", "function_call_output")
    ]


@every_client
def test_a_component_job_keeps_the_response_in_progress_until_the_job_ends(
    programs: Programs, building: Chat, client: str
) -> None:
    """With the job's id in the call's output."""
    content = building.script([{"text": "I build it."}, {"tool": COMPONENT}])
    with start(programs, building, client, "create", body=asking(building, content)) as program:
        message_id = created(program)
        eventually(lambda: building.row(message_id)["status"] == "building" or building.row(message_id)["jobId"])
        program.finish()
    row = building.row(message_id)
    assert row["status"] == "success"
    response = check_shows(program, row, "completed")
    assert json.loads(response["output"][2]["output"])["jobId"] == row["jobId"]
    assert building.stack.client().get(f"/v1/jobs/{row['jobId']}").json()["status"] == "success"


@pytest.fixture(scope="module")
def building_stack(postgres_databases: PostgresDatabases, valkey_databases: ValkeyDatabases) -> Iterator[Stack]:
    with StackStarter(postgres_databases, valkey_databases) as starter:
        yield starter(builders=1)


@pytest.fixture
def building(building_stack: Stack) -> Chat:
    return Chat(building_stack)


@every_client
@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        ({"finish": "content_filter"}, "incomplete", "content_filter"),
        ({"finish": "length"}, "incomplete", "max_output_tokens"),
        ({"refusal": "I would rather not."}, "failed", "refusal"),
    ],
)
def test_an_answer_that_the_provider_ends_keeps_its_text_and_says_why(
    programs: Programs, chat: Chat, client: str, end: Said, status: str, code: str
) -> None:
    content = chat.script([{"text": "As far as this"}, end])
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        program.finish()
    row = chat.row(message_id)
    assert row["status"] == "error"
    response = check_shows(program, row, status)
    why = response["incomplete_details"]["reason"] if status == "incomplete" else response["error"]["type"]
    assert why == code


@every_client
def test_a_cancelled_answer_ends_with_its_text(programs: Programs, chat: Chat, client: str) -> None:
    """The stream and the answer to the cancel say the same; the provider's stream is closed."""
    content = chat.script([{"text": "As far as this"}, {"hold": "for ever"}])
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        until_told(program, "response.output_text.delta")
        with start(programs, chat, client, "cancel", responseId=f"resp_{message_id}") as other:
            other.finish()
        program.finish()
    response = check_shows(program, chat.row(message_id), "cancelled")
    assert other.heard("response") == [response]


@every_client
def test_an_answer_that_begins_anew_with_other_words_is_shown_whole_at_its_end(
    programs: Programs, chat: Chat, client: str
) -> None:
    """What was appended cannot be taken back, and nothing wrong is appended to it."""
    content = chat.script([])
    broken = {"steps": [{"text": "It was a dark and st", "pace": 0.002}, {"cut": "rst"}]}
    whole = {"steps": [{"text": "It was a bright morning, and it stayed so.", "pace": 0.002}]}
    chat.stack.model.on(content, {"rounds": [{"attempts": [broken, whole]}]})
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        program.finish()
    row = chat.row(message_id)
    assert row["content"] == "It was a bright morning, and it stayed so."
    check_shows(program, row, "completed", appended=False)
    [shown] = program.heard("shown")
    assert "It was a dark and st".startswith(shown["appended"])


# --- completions ----------------------------------------------------------------------------------------------------


@every_client
@pytest.mark.parametrize("do", ["complete", "chunks"])
def test_a_completion_is_the_answers_text(programs: Programs, chat: Chat, client: str, do: str) -> None:
    content = chat.script([{"text": "The answer, ", "pace": 0.002}, {"text": "in pieces."}])
    more = {"stream_options": {"include_usage": True}} if do == "chunks" else {}
    with start(programs, chat, client, do, body=completing(chat, content, **more)) as program:
        program.finish()
    if do == "chunks":
        last = program.said[-1]
        text, reason, usage = last["text"], last["reason"], last["usage"]
    else:
        [completion] = program.heard("completion")
        [choice] = completion["choices"]
        text, reason, usage = choice["message"]["content"], choice["finish_reason"], completion["usage"]
    assert (text, reason) == ("The answer, in pieces.", "stop")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


@every_client
def test_chunks_of_an_answer_that_does_not_come_to_its_end_are_an_error(
    programs: Programs, chat: Chat, client: str
) -> None:
    """Begun anew with other words, cancelled; cut by the provider it has a reason."""
    content = chat.script([])
    broken = {"steps": [{"text": "It was a dark and st", "pace": 0.002}, {"cut": "rst"}]}
    whole = {"steps": [{"text": "It was a bright morning, and it stayed so.", "pace": 0.002}]}
    chat.stack.model.on(content, {"rounds": [{"attempts": [broken, whole]}]})
    with start(programs, chat, client, "chunks", body=completing(chat, content)) as program:
        program.finish()
    assert program.heard("failed") == ["answer_begun_anew"]
    assert "It was a dark and st".startswith(program.said[-1]["text"])
    cut = chat.script([{"text": "As far as this"}, {"finish": "length"}])
    with start(programs, chat, client, "chunks", body=completing(chat, cut)) as program:
        program.finish()
    assert (program.said[-1]["text"], program.said[-1]["reason"]) == ("As far as this", "length")


@every_client
def test_models_and_the_clients_project(programs: Programs, chat: Chat, client: str) -> None:
    """`OpenAI(project=…)` names the project, and nothing else needs to."""
    with start(programs, chat, client, "models") as program:
        program.finish()
    [models] = program.heard("models")
    assert {"chatrelay", f"chatrelay:{chat.project_id}"} <= set(models)
    body = {"input": chat.script([{"text": "Here."}])}
    with start(programs, chat, client, "wait", body=body, project=chat.project_id) as program:
        program.finish()
    assert program.heard("response")[0]["conversation"]["id"] == chat.project_id


# --- refusals -------------------------------------------------------------------------------------------------------


def refusals(program: Program) -> dict[str, tuple[int, str, str]]:
    return {
        said["refused"]: (said["status"], said["code"], said["error"]) for said in program.said if "refused" in said
    }


CALLS: Final = {"create", "stream", "background", "retrieve", "follow", "cancel", "delete", "complete"}


@every_client
def test_who_has_no_good_token_or_no_place_in_the_project_is_refused_everything(
    programs: Programs, chat: Chat, client: str
) -> None:
    message_id = chat.ask([{"text": "Secret."}])
    stranger, _ = chat.stack.store.create_token(f"stranger-{uuid.uuid4()}")
    task = {"body": asking(chat, "x"), "completion": completing(chat, "x"), "responseId": f"resp_{message_id}"}
    for token, refusal in (
        ("wrong", (401, "invalid_api_key", "AuthenticationError")),
        (stranger, (404, "not_found", "NotFoundError")),
    ):
        with start(programs, chat, client, "refusals", token=token, **task) as program:
            program.finish()
        assert refusals(program) == dict.fromkeys(CALLS, refusal)


@every_client
def test_who_has_too_many_unfinished_messages_is_told_so_at_once(programs: Programs, chat: Chat, client: str) -> None:
    """The client does not try again by itself; what makes no message is served."""
    with busy_person(chat) as busy:
        task = {
            "body": {"input": "x", "conversation": busy.project_id},
            "completion": {"model": f"chatrelay:{busy.project_id}", "messages": [{"role": "user", "content": "x"}]},
            "responseId": f"resp_{busy.message_id}",
        }
        with start(programs, chat, client, "refusals", token=busy.token, **task) as program:
            program.finish()
    refused = refusals(program)
    assert {refused.pop(name) for name in ("create", "stream", "background", "complete")} == {
        (429, "too_many_unfinished", "RateLimitError")
    }
    assert refused == {"delete": (403, "forbidden", "PermissionDeniedError")}


# --- connections, servers and workers that are lost -------------------------------------------------------------------


@every_client
@pytest.mark.parametrize("manner", ["fin", "rst"])
def test_a_client_whose_connections_are_cut_goes_on_behind_its_last_number(
    programs: Programs, chat: Chat, client: str, manner: Manner
) -> None:
    """Cut in the answer's head, inside events and inside characters: no character is lost and none comes twice."""
    seed = f"{SEED} {manner} {client}"
    chance = random.Random(seed)
    cuts = [chance.randrange(1, 100), *(chance.randrange(3000, 9000) for _ in range(3))]
    print(f"seed {seed!r}: cuts {cuts}")
    text = "".join(f"{number} 🦀 ähm … " for number in range(600))
    message_id = chat.ask(
        [
            {"text": text[:2000], "chunk_size": 11, "pace": 0.003},
            {"tool": {"name": "applyJsonPatch", "arguments": PATCH}},
        ],
        [{"text": text[2000:], "chunk_size": 11, "pace": 0.003}],
    )
    with (
        cut_streams(chat.url, cuts, manner=manner) as proxy,
        start(programs, chat, client, "follow", responseId=f"resp_{message_id}", origins=[proxy.url]) as program,
    ):
        program.finish()
    assert proxy.made == len(cuts)
    assert program.heard("lost")
    row = chat.row(message_id)
    assert row["content"] == f"{text[:2000]}\n\n{text[2000:]}"
    check_shows(program, row, "completed")


@every_client
@pytest.mark.parametrize("same", [True, False], ids=["the same words", "other words"])
def test_a_client_whose_worker_is_killed_comes_to_show_the_next_ones_answer(
    programs: Programs, stack: Callable[..., Stack], client: str, same: bool
) -> None:
    """One that stays, and one that was away meanwhile. With the same words both append just the row's text."""
    chat = Chat(stack(webs=2, workers=2, settings=SHORT_LEASES))
    content = chat.script([])
    first = {"steps": [{"text": "The first half, "}, {"hold": "halfway"}, {"text": "and the second."}]}
    second = first if same else {"steps": [{"text": "Another beginning and another end."}]}
    chat.stack.model.on(content, {"rounds": [{"attempts": [first, second]}]})
    delta = "response.output_text.delta"
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        until_told(program, delta)
        with start(programs, chat, client, "follow", responseId=f"resp_{message_id}", stopAfter=[delta]) as away:
            away.finish()
        holder = eventually(lambda: chat.stack.holder(message_id))
        chat.stack.kill(holder)
        chat.stack.model.release("halfway")
        program.finish()
    row = chat.row(message_id)
    assert (row["status"], row["attempt"]) == ("success", 2)
    check_shows(program, row, "completed", appended=same)
    number = away.heard("event")[-1]["sequence_number"]
    told = stream_behind(chat, message_id, number)
    appended = "".join(event["delta"] for event in told if event["type"] == delta)
    assert appended == ("and the second." if same else "")
    assert next(event["text"] for event in told if event["type"] == "response.output_text.done") == row["content"]


def stream_behind(chat: Chat, message_id: str, number: int) -> list[Said]:
    path = f"/v1/openai/responses/resp_{message_id}?stream=true&starting_after={number}"
    body = chat.stack.client().get(path).raise_for_status().text
    return [json.loads(data) for data in re.findall(r"^data: (.*)$", body, re.MULTILINE)]


@every_client
def test_a_client_is_told_the_rest_after_redis_was_emptied(
    programs: Programs, stack: Callable[..., Stack], client: str
) -> None:
    """One that stays, and one that comes back when the log of what it was told is gone."""
    chat = Chat(stack(webs=1, workers=1, own_valkey=True))
    content = chat.script([{"text": "Before, "}, {"hold": "emptied"}, {"text": "and after."}])
    delta = "response.output_text.delta"
    with start(programs, chat, client, "create", body=asking(chat, content)) as program:
        message_id = created(program)
        until_told(program, delta)
        with start(programs, chat, client, "follow", responseId=f"resp_{message_id}", stopAfter=[delta]) as away:
            away.finish()
        chat.stack.redis.flushall()
        chat.stack.model.release("emptied")
        program.finish()
    row = chat.row(message_id)
    assert (row["content"], row["attempt"]) == ("Before, and after.", 2)
    check_shows(program, row, "completed")
    told = stream_behind(chat, message_id, away.heard("event")[-1]["sequence_number"])
    assert "".join(event["delta"] for event in told if event["type"] == delta) == "and after."


@every_client
def test_a_client_of_a_server_that_is_drained_goes_on_at_another(
    programs: Programs, stack: Callable[..., Stack], client: str
) -> None:
    """Its stream breaks off, so that it does not take this for the end."""
    chat = Chat(stack(webs=2, workers=1))
    content = chat.script([{"text": "Before, "}, {"hold": "drained"}, {"text": "and after."}])
    with start(programs, chat, client, "create", body=asking(chat, content), origins=chat.stack.urls) as program:
        message_id = created(program)
        until_told(program, "response.output_text.delta")
        chat.stack.kill("web-1", signal.SIGTERM)
        program.until(lambda said: "lost" in said)
        chat.stack.wait_ended("web-1")
        chat.stack.model.release("drained")
        program.finish()
    row = chat.stack.client(1).get(f"/v1/messages/{message_id}").json()
    assert row["content"] == "Before, and after."
    check_shows(program, row, "completed")
    if (
        client != "node"
    ):  # whose fetch takes what came before the break for the whole: it has no last event all the same
        assert "ended" not in program.heard("lost")


@every_client
@pytest.mark.parametrize("do", ["wait", "complete"])
def test_a_client_that_waits_tries_again_by_itself_and_asks_for_nothing_twice(
    programs: Programs, chat: Chat, client: str, do: str
) -> None:
    """Cut before the answer's first byte: the package repeats its request, and there is one message all the same."""
    content = chat.script([{"hold": f"cut {client} {do}"}, {"text": "The answer."}])
    body = asking(chat, content) if do == "wait" else completing(chat, content)
    with FaultProxies() as proxies:
        link = proxies.link(chat.url)
        url = through(link, chat.url)
        with start(programs, chat, client, do, body=body, origins=[url]) as program:
            [answer] = eventually(lambda: assistants(chat))
            eventually(lambda: chat.row(answer["id"])["attempt"] == 1)
            link.reset()
            link.wait_opened(2)
            chat.stack.model.release(f"cut {client} {do}")
            program.finish()
    assert [one["id"] for one in assistants(chat)] == [answer["id"]]
    assert "The answer." in json.dumps(program.said)


def assistants(chat: Chat) -> list[Said]:
    listed = chat.stack.client().get(f"/v1/projects/{chat.project_id}/messages").raise_for_status().json()["items"]
    return [item for item in listed if item["role"] == "assistant"]


@every_client
def test_a_client_that_closes_its_stream_goes_on_without_the_answer_which_is_written_all_the_same(
    programs: Programs, chat: Chat, client: str
) -> None:
    content = chat.script([{"text": "Half"}, {"hold": f"closed {client}"}, {"text": " and half."}])
    stop = ["response.output_text.delta"]
    with start(programs, chat, client, "create", body=asking(chat, content), stopAfter=stop) as program:
        message_id = created(program)
        program.finish()
    assert program.heard("stopped") == [True]
    chat.stack.model.release(f"closed {client}")
    eventually(lambda: chat.row(message_id)["status"] == "success")
    told = stream_behind(chat, message_id, program.heard("event")[-1]["sequence_number"])
    assert [event["delta"] for event in told if event["type"] == "response.output_text.delta"] == [" and half."]


def test_the_readmes_example_prints_the_answer(chat: Chat) -> None:
    """With the key, the address and the project of the walk."""
    [example] = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    chat.stack.model.say("Make the background green", {"text": "It is green, 🦀."})
    own = {**os.environ, "API": chat.url, "TOKEN": chat.token, "PROJECT": chat.project_id}
    done = subprocess.run(
        [sys.executable, "-c", example], env=own, capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert done.stdout == "It is green, 🦀."
