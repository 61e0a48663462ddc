"""`ws`, the WebSocket client of most Node.js programs, follows messages."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest

from tests.clients.chat import Chat, texts
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program, Programs
from tests.fault_proxy import Manner
from tests.trace_checker import check_trace

FOLLOW = "follow_socket.mjs"
SEED = 20_261_123


def follow(programs: Programs, chat: Chat, message_id: str, **task: Any) -> Program:
    """A program that follows the message with the token, or as `task` says."""
    return programs.run(FOLLOW, {"origin": chat.url, "messageId": message_id, "token": chat.token, **task})


def refusal(program: Program) -> dict[str, Any]:
    """The problem that the handshake was answered with; nothing else came."""
    said = program.finish().said
    assert [list(one) for one in said] == [["refused", "type", "body"]]
    assert said[0]["type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(said[0]["body"])
    assert problem["status"] == said[0]["refused"]
    return problem


@pytest.fixture
def stranger(chat: Chat) -> str:
    """The token of somebody who has nothing to do with the project."""
    token, _ = chat.stack.store.create_token(f"stranger-{uuid.uuid4()}")
    return token


@pytest.mark.parametrize("ticket", [False, True], ids=["token", "ticket"])
def test_an_answer_is_followed_to_its_end_which_is_close_code_1000(
    programs: Programs, chat: Chat, ticket: bool
) -> None:
    """With the token in a header, and with a ticket in the address; all frames are text."""
    text = "Ünïcödé, 漢字 and 🦀: every character arrives. " * 5
    message_id = chat.ask([{"text": text, "chunk_size": 3, "pace": 0.002}])
    with follow(programs, chat, message_id, ticket=ticket) as program:
        program.finish()
    assert texts(program.events) == text
    check_trace(program.events, row=chat.row(message_id))
    assert not any(program.heard("isBinary"))
    assert program.heard("open") == [True]
    assert program.heard("closed") == [1000]


def test_a_tool_call_and_what_the_model_says_of_it_are_followed(programs: Programs, chat: Chat) -> None:
    """The call's events come in order, and when they came the document is changed."""
    patch = {"operations": [{"op": "add", "path": "/colour", "value": "green"}], "explanation": "Grass"}
    message_id = chat.ask(
        [{"text": "I paint it. "}, {"tool": {"name": "applyJsonPatch", "arguments": patch, "split": 4}}],
        [{"text": "It is green now."}],
    )
    with follow(programs, chat, message_id) as program:
        call = program.until_event("tool_start")
        result = program.until_event("tool_result", success=True)
        assert chat.project()["document"] == {"colour": "green"}
        program.finish()
    assert (call["name"], call["arguments"]) == ("applyJsonPatch", patch)
    assert result["toolCallId"] == call["toolCallId"]
    row = chat.row(message_id)
    check_trace(program.events, row=row)
    assert [shown["toolCallId"] for shown in row["toolCalls"]] == [call["toolCallId"]]
    assert program.heard("closed") == [1000]


@pytest.mark.parametrize("manner", ["fin", "rst"])
@pytest.mark.parametrize("ticket", [False, True], ids=["token", "ticket"])
def test_a_reader_whose_connections_are_cut_goes_on_after_its_last_event(
    programs: Programs, chat: Chat, manner: Manner, ticket: bool
) -> None:
    """Cut in the handshake, inside frames and inside characters: no character is lost and none comes twice."""
    cuts = scattered(f"{manner} {ticket}")
    text = "".join(f"{number} 🦀 ähm … " for number in range(600))
    message_id = chat.ask([{"text": text, "chunk_size": 11, "pace": 0.002}])
    with (
        cut_streams(chat.url, cuts, manner=manner) as proxy,
        follow(programs, chat, message_id, origin=proxy.url, ticket=ticket) as program,
    ):
        program.finish()
    assert proxy.made == len(cuts)
    assert program.heard("closed") == [1006] * len(cuts) + [1000]
    assert texts(program.events) == text
    check_trace(program.events, row=chat.row(message_id))


def scattered(what: str) -> list[int]:
    """Where to cut: the first in the handshake's answer, the others up to some frames behind it."""
    seed = f"{SEED} {what}"
    chance = random.Random(seed)
    cuts = [chance.randrange(1, 100), *(chance.randrange(500, 2500) for _ in range(4))]
    print(f"seed {seed!r}: cuts {cuts}")
    return cuts


def test_an_answer_that_begins_anew_is_told_by_a_snapshot(programs: Programs, chat: Chat) -> None:
    """The provider fails with text shown: the second attempt opens with a snapshot, and the fold is the row."""
    content = chat.script([])
    broken = {"steps": [{"text": "It was a dark and st", "pace": 0.002}, {"cut": "rst"}]}
    whole = {"steps": [{"text": "It was a bright morning.", "pace": 0.002}]}
    chat.stack.model.on(content, {"rounds": [{"attempts": [broken, whole]}]})
    message_id = chat.submit(content)
    with follow(programs, chat, message_id) as program:
        program.until_event("snapshot", reason="attempt")
        program.finish()
    row = chat.row(message_id)
    assert row["content"] == "It was a bright morning."
    check_trace(program.events, row=row)


