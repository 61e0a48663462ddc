"""`chatrelay_client`, over each transport and without a loop: what a program outside of the server sees of it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from chatrelay_client import Client, Delta, Transport
from tests.clients.chat import Chat
from tests.clients.node import Program, python_program
from tests.fault_proxy import FaultProxies, down, through, up
from tests.own_clients import Begin, OwnClient, check_shows, submitted, task_of
from tests.stack import Stack
from tests.trace_checker import check_trace

DOCS: Final = Path(__file__).parents[2] / "docs" / "clients.md"
FORMS: Final = ("websocket", "sse", "sync")


def beginner(form: str) -> Begin:
    def begin(chat: Chat, do: str, **task: Any) -> Program:
        return python_program("own_client.py", task_of(chat, do, form=form, **task))

    return begin


@pytest.fixture
def chat(shared_stack: Stack) -> Iterator[Chat]:
    yield Chat(shared_stack)
    print(shared_stack.all_output())


@pytest.fixture(params=FORMS)
def begin(request: pytest.FixtureRequest) -> Begin:
    return beginner(request.param)


@pytest.fixture
def begins() -> Sequence[Begin]:
    return [beginner(form) for form in FORMS]


class TestPythonClient(OwnClient):
    """Everything that both of chatrelay's own clients promise."""


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_an_iteration_that_is_cancelled_loses_nothing(chat: Chat, transport: Transport) -> None:
    """Given up three times while nothing came, it goes on with the next event."""
    gate = f"cancelled {transport}"
    message_id = chat.ask([{"text": "Before"}, {"hold": gate}, {"text": " and after."}])
    events: list[bytes] = []

    async def follow() -> None:
        async with Client(chat.url, chat.token, transport=transport) as client:
            following = client.follow(message_id)
            async for event in following:
                events.append(msgspec.json.encode(event))
                if isinstance(event, Delta):
                    break
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await anext(following)
            chat.stack.model.release(gate)
            events.extend([msgspec.json.encode(event) async for event in following])

    asyncio.run(follow())
    check_trace(events, row=chat.row(message_id))


def test_where_no_websocket_passes_it_follows_over_server_sent_events(chat: Chat) -> None:
    """`auto`: something in between ends every connection that asks for one."""
    content = chat.script([{"text": "One. "}, {"text": "Two."}])
    with FaultProxies() as proxies:
        link = proxies.link(chat.url)
        blocked = link.cut(up(re.compile(rb"GET \S*/socket")), times=None)
        task = task_of(chat, "ask", content=content, form="auto", origin=through(link, chat.url))
        with python_program("own_client.py", task) as program:
            message_id = submitted(program)
            program.finish()
        assert blocked.struck == 2
    check_shows(program, chat.row(message_id))


def test_a_submit_whose_answer_is_lost_is_sent_again_and_makes_one_message(chat: Chat) -> None:
    content = chat.script([{"text": "Once."}])
    with FaultProxies() as proxies:
        link = proxies.link(chat.url)
        lost = link.cut(up(re.compile(rb"POST \S*/messages ")), down(1))
        task = task_of(chat, "ask", content=content, form="websocket", origin=through(link, chat.url))
        with python_program("own_client.py", task) as program:
            message_id = submitted(program)
            program.finish()
        assert lost.struck == 1
    listed = chat.stack.client().get(f"/v1/projects/{chat.project_id}/messages").raise_for_status().json()["items"]
    assert [item["id"] for item in listed if item["role"] == "assistant"] == [message_id]


def test_the_docs_example_prints_the_answer(chat: Chat) -> None:
    """As it stands there."""
    [example] = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    chat.stack.model.say("Make the background green", {"text": "It is ", "pace": 0.002}, {"text": "green, 🦀."})
    own = {**os.environ, "API": chat.url, "TOKEN": chat.token, "PROJECT": chat.project_id}
    done = subprocess.run(
        [sys.executable, "-c", example], env=own, capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert done.stdout == "It is green, 🦀."
