"""What operators are answered: figures and metadata. Never users' text, nor what a tool was called with."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from shared.events import Timing, ToolCallState, Usage
from shared.lifecycle import ErrorCode, JobStatus, MessageKind, MessageStatus
from shared.records import JobPhase


class _Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


Queue: TypeAlias = Literal["interactive", "builds"]


class UnfinishedFigures(_Figures, frozen=True, kw_only=True):
    """`pending` messages are in the queue `interactive`, `building` ones in `builds`. Counts stop at 20,000."""

    status: MessageStatus
    queue: Queue
    waiting: int
    """Held by nobody; those that wait behind another message of their project, and those of batches, included."""
    held: int
    """A worker or a builder has them."""
    oldest_waiting_ms: int | None
    """For how long the oldest one waits whose turn it is. A batch's items have a pace of their own and are not asked."""


class EndedFigures(_Figures, frozen=True, kw_only=True):
    """How many ended so; `code` is null but for errors."""

    status: MessageStatus
    code: ErrorCode | None
    last_minute: int
    last_five_minutes: int
    last_hour: int


class Quantiles(_Figures, frozen=True, kw_only=True):
    """Milliseconds since a message was enqueued; null where there was none. `count`: of so many."""

    count: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None


class SweeperFigures(_Figures, frozen=True, kw_only=True):
    name: str
    silent_ms: int
    """Since it last came round."""


class WorkerFigures(_Figures, frozen=True, kw_only=True):
    """A process that holds messages now. One that holds none is not known."""

    name: str
    held: int


class OperatorMessage(_Figures, frozen=True, kw_only=True):
    """One assistant message: its row without its text."""

    id: UUID
    project_id: UUID
    author: str | None
    """Who submitted it, or retried it last."""
    status: MessageStatus
    kind: MessageKind
    code: ErrorCode | None
    model: str | None
    attempt: int
    run: int
    tries: int
    """Of this run, failed so far."""
    held_by: str | None
    """The process that has it."""
    lease_until: datetime | None
    job_id: UUID | None
    cancel_requested_at: datetime | None
    timing: Timing | None
    usage: Usage | None
    age_ms: int
    """Since it was enqueued: to its end, or until now."""
    content_bytes: int
    last_event_id: str | None
    created_at: datetime
    enqueued_at: datetime | None
    updated_at: datetime


class Summary(_Figures, frozen=True, kw_only=True):
    """How the whole system is doing, by the database."""

    at: datetime
    unfinished: list[UnfinishedFigures]
    lapsed_leases: int
    """Whose holder is lost, and that no sweeper has taken yet."""
    sweepers: list[SweeperFigures]
    workers: list[WorkerFigures]
    ended: list[EndedFigures]
    ended_since: datetime
    """What ended before it is not counted: an hour ago, or later where more than 10,000 ended so."""
    first_token: Quantiles
    """Of what was answered or failed in the last five minutes, at most the newest 2,000 of each."""
    completion: Quantiles
    tokens_last_hour: int
    """Of what ended since `endedSince`."""
    slowest_unfinished: list[OperatorMessage]
    """The ten that were enqueued first."""
    newest_failed: list[OperatorMessage]
    """The ten that failed last."""


class RoundOutline(_Figures, frozen=True, kw_only=True):
    """One stored call of the model, without its text."""

    round: int
    attempt: int
    text_bytes: int
    calls: list[str]
    """The names of the tools that it decided to call."""
    document_version: int
    usage: Usage | None
    created_at: datetime


class ToolCallOutline(_Figures, frozen=True, kw_only=True):
    """One tool call that was made, without its arguments and its words."""

    tool_call_id: str
    name: str
    state: ToolCallState
    round: int
    attempt: int
    arguments_bytes: int
    job_id: UUID | None
    version: int | None
    created_at: datetime


class JobOutline(_Figures, frozen=True, kw_only=True):
    id: UUID
    status: JobStatus
    phase: JobPhase | None
    tries: int
    created_at: datetime
    updated_at: datetime


class MessageOutline(_Figures, frozen=True, kw_only=True):
    """All that the rows have of one message, without any text. Rounds and calls are those of the present run."""

    message: OperatorMessage
    rounds: list[RoundOutline]
    tool_calls: list[ToolCallOutline]
    jobs: list[JobOutline]


StepKind: TypeAlias = Literal["submitted", "started", "finalized"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a message's life that its row remembers."""

    kind: StepKind
    at: datetime
    message_id: UUID
    project_id: UUID
    status: MessageStatus
    code: str | None
    model: str | None
    attempt: int
    run: int
    timing: Timing | None
    usage: Usage | None
