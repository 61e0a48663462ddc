"""`@trpc/client` 11, the front end of the system that this one succeeds, over each of its links."""

from __future__ import annotations

import json
import random
import re
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.clients.chat import Chat, busy_person, texts
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program, Programs
from tests.fault_proxy import Manner
from tests.people import eventually
from tests.scenes import ANSWERS, JOB, PATCH, Scene
from tests.stack import Stack
from tests.trace_checker import check_trace

README: Final = Path(__file__).parents[2] / "README.md"
CLIENT: Final = "trpc_client.mjs"
SEED: Final = 20_261_125
LINKS: Final = ("ws", "sse", "lines")
SHORT_LEASES: Final = {
    "CHATRELAY_LEASE_S": 2,
    "CHATRELAY_HEARTBEAT_S": 0.5,
    "CHATRELAY_SWEEP_S": 0.5,
    "CHATRELAY_RING_AGAIN_S": 1,
}


def start(programs: Programs, chat: Chat, link: str, **task: Any) -> Program:
    """A client with the chat's token in its connection parameters, or as `task` says."""
    common = {"origins": [chat.url], "projectId": chat.project_id, "token": chat.token, "link": link}
    return programs.run(CLIENT, {**common, **task})


def initiated(program: Program) -> str:
    """The id of the answer to what it sent."""
    message_id: str = program.until(lambda said: "initiated" in said)["initiated"]
    return message_id


def check_shows(program: Program, row: dict[str, Any], *, status: str | None = None) -> None:
    """It was told that it is over, and shows the row's text; every event came once, under rising ids."""
    [shown] = program.heard("shown")
    assert shown["text"] == row["content"]
    assert shown["status"] == (status or row["status"])
    assert program.heard("over") == [True]
    assert not program.heard("failed")
    for said in program.said:
        if "event" in said:
            assert json.loads(said["event"])["id"] == said["id"]


# --- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [False, True], ids=["parameters", "header"])
@pytest.mark.parametrize("link", LINKS)
def test_a_text_answer_is_sent_for_followed_and_over(programs: Programs, chat: Chat, link: str, header: bool) -> None:
    """With the token in the connection parameters and in the header; the events are our own, to the byte."""
    text = "Ünïcödé, 漢字 and 🦀: every character arrives. " * 5
    content = chat.script([{"text": text, "chunk_size": 3, "pace": 0.002}])
    with start(programs, chat, link, content=content, header=header) as program:
        message_id = initiated(program)
        program.finish()
    row = chat.row(message_id)
    check_trace(program.events, row=row)
    check_shows(program, row)
    assert texts(program.events) == row["content"] == text


@pytest.mark.parametrize("scene", ANSWERS[1:], ids=lambda scene: str(scene.name))
@pytest.mark.parametrize("link", ["ws", "sse"])
def test_an_answer_is_told_in_words_that_old_clients_know(
    programs: Programs, chat: Chat, link: str, scene: Scene
) -> None:
    """Tool calls and errors as they are; `cancelled` as an error that keeps its text, and a `finalized` with `error`; the
    snapshot of an answer that begins anew as a `complete`, to which what follows is appended.
    """
    with start(programs, chat, link, content=scene.script(chat)) as program:
        message_id = initiated(program)
        if scene.begun_anew:
            program.until_event("complete", finalContent="")
        if scene.tools:
            program.until_event("tool_start", name="applyJsonPatch", arguments=PATCH)
            program.until_event("tool_result", success=True)
            assert chat.project()["document"] == {"colour": "green"}
        if scene.held:
            program.until_event("delta")
            chat.stack.client().post(f"/v1/messages/{message_id}/cancel").raise_for_status()
        program.finish()
    row = chat.row(message_id)
    assert (row["status"], row["content"]) == (scene.status, scene.content)
    if not scene.held and not scene.begun_anew:
        check_trace(program.events, row=row)
    check_shows(program, row, status="error" if scene.held else None)
    [shown] = program.heard("shown")
    assert shown["error"] == ("cancelled" if scene.held else scene.code)
    assert shown["tools"] == [list(tool) for tool in scene.tools]


