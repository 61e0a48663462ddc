"""What the present thread or task is about: the request, message, project and attempt that its log lines bear.

A scope follows its thread into everything that it has the event loop do. It is shared, not copied: what is noted in it, an
attempt that has begun anew say, is borne from then on by the lines of every thread and task that is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from uuid import UUID

Fact = str | int
"""An id, a number or a word of ours: never a user's text."""

REQUEST_ID: Final = "request_id"
MESSAGE_ID: Final = "message_id"

_scope: ContextVar[dict[str, Fact] | None] = ContextVar("chatrelay-log-scope", default=None)
_SANE: Final = re.compile(r"[A-Za-z0-9._:=+/@-]{1,128}")


@contextmanager
def about(**facts: Fact | UUID) -> Iterator[None]:
    """A scope inside the present one, which it adds to."""
    token = _scope.set({**(_scope.get() or {}), **_plain(facts)})
    try:
        yield
    finally:
        _scope.reset(token)


def note(**facts: Fact | UUID) -> None:
    """Add to the present scope, for all who share it; nothing where there is none."""
    scope = _scope.get()
    if scope is not None:
        scope.update(_plain(facts))


def facts() -> Mapping[str, Fact]:
    return _scope.get() or {}


def sane_request_id(given: object) -> str | None:
    """What somebody calls a request, where it is short and of harmless characters."""
    return given if isinstance(given, str) and _SANE.fullmatch(given) else None


def _plain(facts: Mapping[str, Fact | UUID]) -> dict[str, Fact]:
    return {name: str(fact) if isinstance(fact, UUID) else fact for name, fact in facts.items()}
