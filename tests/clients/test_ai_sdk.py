"""`ai` 7 and 6 with `@ai-sdk/react`: what `useChat` is made of, over each of the SDK's transports."""

from __future__ import annotations

import itertools
import json
import random
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.clients.chat import Chat
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program, Programs
from tests.fault_proxy import Manner
from tests.people import eventually
from tests.stack import Stack

CLIENT: Final = "ai_chat.mjs"
SEED: Final = 20_261_125
SHORT_LEASES: Final = {
    "CHATRELAY_LEASE_S": 2,
    "CHATRELAY_HEARTBEAT_S": 0.5,
    "CHATRELAY_SWEEP_S": 0.5,
    "CHATRELAY_RING_AGAIN_S": 1,
}
PATCH: Final = {"operations": [{"op": "add", "path": "/colour", "value": "green"}], "explanation": "Grass"}
CLIENTS: Final = {
    "7": {"version": 7, "transport": "http", "sdk": 7},
    "7 over a socket": {"version": 7, "transport": "ws"},
    "6": {"version": 6, "transport": "http", "sdk": 6},
    "7 that does not say so": {"version": 7, "transport": "http"},
}
EVERY_CLIENT = pytest.mark.parametrize("client", CLIENTS)
Json = dict[str, Any]


def start(programs: Programs, chat: Chat, client: str, **task: Any) -> Program:
    common = {"origin": chat.url, "projectId": chat.project_id, "token": chat.token}
    return programs.run(CLIENT, {**common, **CLIENTS[client], **task})


def do(program: Program, what: str, argument: Any = True) -> Json:
    """Gives an order and waits for its end: all that is shown then."""
    program.order({what: argument})
    return done(program, what)


def done(program: Program, what: str) -> Json:
    shown: Json = program.until(lambda said: said.get("done") == what)["shown"]
    return shown


def until_text(program: Program, text: str) -> None:
    program.until(lambda said: text in str(said.get("text", "")))


def answer_row(chat: Chat) -> Json:
    """The project's newest answer."""
    items = chat.stack.client().get(f"/v1/projects/{chat.project_id}/messages").raise_for_status().json()["items"]
    found: Json = next(item for item in items if item["role"] == "assistant")
    return found


def check_shows(shown: Json, row: Json, *, status: str = "ready") -> Json:
    """The last message, which is the row's, and no other one has its text."""
    assert shown["status"] == status, shown
    message: Json = shown["messages"][-1]
    assert (message["id"], message["role"]) == (row["id"], "assistant")
    assert text_of(message) == row["content"] == shown["text"]
    assert [one["role"] for one in shown["messages"]] == ["user", "assistant"]
    if row["status"] in ("success", "error", "cancelled"):
        assert message["metadata"]["status"] == row["status"]
    assert all(part["state"] == "done" for part in message["parts"] if part["type"] == "text")
    return message


def text_of(message: Json) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def parts(message: Json, kind: str) -> list[Json]:
    return [part for part in message["parts"] if part["type"] == kind]


def come_back(program: Program, shown: Json, *, most: int = 10) -> Json:
    """Resumes as long as the connection, and not the answer, is what failed."""
    for _ in range(most):
        if shown["status"] != "error":
            return shown
        shown = do(program, "resume")
    raise AssertionError(f"still not there after {most} times: {shown}")


# --- answers ----------------------------------------------------------------------------------------------------