def test_a_reader_of_a_message_that_is_over_gets_what_it_lacks(programs: Programs, chat: Chat) -> None:
    """From the start all of it, after an event what follows it, after the last one nothing: 1000 at once."""
    message_id = chat.ask([{"text": "One two three four five.", "chunks": 5, "pace": 0.2}])
    with follow(programs, chat, message_id) as live:
        live.finish()
    row = chat.row(message_id)
    ids = [json.loads(event)["id"] for event in live.events]
    for had, after in [(0, None), (3, ids[2]), (len(ids), ids[-1])]:
        with follow(programs, chat, message_id, after=after) as program:
            program.finish()
        check_trace([*live.events[:had], *program.events], row=row)
        assert program.heard("closed") == [1000]
        assert bool(program.events) == (had < len(ids))


def test_a_ticket_opens_one_socket(programs: Programs, chat: Chat) -> None:
    """The second handshake with it is refused with 401, while the first one's socket is open and after."""
    message_id = chat.ask([{"text": "Held "}, {"hold": "ticket"}, {"text": "back."}])
    ticket = chat.ticket(f"/v1/messages/{message_id}/socket")
    with follow(programs, chat, message_id, ticket=ticket) as first:
        first.until_event("delta")
        with follow(programs, chat, message_id, ticket=ticket) as second:
            assert refusal(second)["code"] == "unauthorized"
        chat.stack.model.release("ticket")
        first.finish()
    with follow(programs, chat, message_id, ticket=ticket) as third:
        assert refusal(third)["code"] == "unauthorized"
    check_trace(first.events, row=chat.row(message_id))


def test_a_ticket_opens_no_other_path(programs: Programs, chat: Chat) -> None:
    """Neither another message's socket; and trying does not use it up."""
    message_id, other_id = (chat.ask([{"text": text}]) for text in ("This.", "That."))
    ticket = chat.ticket(f"/v1/messages/{message_id}/socket")
    with follow(programs, chat, other_id, ticket=ticket) as wrong:
        assert refusal(wrong)["status"] == 401
    with follow(programs, chat, message_id, ticket=ticket) as right:
        right.finish()
    check_trace(right.events, row=chat.row(message_id))


def test_a_cancel_frame_ends_the_answer_and_keeps_its_text(programs: Programs, chat: Chat) -> None:
    """The end is an event, the row is cancelled, the provider's stream is closed."""
    message_id = chat.ask([{"text": "As far as this"}, {"hold": "for ever"}])
    with follow(programs, chat, message_id) as program:
        program.until_event("delta")
        program.order('{"type":"cancel"}')
        program.until_event("finalized", status="cancelled")
        program.finish()
    chat.stack.model.wait_disconnected(0)
    row = chat.row(message_id)
    assert row["status"] == "cancelled"
    assert texts(program.events) == row["content"]
    check_trace(program.events, row=row)
    assert program.heard("closed") == [1000]


def test_a_ping_is_answered_and_what_is_no_frame_of_ours_is_told_so(programs: Programs, chat: Chat) -> None:
    """Neither has an id, and the answer goes on."""
    message_id = chat.ask([{"text": "Hello "}, {"hold": "chatter"}, {"text": "again."}])
    with follow(programs, chat, message_id) as program:
        program.until_event("delta")
        for frame, kind in [('{"type":"ping"}', "pong"), ('{"type":"dance"}', "error"), ("{", "error")]:
            program.order(frame)
            answer = json.loads(program.until(lambda said: "frame" in said)["frame"])
            assert answer["type"] == kind
            assert kind == "pong" or {"code", "detail"} <= set(answer)
        chat.stack.model.release("chatter")
        program.finish()
    check_trace(program.events, row=chat.row(message_id))
    assert program.heard("closed") == [1000]


def test_who_bears_no_token_is_refused_before_the_handshake(programs: Programs, chat: Chat) -> None:
    message_id = chat.ask([{"text": "Secret."}])
    for token in (None, "wrong"):
        with follow(programs, chat, message_id, token=token) as program:
            problem = refusal(program)
            assert (problem["status"], problem["code"]) == (401, "unauthorized")


def test_a_strangers_message_is_one_that_does_not_exist(programs: Programs, chat: Chat, stranger: str) -> None:
    """The same 404 for somebody else's message as for nobody's."""
    message_id = chat.ask([{"text": "Secret."}])
    with follow(programs, chat, message_id, token=stranger) as program:
        theirs = refusal(program)
    with follow(programs, chat, str(uuid.uuid4())) as program:
        nobodys = refusal(program)
    assert theirs["status"] == 404
    assert theirs == nobodys


def test_a_foreign_page_is_refused_before_the_handshake(programs: Programs, chat: Chat) -> None:
    """403 for an Origin that is not the server's own; its own is let in."""
    message_id = chat.ask([{"text": "Hello."}])
    with follow(programs, chat, message_id, headers={"Origin": "https://elsewhere.example"}) as program:
        assert refusal(program)["status"] == 403
    with follow(programs, chat, message_id, headers={"Origin": chat.url}) as program:
        program.finish()
    check_trace(program.events, row=chat.row(message_id))
