"""The life of a message as tables: its statuses, the legal moves between them, its kinds and its error codes.

Tests hold the Postgres enums, the store and the diagram in ARCHITECTURE.md to these.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class MessageStatus(StrEnum):
    PENDING = "pending"
    BUILDING = "building"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


class MessageKind(StrEnum):
    MESSAGE = "message"
    """A user's."""
    STATUS = "status"
    """A placeholder that has no answer yet."""
    TEXT = "text"
    TOOL_RESULT = "tool_result"
    """Ended by a tool's effect, its words in `content`."""
    ERROR = "error"


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class Scope(StrEnum):
    """What a token allows beside its user's projects."""

    OPS = "ops"


class MemberRole(StrEnum):
    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


class JobStatus(StrEnum):
    PENDING = "pending"
    BUILDING = "building"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


class BatchStatus(StrEnum):
    """Of a batch that reprocesses messages. `done` and `stopped` begin no further item."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"


class ItemState(StrEnum):
    """What became of one message of a batch."""

    WAITING = "waiting"
    SENT = "sent"
    """Put back in the queue, or rung for; not final yet."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Left alone: the item's `reason` says why."""


class OnBusy(StrEnum):
    """What the next message does while an assistant message of its project is pending."""

    QUEUE = "queue"
    PARALLEL = "parallel"
    REJECT = "reject"
    INTERRUPT = "interrupt"


FINAL: Final = frozenset({MessageStatus.SUCCESS, MessageStatus.ERROR, MessageStatus.CANCELLED})
UNFINISHED: Final = frozenset({MessageStatus.PENDING, MessageStatus.BUILDING})

MOVES: Final[dict[MessageStatus, frozenset[MessageStatus]]] = {
    # a turn ends, or hands over to a builder
    MessageStatus.PENDING: frozenset(
        {MessageStatus.SUCCESS, MessageStatus.ERROR, MessageStatus.CANCELLED, MessageStatus.BUILDING}
    ),
    MessageStatus.BUILDING: frozenset({MessageStatus.SUCCESS, MessageStatus.ERROR, MessageStatus.CANCELLED}),
    # somebody retries: the turn goes on, or the build again
    MessageStatus.SUCCESS: frozenset({MessageStatus.PENDING}),
    MessageStatus.ERROR: frozenset({MessageStatus.PENDING, MessageStatus.BUILDING}),
    MessageStatus.CANCELLED: frozenset({MessageStatus.PENDING, MessageStatus.BUILDING}),
}


class ErrorCode(StrEnum):
    """Why a message ended as `error`. `retryable` tells whether asking again, unchanged, could help."""

    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_QUOTA = "provider_quota"
    PROVIDER_AUTH = "provider_auth"
    PROVIDER_REJECTED = "provider_rejected"
    PROVIDER_TIMEOUT = "provider_timeout"
    STREAM_BROKEN = "stream_broken"
    STREAM_INCOMPLETE = "stream_incomplete"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    EMPTY_ANSWER = "empty_answer"
    CONTEXT_TOO_LONG = "context_too_long"
    TOO_MANY_ROUNDS = "too_many_rounds"
    DEADLINE = "deadline"
    WORKER_LOST = "worker_lost"
    BUILD_FAILED = "build_failed"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        return self not in _PERMANENT

    @property
    def detail(self) -> str:
        """In words safe to show to anybody."""
        return _DETAILS[self]


_PERMANENT: Final = frozenset(
    {
        ErrorCode.PROVIDER_QUOTA,
        ErrorCode.PROVIDER_AUTH,
        ErrorCode.PROVIDER_REJECTED,
        ErrorCode.CONTENT_FILTER,
        ErrorCode.REFUSAL,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.TOO_MANY_ROUNDS,
    }
)

_DETAILS: Final[dict[ErrorCode, str]] = {
    ErrorCode.PROVIDER_UNAVAILABLE: "The model's provider could not be reached.",
    ErrorCode.PROVIDER_RATE_LIMITED: "The model's provider is limiting requests. Try again in a while.",
    ErrorCode.PROVIDER_QUOTA: "The account at the model's provider has no quota left.",
    ErrorCode.PROVIDER_AUTH: "The model's provider refused the server's credentials.",
    ErrorCode.PROVIDER_REJECTED: "The model's provider rejected the request.",
    ErrorCode.PROVIDER_TIMEOUT: "The model's provider stopped answering.",
    ErrorCode.STREAM_BROKEN: "The answer's stream broke off.",
    ErrorCode.STREAM_INCOMPLETE: "The answer stopped without an end.",
    ErrorCode.LENGTH: "The answer reached the longest length allowed and was cut.",
    ErrorCode.CONTENT_FILTER: "The provider's content filter stopped the answer.",
    ErrorCode.REFUSAL: "The model declined to answer.",
    ErrorCode.EMPTY_ANSWER: "The model gave an empty answer.",
    ErrorCode.CONTEXT_TOO_LONG: "The conversation and the document are too long for the model.",
    ErrorCode.TOO_MANY_ROUNDS: "The model kept calling tools without coming to an end.",
    ErrorCode.DEADLINE: "The answer took longer than the time allowed for one run.",
    ErrorCode.WORKER_LOST: "The server lost the process that wrote this answer, again and again.",
    ErrorCode.BUILD_FAILED: "The component could not be built.",
    ErrorCode.INTERNAL: "Something went wrong on the server.",
}
