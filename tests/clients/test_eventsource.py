"""`eventsource`, the EventSource of Node.js programs, follows messages and comes back by itself."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.clients.chat import Chat, texts
from tests.clients.cut_streams import cut_streams
from tests.clients.node import Program, Programs
from tests.fault_proxy import Manner
from tests.trace_checker import check_trace

FOLLOW = "follow_events.mjs"
SEED = 20_261_123
TICKET_OR_TOKEN = pytest.mark.parametrize("with_ticket", [False, True], ids=["token", "ticket"])


def follow(programs: Programs, chat: Chat, message_id: str, **task: Any) -> Program:
    return programs.run(FOLLOW, {"origin": chat.url, "messageId": message_id, "token": chat.token, **task})


def ids(program: Program) -> list[str]:
    return [json.loads(event)["id"] for event in program.events]


@TICKET_OR_TOKEN
def test_an_answer_is_followed_to_its_end_and_204_stops_the_reader(
    programs: Programs, chat: Chat, with_ticket: bool
) -> None:
    """The EventSource comes back after the end with the terminal event's id, is answered 204 and comes no more."""
    text = "Ünïcödé, 漢字 and 🦀,\nand a second line. " * 5
    message_id = chat.ask([{"text": text, "chunk_size": 3, "pace": 0.002}])
    with follow(programs, chat, message_id, withTicket=with_ticket) as program:
        program.finish()
    assert texts(program.events) == text
    check_trace(program.events, row=chat.row(message_id))
    assert program.heard("answered") == [200, 204]
    assert program.heard("stopped") == [204]
    asked = [said["lastEventId"] for said in program.said if "answered" in said]
    assert asked == [None, ids(program)[-1]]


def test_every_event_bears_its_id_as_the_last_event_id(programs: Programs, chat: Chat) -> None:
    """Also a tool call's; `id:` and the event's own id are one."""
    patch = {"operations": [{"op": "add", "path": "/colour", "value": "green"}]}
    message_id = chat.ask(
        [{"text": "I paint it. "}, {"tool": {"name": "applyJsonPatch", "arguments": patch}}],
        [{"text": "It is green now."}],
    )
    with follow(programs, chat, message_id) as program:
        program.finish()
    check_trace(program.events, row=chat.row(message_id))
    assert [said["lastEventId"] for said in program.said if "event" in said] == ids(program)
    assert chat.project()["document"] == {"colour": "green"}


@pytest.mark.parametrize("manner", ["fin", "rst"])
@TICKET_OR_TOKEN
def test_a_reader_whose_connections_are_cut_comes_back_by_itself(
    programs: Programs, chat: Chat, manner: Manner, with_ticket: bool
) -> None:
    """Cut in the answer's head, inside events and inside characters: no character is lost and none comes twice."""
    seed = f"{SEED} {manner} {with_ticket}"
    chance = random.Random(seed)
    cuts = [chance.randrange(1, 100), *(chance.randrange(900, 3000) for _ in range(3))]
    print(f"seed {seed!r}: cuts {cuts}")
    text = "".join(f"{number} 🦀 ähm … " for number in range(1200))
    message_id = chat.ask([{"text": text, "chunk_size": 11, "pace": 0.003}])
    with (
        cut_streams(chat.url, cuts, manner=manner) as proxy,
        follow(programs, chat, message_id, origin=proxy.url, withTicket=with_ticket) as program,
    ):
        program.finish()
    assert proxy.made == len(cuts)
    assert len(program.heard("lost")) == len(cuts) + 1  # and the end of the answer
    assert program.heard("stopped") == [204]
    assert texts(program.events) == text
    check_trace(program.events, row=chat.row(message_id))


def test_a_reader_that_is_refused_does_not_come_back(programs: Programs, chat: Chat) -> None:
    """A 401 and a 404 stop an EventSource at once."""
    message_id = chat.ask([{"text": "Secret."}])
    stranger, _ = chat.stack.store.create_token("a stranger to the page")
    for token, status in [("wrong", 401), (stranger, 404)]:
        with follow(programs, chat, message_id, token=token) as program:
            program.finish()
        assert program.heard("answered") == [status]
        assert program.heard("stopped") == [status]
        assert not program.events