@pytest.mark.parametrize("link", ["ws", "sse"])
def test_a_component_job_ends_the_subscription_as_building(programs: Programs, chat: Chat, link: str) -> None:
    """With the job's id, at the first `finalized`, though the message's own stream goes on."""
    with start(programs, chat, link, content=JOB.script(chat)) as program:
        message_id = initiated(program)
        finalized = program.until_event("finalized", status="building")
        program.finish()
    row = chat.row(message_id)
    assert row["status"] == "building"
    assert finalized["jobId"] == row["jobId"]
    check_shows(program, row)
    chat.stack.client().post(f"/v1/messages/{message_id}/cancel").raise_for_status()


@pytest.mark.parametrize("link", ["ws", "sse"])
def test_an_answer_that_is_over_is_told_to_a_client_that_comes_late(programs: Programs, chat: Chat, link: str) -> None:
    message_id = chat.ask([{"text": "One two three four five.", "chunks": 5}])
    with start(programs, chat, link, messageId=message_id) as program:
        program.until_event("finalized", status="success")
    with start(programs, chat, link, messageId=message_id) as program:
        program.finish()
    check_trace(program.events, row=chat.row(message_id))
    check_shows(program, chat.row(message_id))


# --- calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
def test_calls_made_at_once_are_each_answered(programs: Programs, chat: Chat, link: str) -> None:
    """In one batch: the synchronous call comes with its final answer, and holds up none of the others' answers."""
    content = chat.script([{"text": "The answer."}])
    send = ["chat.sendMessage", {"projectId": chat.project_id, "message": content}]
    start_one = ["chat.initiateChat", {"projectId": chat.project_id, "message": chat.script([{"text": "Two."}])}]
    with start(programs, chat, link, calls=[send, start_one, start_one]) as program:
        program.finish()
    answers = {said["answered"]: said["value"] for said in program.said if "answered" in said}
    assert set(answers) == {0, 1, 2}, program.said
    answer = answers[0]["assistantMessage"]
    assert (answer["status"], answer["content"]) == ("success", "The answer.")
    assert answer == chat.row(answer["id"])
    assert answers[1]["assistantMessageId"] != answers[2]["assistantMessageId"]


@pytest.mark.parametrize("link", LINKS)
def test_the_messages_are_listed_newest_first(programs: Programs, chat: Chat, link: str) -> None:
    message_id = chat.ask([{"text": "The answer."}])
    eventually(lambda: chat.row(message_id)["status"] == "success")
    ask = ["chat.getMessages", {"projectId": chat.project_id}]
    with start(programs, chat, link, calls=[ask, ["chat.getMessages", {**ask[1], "limit": 1}]]) as program:  # type: ignore[dict-item]
        program.finish()
    pages = {said["answered"]: said["value"] for said in program.said if "answered" in said}
    listed = chat.stack.client().get(f"/v1/projects/{chat.project_id}/messages").json()
    assert pages[0] == listed
    assert pages[1] == {"items": listed["items"][:1], "nextCursor": listed["items"][0]["id"]}


# --- refusals ---------------------------------------------------------------------------------------------------


def every_call(project_id: str) -> list[list[Any]]:
    said = {"projectId": project_id, "message": "x"}
    listed = {"projectId": project_id}
    return [["chat.initiateChat", said], ["chat.sendMessage", said], ["chat.getMessages", listed]]


@pytest.mark.parametrize("link", LINKS)
def test_who_bears_no_token_that_is_good_is_refused_everything(programs: Programs, chat: Chat, link: str) -> None:
    message_id = chat.ask([{"text": "Secret."}])
    with start(programs, chat, link, token="wrong", calls=every_call(chat.project_id), messageId=message_id) as program:
        program.finish()
    assert [said["data"]["code"] for said in program.said if "refused" in said] == ["UNAUTHORIZED"] * 3
    [failed] = program.heard("failed")
    assert (failed["code"], failed["data"]["httpStatus"]) == (-32001, 401)
    assert not program.events


