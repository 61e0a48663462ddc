"""The stack that the session shares, and somebody new who uses it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.people import Person
from tests.stack import Stack


@pytest.fixture
def person(shared_stack: Stack) -> Iterator[Person]:
    with Person(shared_stack) as somebody:
        yield somebody