@EVERY_CLIENT
def test_a_text_answer_is_sent_for_shown_as_it_comes_and_finished(programs: Programs, chat: Chat, client: str) -> None:
    text = "Ünïcödé, 漢字 and 🦀: every character arrives. " * 5
    content = chat.script([{"text": text, "chunk_size": 3, "pace": 0.02}])
    with start(programs, chat, client) as program:
        shown = do(program, "send", content)
    row = answer_row(chat)
    message = check_shows(shown, row)
    assert row["content"] == text
    assert shown["finished"] == {"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}
    assert message["metadata"]["usage"] == row["usage"]
    grown = program.heard("text")
    assert len(grown) > 2
    assert all(after.startswith(before) for before, after in itertools.pairwise(grown))
    statuses = [said["value"] for said in program.said if said.get("data") == "data-status"]
    assert statuses[0] == {"status": "thinking"}
    assert not parts(message, "data-status")


@EVERY_CLIENT
def test_a_second_question_is_asked_once_and_answered_in_the_same_chat(
    programs: Programs, chat: Chat, client: str
) -> None:
    with start(programs, chat, client) as program:
        do(program, "send", chat.script([{"text": "One."}]))
        shown = do(program, "send", chat.script([{"text": "Two."}]))
    assert [text_of(one) for one in shown["messages"] if one["role"] == "assistant"] == ["One.", "Two."]
    assert answer_row(chat)["content"] == "Two."


@EVERY_CLIENT
def test_a_tool_call_is_a_part_and_has_changed_the_document(programs: Programs, chat: Chat, client: str) -> None:
    """And one that failed says why; the client does not go on by itself from either."""
    bad = {"operations": [{"op": "remove", "path": "/nothing"}]}
    content = chat.script(
        [{"text": "I paint it. "}, {"tool": {"name": "applyJsonPatch", "arguments": PATCH, "split": 4}}],
        [{"tool": {"name": "applyJsonPatch", "arguments": bad}}],
        [{"text": "It is green now."}],
    )
    with start(programs, chat, client) as program:
        shown = do(program, "send", content)
    message = check_shows(shown, answer_row(chat))
    assert chat.project()["document"] == {"colour": "green"}
    painted, failed = parts(message, "tool-applyJsonPatch")
    assert (painted["state"], painted["input"], painted["providerExecuted"]) == ("output-available", PATCH, True)
    assert "Grass" in painted["output"]["finalContent"]
    assert failed["state"] == "output-error"
    assert failed["errorText"]


@EVERY_CLIENT
def test_arguments_that_a_client_would_refuse_do_not_end_its_stream(
    programs: Programs, chat: Chat, client: str
) -> None:
    """A document may have such a key; the SDK's parser throws on it."""
    patch = {"operations": [{"op": "add", "path": "/a", "value": {"__proto__": {"constructor": {"prototype": 1}}}}]}
    content = chat.script([{"tool": {"name": "applyJsonPatch", "arguments": patch}}], [{"text": "Done."}])
    with start(programs, chat, client) as program:
        shown = do(program, "send", content)
    [part] = parts(check_shows(shown, answer_row(chat)), "tool-applyJsonPatch")
    assert json.loads(part["input"]) == patch


@EVERY_CLIENT
def test_an_error_of_the_provider_is_told_in_public_words_and_the_text_stays(
    programs: Programs, chat: Chat, client: str
) -> None:
    content = chat.script([{"text": "As far as this"}, {"finish": "content_filter"}])
    with start(programs, chat, client) as program:
        shown = do(program, "send", content)
    row = answer_row(chat)
    message = check_shows(shown, row, status="error")
    assert shown["error"] == row["error"]["detail"]
    assert message["metadata"]["code"] == "content_filter"
    assert shown["finished"]["isDisconnect"] is False


@EVERY_CLIENT
def test_an_answer_that_begins_anew_is_shown_as_the_row_says(programs: Programs, chat: Chat, client: str) -> None:
    """The provider fails with text shown: version 7 is told to take it back, another one comes back for it."""
    content = chat.script([])
    broken = {"steps": [{"text": "It was a dark and st", "pace": 0.002}, {"hold": content}, {"cut": "rst"}]}
    whole = {"steps": [{"text": "It was a bright morning.", "pace": 0.002}]}
    chat.stack.model.on(content, {"rounds": [{"attempts": [broken, whole]}]})
    with start(programs, chat, client, names=True) as program:
        program.order({"send": content})
        until_text(program, "It was a dark and st")
        chat.stack.model.release(content)
        shown = done(program, "send")
        knows = client in ("7", "7 over a socket")
        assert (shown["status"] == "ready") == knows
        shown = come_back(program, shown)
    row = answer_row(chat)
    assert row["content"] == "It was a bright morning."
    check_shows(shown, row)


@EVERY_CLIENT
def test_regenerating_shows_another_answer_in_place_of_the_first(programs: Programs, chat: Chat, client: str) -> None:
    """Of the last answer, and of the one that is named; the row is the same, its text is new."""
    content = chat.script([])
    runs = [{"rounds": [{"steps": [{"text": text, "pace": 0.002}]}]} for text in ("One.", "Two.", "Three.")]
    with start(programs, chat, client) as program:
        chat.stack.model.on(content, runs[0])
        first = check_shows(do(program, "send", content), answer_row(chat))
        chat.stack.model.on(content, runs[1])
        assert check_shows(do(program, "regenerate"), answer_row(chat))["id"] == first["id"]
        chat.stack.model.on(content, runs[2])
        shown = do(program, "regenerate", first["id"])
    row = answer_row(chat)
    assert row["content"] == "Three."
    check_shows(shown, row)


@EVERY_CLIENT
def test_a_question_that_was_refused_is_asked_by_regenerating(
    programs: Programs, chat: Chat, client: str, busy_person: tuple[str, str]
) -> None:
    """What a "try again" does; before that nothing was asked."""
    token, project_id = busy_person
    content = chat.script([{"text": "At last."}])
    with start(programs, chat, client, token=token, projectId=project_id) as program:
        refused = do(program, "send", content)
        assert refused["status"] == "error"
        with chat.stack.client_for(token) as person:
            items = person.get(f"/v1/projects/{project_id}/messages").json()["items"]
            assert content not in [one["content"] for one in items]
            for item in items:
                if item["role"] == "assistant":
                    person.post(f"/v1/messages/{item['id']}/cancel").raise_for_status()
            eventually(lambda: not unfinished(person, project_id))
        shown = do(program, "regenerate")
    assert (shown["status"], shown["text"]) == ("ready", "At last.")


def unfinished(person: Any, project_id: str) -> list[Json]:
    items = person.get(f"/v1/projects/{project_id}/messages").json()["items"]
    return [one for one in items if one["status"] in ("pending", "building")]


# --- refusals ---------------------------------------------------------------------------------------------------


@EVERY_CLIENT
def test_who_bears_no_token_that_is_good_is_refused(programs: Programs, chat: Chat, client: str) -> None:
    content = chat.script([{"text": "Secret."}])
    for token in ("wrong", None):
        with start(programs, chat, client, token=token) as program:
            for what in ("send", "resume"):
                shown = do(program, what, content)
                assert shown["status"] == "error"
                if "socket" not in client:
                    assert json.loads(shown["error"])["code"] == "unauthorized"
    assert chat.stack.client().get(f"/v1/projects/{chat.project_id}/messages").json()["items"] == []


@EVERY_CLIENT
def test_a_stranger_is_told_the_same_as_of_what_does_not_exist(programs: Programs, chat: Chat, client: str) -> None:
    token, _ = chat.stack.store.create_token(f"stranger-{uuid.uuid4()}")
    told = []
    for project_id in (chat.project_id, str(uuid.uuid4())):
        with start(programs, chat, client, token=token, projectId=project_id) as program:
            errors = [do(program, what, "Let me in")["error"] for what in ("send", "resume")]
            if "socket" not in client:
                assert {json.loads(error)["status"] for error in errors} == {404}
            told.append(errors)
    assert told[0] == told[1]


@pytest.fixture
def busy_person(chat: Chat) -> Iterator[tuple[str, str]]:
    """The token of somebody who has as many unfinished messages as are allowed, and their project."""
    token, _ = chat.stack.store.create_token(f"busy-{uuid.uuid4()}")
    with chat.stack.client_for(token) as client:
        project_id = client.post("/v1/projects", json={"name": "busy"}).raise_for_status().json()["id"]
        content = chat.script([{"text": "Wait"}, {"hold": "busy"}])
        for _ in range(20):
            client.post(f"/v1/projects/{project_id}/messages", json={"content": content}).raise_for_status()
        yield token, project_id
        client.delete(f"/v1/projects/{project_id}").raise_for_status()


@EVERY_CLIENT
def test_who_has_too_many_unfinished_messages_is_told_so(
    programs: Programs, chat: Chat, client: str, busy_person: tuple[str, str]
) -> None:
    token, project_id = busy_person
    with start(programs, chat, client, token=token, projectId=project_id) as program:
        shown = do(program, "send", "One more")
    assert shown["status"] == "error"
    assert "too many unfinished" in shown["error"]
    if "socket" not in client:
        assert json.loads(shown["error"])["status"] == 429


# --- stopping, closing ------------------------------------------------------------------------------------------


@EVERY_CLIENT
def test_an_answer_that_is_stopped_keeps_its_text(programs: Programs, chat: Chat, client: str) -> None:
    """Over HTTP by the call of its own, which the client sees as an abort; on a socket `stop()` is enough."""
    content = chat.script([{"text": "As far as this"}, {"hold": "for ever"}])
    with start(programs, chat, client) as program:
        program.order({"send": content})
        until_text(program, "As far as this")
        if client == "7 over a socket":
            shown = do(program, "stop")
        else:
            chat.stack.client().post(f"/v1/ai/chat/{chat.project_id}/stop").raise_for_status()
            shown = done(program, "send")
        eventually(lambda: answer_row(chat)["status"] == "cancelled")
        row = answer_row(chat)
        assert (shown["status"], shown["text"], row["content"]) == ("ready", "As far as this", "As far as this")
        if client != "7 over a socket":
            check_shows(shown, row)
        assert check_shows_nothing_active(do(program, "resume"), shown)


def check_shows_nothing_active(shown: Json, before: Json) -> bool:
    return (shown["status"], shown["messages"]) == ("ready", before["messages"])


@EVERY_CLIENT
def test_who_goes_away_leaves_the_answer_which_is_written_all_the_same(
    programs: Programs, chat: Chat, client: str
) -> None:
    """Over HTTP `stop()` closes the connection; a socket is closed by its owner. Who resumes shows all of it."""
    content = chat.script([{"text": "Half"}, {"hold": "gone"}, {"text": " and half."}])
    with start(programs, chat, client) as program:
        program.order({"send": content})
        until_text(program, "Half")
        do(program, "close" if client == "7 over a socket" else "stop")
        program.order({"resume": True})
        program.until(lambda said: said.get("state") == "streaming")
        chat.stack.model.release("gone")
        shown = done(program, "resume")
    row = answer_row(chat)
    assert row["content"] == "Half and half."
    check_shows(shown, row)


# --- connections, workers and servers that are lost --------------------------------------------------------------


@pytest.mark.parametrize("manner", ["fin", "rst"])
@EVERY_CLIENT
def test_a_client_whose_connections_are_cut_comes_back_to_the_whole_answer(
    programs: Programs, chat: Chat, client: str, manner: Manner
) -> None:
    """Cut in the middle, inside frames and inside characters: no character is lost and none comes twice."""
    seed = f"{SEED} {manner} {client}"
    chance = random.Random(seed)
    cuts = [chance.randrange(900, 4000) for _ in range(3)]
    print(f"seed {seed!r}: cuts {cuts}")
    text = "".join(f"{number} 🦀 ähm … " for number in range(600))
    content = chat.script([{"text": text, "chunk_size": 11, "pace": 0.003}])
    with (
        cut_streams(chat.url, cuts, manner=manner) as proxy,
        start(programs, chat, client, names=True, origin=proxy.url) as program,
    ):
        shown = come_back(program, do(program, "send", content))
    row = answer_row(chat)
    assert proxy.made == len(cuts)
    assert row["content"] == text
    check_shows(shown, row)


def test_a_client_whose_worker_is_killed_shows_what_the_next_one_writes(
    programs: Programs, stack: Callable[..., Stack]
) -> None:
    """Each client in its turn."""
    chat = Chat(stack(webs=1, workers=2, settings=SHORT_LEASES))
    for client in CLIENTS:
        print(f"client {client}")
        content = chat.script([])
        first = {"steps": [{"text": "The first wrote th"}, {"hold": content}]}
        second = {"steps": [{"text": "The second wrote all of it.", "pace": 0.002}]}
        chat.stack.model.on(content, {"rounds": [{"attempts": [first, second]}]})
        with start(programs, chat, client, names=True) as program:
            program.order({"send": content})
            until_text(program, "The first wrote th")
            holder = chat.stack.holder(answer_row(chat)["id"])
            assert holder is not None
            chat.stack.kill(holder)
            shown = come_back(program, done(program, "send"))
        row = answer_row(chat)
        assert (row["content"], row["attempt"]) == ("The second wrote all of it.", 2)
        check_shows(shown, row)
        chat.stack.restart(holder)


def test_a_client_whose_server_is_drained_goes_on_at_the_other_one(
    programs: Programs, stack: Callable[..., Stack]
) -> None:
    """The stream breaks off, the socket is closed with 1012: neither is taken for the end. Each client in its turn."""
    chat = Chat(stack(webs=2, workers=1))
    for client in CLIENTS:
        print(f"client {client}")
        content = chat.script([{"text": "Before, "}, {"hold": client}, {"text": "and after."}])
        with start(programs, chat, client, origin=chat.stack.urls[0]) as program:
            program.order({"send": content})
            until_text(program, "Before, ")
            chat.stack.kill("web-1", signal.SIGTERM)
            shown = done(program, "send")
            assert shown["status"] == "error"
            chat.stack.wait_ended("web-1")
            do(program, "origin", chat.stack.urls[1])
            program.order({"resume": True})
            program.until(lambda said: said.get("state") == "streaming")
            chat.stack.model.release(client)
            shown = done(program, "resume")
        if client == "7 over a socket":
            assert program.heard("closed")[0] == 1012
        row = chat.stack.client(1).get(f"/v1/messages/{shown['messages'][-1]['id']}").raise_for_status().json()
        assert row["content"] == "Before, and after."
        check_shows(shown, row)
        chat.stack.restart("web-1")


# --- component jobs ---------------------------------------------------------------------------------------------


def test_a_component_job_is_shown_until_it_is_built(programs: Programs, stack: Callable[..., Stack]) -> None:
    """Its phases come as they are; the stream ends with the job. Each client in its turn."""
    chat = Chat(stack(webs=1, workers=1, builders=1))
    call = {"name": "generateRemotionComponent", "arguments": {"effectDescription": "confetti", "name": "Confetti"}}
    for client in CLIENTS:
        print(f"client {client}")
        with start(programs, chat, client) as program:
            shown = do(program, "send", chat.script([{"text": "I build it."}, {"tool": call}]))
        row = answer_row(chat)
        assert row["status"] == "success", chat.stack.all_output()
        message = check_shows(shown, row)
        [job] = parts(message, "data-job")
        assert (job["id"], job["data"]["status"], job["data"]["name"]) == (row["jobId"], "success", "Confetti")
        phases = [said["value"].get("phase") for said in program.said if said.get("data") == "data-job"]
        assert {"writing", "checking"} <= set(phases)
