"""`chatrelay_client`, over each transport and without a loop: what a program outside of the server sees of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from tests.clients.chat import Chat
from tests.clients.node import Program, python_program
from tests.own_clients import Begin, OwnClient, busy_person, task_of
from tests.stack import Stack

__all__ = ["busy_person"]

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
