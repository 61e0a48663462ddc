"""Batches of messages that are answered again: what is asked for, and what became of it. Pure.

The types are part of public answers: camelCase, times in RFC 3339 UTC.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from shared.lifecycle import BatchStatus, ErrorCode, ItemState, MessageStatus
from shared.records import Message

POISON_AFTER: Final = 3
"""A run that failed in so many batches is poison: it is set aside, unless it is asked for."""
STUCK_AFTER_S: Final = 60.0
"""What is unfinished and held by nobody, though its turn has come, is stuck after so long; bells ring every few seconds."""
STILL_STUCK: Final = "still_stuck"
"""The code of an item that was rung for and that nobody took in `STUCK_AFTER_S`."""
CANCELLED: Final = "cancelled"
"""The code of an item whose message was cancelled meanwhile."""

_RATE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)/([smh])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
MOST_CHOSEN: Final = 1_000
"""Messages that a batch may name one by one."""
FASTEST: Final = 10_000.0
"""Messages a second that may be asked for."""
RATE_RULE: Final = f"a number and one of /s, /m, /h, above none and at most {FASTEST:g} a second: 5/s"


class SkipReason(StrEnum):
    """Why a message of a batch was left alone. It may be asked for again."""

    POISON = "poison"
    """It failed in `POISON_AFTER` batches."""
    RUNNING = "running"
    """It is being answered: somebody retried it."""
    SUCCEEDED = "succeeded"
    """It has an answer meanwhile."""
    CHANGED = "changed"
    """It ended in another way meanwhile."""
    DELETED = "deleted"
    """It went with its project."""
    STOPPED = "stopped"
    """The batch was stopped before its turn."""


class _Public(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class BatchFilter(_Public, frozen=True, kw_only=True, omit_defaults=True):
    """Which messages. `since` and `until` are about when they ended; of unfinished ones, when they were enqueued."""

    status: MessageStatus
    code: ErrorCode | None = None
    since: datetime | None = None
    until: datetime | None = None
    project: UUID | None = None
    model: str | None = None
    messages: tuple[UUID, ...] | None = None
    """None: all that pass the rest; else of these alone."""
    include_poison: bool = False


class Explanation(_Public, frozen=True, kw_only=True):
    """What a batch would be made of. Reasons of `excluded` are said in `docs/batches.md`."""

    matched: int
    by_code: dict[str, int]
    by_model: dict[str, int]
    excluded: dict[str, int]


class Counts(_Public, frozen=True, kw_only=True):
    """Items by their state."""

    waiting: int = 0
    sent: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.sent + self.ended

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.skipped


class Batch(_Public, frozen=True, kw_only=True):
    """`endedAt` stands there once nothing of it is unfinished."""

    id: UUID
    status: BatchStatus
    filter: BatchFilter
    rate: float | None
    """Messages a second; null: as fast as they are taken."""
    asked_by: str
    counts: Counts
    created_at: datetime
    ended_at: datetime | None


class End(_Public, frozen=True, kw_only=True):
    """How many items came to this: the code with which they were found, and with which they ended or why they did not."""

    state: ItemState
    first_code: str | None
    code: str | None
    reason: str | None
    count: int


class BatchReport(Batch, frozen=True, kw_only=True):
    """A batch and what became of its items, by state and code."""

    ends: list[End]


class BatchItem(_Public, frozen=True, kw_only=True):
    """One message of a batch."""

    message_id: UUID
    project_id: UUID
    model: str | None
    state: ItemState
    first_code: str | None
    """The error's with which it was found; null where it had none."""
    code: str | None
    """The error's with which it ended again."""
    reason: str | None
    """Why it was skipped."""
    run: int
    """The message's run that goes on."""
    tries: int
    """In how many batches this run was tried, this one included."""
    sent_at: datetime | None
    ended_at: datetime | None


class Bell(msgspec.Struct, frozen=True, kw_only=True):
    """A stuck message that is to be rung for; `builds`: a builder is to hear it."""

    message_id: UUID
    builds: bool


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a batch, committed. `again` are put back in the queue; `bells` were stuck; others were `skipped`."""

    batch_id: UUID
    again: tuple[Message, ...]
    bells: tuple[Bell, ...]
    skipped: int

    @property
    def count(self) -> int:
        return len(self.again) + len(self.bells) + self.skipped


FILTERED: Final = (
    MessageStatus.ERROR,
    MessageStatus.CANCELLED,
    MessageStatus.PENDING,
    MessageStatus.BUILDING,
)
"""Statuses that a batch may be of."""


def rate_per_s(text: str) -> float:
    """``5/s`` or ``90/m`` as messages a second. Raises `ValueError`, whose text is the rule."""
    match = _RATE.fullmatch(text)
    rate = float(match[1]) / _SECONDS[match[2]] if match else 0.0
    if not 0 < rate <= FASTEST:
        raise ValueError(RATE_RULE)
    return rate
