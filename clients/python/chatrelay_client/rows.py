"""What the API answers with. Fields that are not named here are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

MessageStatus: TypeAlias = Literal["pending", "building", "success", "error", "cancelled"]
ENDED: Final = frozenset({"success", "error", "cancelled"})


class _Row(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Usage(_Row, frozen=True, kw_only=True):
    """Tokens of a run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Timing(_Row, frozen=True, kw_only=True, omit_defaults=True):
    """Milliseconds since the message was sent: to its first worker, to its first token, to its end; and its stages."""

    queued_ms: int | None
    first_token_ms: int | None
    total_ms: int | None
    context_ms: int | None = None
    connect_ms: int | None = None
    first_byte_ms: int | None = None
    first_append_ms: int | None = None
    tools_ms: int | None = None
    rounds: int | None = None
    commit_ms: int | None = None


class ToolCall(_Row, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a tool. `version` is the document's after it."""

    tool_call_id: str
    name: str
    arguments: Any
    state: Literal["started", "succeeded", "failed"]
    final_content: str | None = None
    error: str | None = None
    job_id: str | None = None
    version: int | None = None


class MessageError(_Row, frozen=True, kw_only=True):
    """Why a message ended without an answer."""

    code: str
    detail: str
    retryable: bool


class Message(_Row, frozen=True, kw_only=True):
    """A user's message or the assistant's, as it is stored."""

    id: str
    project_id: str
    role: str
    kind: str
    status: MessageStatus
    content: str
    error: MessageError | None = None
    attempt: int = 0
    author: str | None = None
    job_id: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    model: str | None = None
    usage: Usage | None = None
    timing: Timing | None = None
    reply_to: str | None = None
    queue_number: int | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def is_final(self) -> bool:
        return self.status in ENDED


class Submitted(_Row, frozen=True, kw_only=True):
    """The user's message, and the assistant's, which is to be followed."""

    user_message: Message
    assistant_message: Message


class Project(_Row, frozen=True, kw_only=True):
    id: str
    name: str
    document: Any
    version: int
    schema: Any = None
    role: str
    created_at: datetime
    updated_at: datetime


class Page(_Row, Generic[T], frozen=True, kw_only=True):
    """Newest first; `next_cursor` is the next page's `before`, None on the last."""

    items: list[T]
    next_cursor: str | None = None