@pytest.mark.parametrize("link", LINKS)
def test_a_stranger_is_told_the_same_as_of_what_does_not_exist(programs: Programs, chat: Chat, link: str) -> None:
    message_id = chat.ask([{"text": "Secret."}])
    token, _ = chat.stack.store.create_token(f"stranger-{uuid.uuid4()}")
    told = []
    for project_id, answer_id in [(chat.project_id, message_id), (str(uuid.uuid4()), str(uuid.uuid4()))]:
        with start(
            programs,
            chat,
            link,
            token=token,
            calls=every_call(project_id),
            projectId=project_id,
            messageId=answer_id,
        ) as program:
            program.finish()
        refusals = sorted(
            (said["refused"], said["code"], said["message"]) for said in program.said if "refused" in said
        )
        assert [code for _, code, _ in refusals] == [-32004] * 3
        [failed] = program.heard("failed")
        assert failed["data"] == {"code": "NOT_FOUND", "httpStatus": 404, "path": "chat.streamResponse"}
        told.append((refusals, failed))
    assert told[0] == told[1]


@pytest.mark.parametrize("link", LINKS)
def test_who_has_too_many_unfinished_messages_is_told_so(programs: Programs, chat: Chat, link: str) -> None:
    """The refusal is one call's alone: the query beside it is answered."""
    with (
        busy_person(chat) as busy,
        start(programs, chat, link, token=busy.token, calls=every_call(busy.project_id)) as program,
    ):
        program.finish()
    assert [said["data"]["code"] for said in program.said if "refused" in said] == ["TOO_MANY_REQUESTS"] * 2
    assert [said["code"] for said in program.said if "refused" in said] == [-32029] * 2
    assert program.heard("answered") == [2]


# --- the client's end, and connections that are lost -------------------------------------------------------------


@pytest.mark.parametrize("link", ["ws", "sse"])
def test_a_client_that_unsubscribes_goes_on_without_the_answer_which_is_written_all_the_same(
    programs: Programs, chat: Chat, link: str
) -> None:
    content = chat.script([{"text": "Half"}, {"hold": "stopped"}, {"text": " and half."}])
    with start(programs, chat, link, content=content) as program:
        message_id = initiated(program)
        program.until_event("delta")
        program.order("stop")
        program.until(lambda said: said.get("answered") == "after")  # the connection still serves
        chat.stack.model.release("stopped")
        program.finish()
    eventually(lambda: chat.row(message_id)["status"] == "success")
    assert texts(program.events) == "Half"


@pytest.mark.parametrize("manner", ["fin", "rst"])
@pytest.mark.parametrize("link", ["ws", "sse"])
def test_a_client_whose_connections_are_cut_goes_on_after_its_last_event(
    programs: Programs, chat: Chat, link: str, manner: Manner
) -> None:
    """Cut in the handshake, inside frames and inside characters: no character is lost and none comes twice."""
    seed = f"{SEED} {manner} {link}"
    chance = random.Random(seed)
    cuts = [chance.randrange(1, 100), *(chance.randrange(700, 2500) for _ in range(3))]
    print(f"seed {seed!r}: cuts {cuts}")
    text = "".join(f"{number} 🦀 ähm … " for number in range(600))
    message_id = chat.ask([{"text": text, "chunk_size": 11, "pace": 0.003}])
    with (
        cut_streams(chat.url, cuts, manner=manner) as proxy,
        start(programs, chat, link, messageId=message_id, origins=[proxy.url]) as program,
    ):
        program.finish()
    row = chat.row(message_id)
    assert proxy.made == len(cuts)
    assert texts(program.events) == text
    check_trace(program.events, row=row)
    check_shows(program, row)


@pytest.mark.parametrize("link", ["ws", "sse"])
def test_a_client_whose_worker_is_killed_is_told_the_whole_answer_by_the_next(
    programs: Programs, stack: Callable[..., Stack], link: str
) -> None:
    """What it showed is taken back, since it was in no stored round, and the row's text is shown."""
    chat = Chat(stack(webs=1, workers=2, settings=SHORT_LEASES))
    content = chat.script([{"text": "The first half, "}, {"hold": "halfway"}, {"text": "and the second."}])
    with start(programs, chat, link, content=content) as program:
        message_id = initiated(program)
        program.until_event("delta")
        holder = eventually(lambda: chat.stack.holder(message_id))
        chat.stack.kill(holder)
        chat.stack.model.release("halfway")
        program.until_event("complete", finalContent="")
        program.finish()
    row = chat.row(message_id)
    assert (row["status"], row["content"], row["attempt"]) == ("success", "The first half, and the second.", 2)
    check_shows(program, row)


