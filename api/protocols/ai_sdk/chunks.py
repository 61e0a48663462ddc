"""The chunks of a UI message stream: what `uiMessageChunkSchema` of `ai` 6 and 7 knows, as far as it is sent here. Pure.

A chunk of another type, or with a field of another type, ends a client's stream.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from shared.events import AssistantActivity, Timing, Usage
from shared.lifecycle import JobStatus, MessageStatus
from shared.records import JobPhase, JsonValue

FinishReason: TypeAlias = Literal["stop", "length", "content-filter", "error", "other"]


class MessageMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a client finds in `message.metadata`: the first three from the start on, the others at the end."""

    model: str | None = None
    created_at: datetime | None = None
    reply_to: UUID | None = None
    """The user's message."""
    status: MessageStatus | None = None
    code: str | None = None
    """Why it ended as `error`."""
    retryable: bool | None = None
    usage: Usage | None = None
    timing: Timing | None = None


class JobData(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A component job as far as it has come."""

    job_id: str
    status: JobStatus
    name: str | None = None
    phase: JobPhase | None = None
    tries: int | None = msgspec.field(default=None, name="try")


class StatusData(msgspec.Struct, frozen=True, kw_only=True):
    status: AssistantActivity


class _Chunk(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type"):
    pass


class StartChunk(_Chunk, frozen=True, kw_only=True, tag="start"):
    message_id: str
    message_metadata: MessageMetadata


class StartStepChunk(_Chunk, frozen=True, kw_only=True, tag="start-step"):
    """There is one step: what `reset-step` takes back is all that was shown."""


class ResetStepChunk(_Chunk, frozen=True, kw_only=True, tag="reset-step"):
    """Not known to version 6."""


class FinishStepChunk(_Chunk, frozen=True, kw_only=True, tag="finish-step"):
    pass


class TextStartChunk(_Chunk, frozen=True, kw_only=True, tag="text-start"):
    id: str


class TextDeltaChunk(_Chunk, frozen=True, kw_only=True, tag="text-delta"):
    id: str
    delta: str


class TextEndChunk(_Chunk, frozen=True, kw_only=True, tag="text-end"):
    id: str


class ToolInputStartChunk(_Chunk, frozen=True, kw_only=True, tag="tool-input-start"):
    tool_call_id: str
    tool_name: str
    provider_executed: Literal[True]
    """It was called here: a client is not to call it, nor to ask for what comes after its result."""


class ToolInputAvailableChunk(_Chunk, frozen=True, kw_only=True, tag="tool-input-available"):
    tool_call_id: str
    tool_name: str
    input: JsonValue
    provider_executed: Literal[True]


class ToolOutput(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    final_content: str | None = None
    """The effect in words."""
    job_id: str | None = None


class ToolOutputAvailableChunk(_Chunk, frozen=True, kw_only=True, tag="tool-output-available"):
    tool_call_id: str
    output: ToolOutput
    provider_executed: Literal[True]


class ToolOutputErrorChunk(_Chunk, frozen=True, kw_only=True, tag="tool-output-error"):
    tool_call_id: str
    error_text: str
    provider_executed: Literal[True]


class DataStatusChunk(_Chunk, frozen=True, kw_only=True, tag="data-status"):
    """Told to `onData`, kept nowhere."""

    data: StatusData
    transient: Literal[True]


class DataJobChunk(_Chunk, frozen=True, kw_only=True, tag="data-job"):
    """The same `id` replaces what was shown of the job."""

    id: str
    data: JobData


class MessageMetadataChunk(_Chunk, frozen=True, kw_only=True, tag="message-metadata"):
    message_metadata: MessageMetadata


class ErrorChunk(_Chunk, frozen=True, kw_only=True, tag="error"):
    """A client looks at nothing behind it."""

    error_text: str


class AbortChunk(_Chunk, frozen=True, kw_only=True, tag="abort"):
    reason: str


class FinishChunk(_Chunk, frozen=True, kw_only=True, tag="finish"):
    finish_reason: FinishReason
    message_metadata: MessageMetadata


Chunk: TypeAlias = (
    StartChunk
    | StartStepChunk
    | ResetStepChunk
    | FinishStepChunk
    | TextStartChunk
    | TextDeltaChunk
    | TextEndChunk
    | ToolInputStartChunk
    | ToolInputAvailableChunk
    | ToolOutputAvailableChunk
    | ToolOutputErrorChunk
    | DataStatusChunk
    | DataJobChunk
    | MessageMetadataChunk
    | ErrorChunk
    | AbortChunk
    | FinishChunk
)

DONE: Final = b"data: [DONE]\n\n"

_encoder: Final = msgspec.json.Encoder()


def encode(chunk: Chunk) -> bytes:
    return _encoder.encode(chunk)


def safe_input(value: JsonValue) -> JsonValue:
    """`value`, or its JSON as a text where a client's parser would refuse the whole stream for one of its keys.

    `secureJsonParse` of `@ai-sdk/provider-utils` throws on ``__proto__`` and on ``constructor`` with a ``prototype``.
    """
    return _encoder.encode(value).decode() if _is_suspect(value) else value


def _is_suspect(value: Any) -> bool:
    left = [value]
    while left:
        at = left.pop()
        if isinstance(at, dict):
            constructor = at.get("constructor")
            if "__proto__" in at or (isinstance(constructor, dict) and "prototype" in constructor):
                return True
            left.extend(at.values())
        elif isinstance(at, list):
            left.extend(at)
    return False
