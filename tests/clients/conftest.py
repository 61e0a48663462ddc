"""What the tests with outside clients share: their installation, and a person with a project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.chat import Chat
from tests.clients.node import Programs
from tests.stack import Stack


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The programs with their packages, outside the tree. Where Node.js is missing or too old the tests fail."""
    return Programs.install(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def chat(shared_stack: Stack) -> Iterator[Chat]:
    """A new project on the shared stack. Where the test fails, what the servers wrote is shown with it."""
    yield Chat(shared_stack)
    print(shared_stack.all_output())