def test_a_client_of_a_server_that_is_drained_moves_to_another_without_a_pause(
    programs: Programs, stack: Callable[..., Stack]
) -> None:
    """It is told to reconnect while its socket still serves it, opens the other one, and only then leaves the first."""
    chat = Chat(stack(webs=2, workers=1))
    content = chat.script([{"text": "Before, "}, {"hold": "drained"}, {"text": "and after."}])
    with start(programs, chat, "ws", content=content, origins=chat.stack.urls) as program:
        message_id = initiated(program)
        program.until_event("delta")
        chat.stack.kill("web-1", signal.SIGTERM)
        program.until(lambda said: said.get("opened") == 2)
        program.until(lambda said: "closed" in said)
        chat.stack.wait_ended("web-1")
        chat.stack.model.release("drained")
        program.finish()
    row = chat.stack.client(1).get(f"/v1/messages/{message_id}").json()
    assert row["content"] == "Before, and after."
    check_trace(program.events, row=row)
    check_shows(program, row)
    assert "connecting" not in program.heard("connection")[1:], "there was a moment without a connection"


@pytest.mark.parametrize("link", ["ws", "sse"])
def test_a_client_whose_server_is_drained_and_started_again_comes_back(
    programs: Programs, stack: Callable[..., Stack], link: str
) -> None:
    """With one server only: it is gone for a while, and no character is lost or comes twice."""
    chat = Chat(stack(webs=1, workers=1))
    content = chat.script([{"text": "Before, "}, {"hold": "drained"}, {"text": "and after."}])
    with start(programs, chat, link, content=content) as program:
        message_id = initiated(program)
        program.until_event("delta")
        chat.stack.kill("web-1", signal.SIGTERM)
        chat.stack.wait_ended("web-1", timeout_s=30)
        chat.stack.model.release("drained")
        chat.stack.restart("web-1")
        program.finish()
    row = chat.row(message_id)
    check_trace(program.events, row=row)
    check_shows(program, row)


# --- superjson, and types ---------------------------------------------------------------------------------------


def test_with_superjson_on_both_sides_everything_is_as_without(programs: Programs, stack: Callable[..., Stack]) -> None:
    """Calls, refusals, answers and the ways that they are streamed."""
    chat = Chat(stack(webs=1, workers=1, settings={"CHATRELAY_TRPC_TRANSFORMER": "superjson"}))
    for link in LINKS:
        content = chat.script([{"text": "Hello ", "pace": 0.002}, {"text": "world."}])
        send = ["chat.sendMessage", {"projectId": chat.project_id, "message": chat.script([{"text": "Sent."}])}]
        strange = ["chat.getMessages", {"projectId": str(uuid.uuid4())}]
        calls = [send, strange] if link == "ws" else [send]
        with start(programs, chat, link, superjson=True, calls=calls, content=content) as program:
            message_id = initiated(program)
            program.finish()
        row = chat.row(message_id)
        check_trace(program.events, row=row)
        check_shows(program, row)
        [value] = program.heard("value")
        assert value["assistantMessage"]["content"] == "Sent."
        refused = [said["data"]["code"] for said in program.said if "refused" in said]
        assert refused == ["NOT_FOUND"] * (len(calls) - 1)
        with start(programs, chat, link, superjson=True, messageId=str(uuid.uuid4())) as program:
            program.finish()
        assert program.heard("failed")[0]["data"]["code"] == "NOT_FOUND"


def test_the_published_types_fit_the_real_client(programs: Programs) -> None:
    """tsc accepts a front end that uses them as it should, and refuses its mistakes."""
    assert programs.compile("trpc_types.ts") == ""


def test_the_readmes_example_prints_the_answer(programs: Programs, chat: Chat) -> None:
    """As it stands there."""
    [example] = re.findall(r"^```js\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    [asked] = re.findall(r'message: "([^"]+)"', example)
    chat.stack.model.on(asked, {"rounds": [{"steps": [{"text": "It is ", "pace": 0.002}, {"text": "green now."}]}]})
    environment = {"API": chat.url, "TOKEN": chat.token, "PROJECT": chat.project_id}
    assert programs.run_text("chat.mjs", example, environment) == "It is green now."


def test_the_server_publishes_the_types(chat: Chat) -> None:
    answer = chat.stack.client().get("/clients/trpc.d.ts").raise_for_status()
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "export type AppRouter" in answer.text
