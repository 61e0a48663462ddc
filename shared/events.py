"""The StreamEvent union: every event that a message's log can hold, and its only codec.

An event is one JSON object. Its ``id`` is ``<attempt>-<n>``: `attempt` is the fencing token of whoever wrote it, n counts
0, 1, 2... without a gap inside the attempt. Python names are snake_case; only the codec knows ``jobId``.

The codec writes ``type`` and ``id`` first, in this order, so that `peek` can read both from the bytes without parsing the
rest. That is what lets the relay pass a live delta on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from shared import strict_json
from shared.errors import InvalidJson

AssistantActivity: TypeAlias = Literal["thinking", "tool_calling", "building"]
FinalizedStatus: TypeAlias = Literal["success", "error", "building", "cancelled"]
MessageStatusName: TypeAlias = Literal["pending", "building", "success", "error", "cancelled"]
SnapshotReason: TypeAlias = Literal["attempt", "restored", "compacted"]
ToolCallState: TypeAlias = Literal["started", "succeeded", "failed"]

MAX_DELTA_BYTES = 8 * 1024
"""UTF-8 bytes of text in one delta. A payload of 16 KiB or more escapes the server's client-output-buffer-limit."""


class EventId(NamedTuple):
    """``<attempt>-<n>``; tuples compare as the ids do."""

    attempt: int
    n: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Raises `ValueError` where `text` is not ``<attempt>-<n>`` with attempt >= 1 in canonical digits."""
        if (match := _EVENT_ID.fullmatch(text)) is None:
            raise ValueError("an event id is <attempt>-<n>")
        return cls(int(match[1]), int(match[2]))

    @property
    def next(self) -> EventId:
        return EventId(self.attempt, self.n + 1)

    @property
    def before(self) -> EventId:
        """The greatest id below this one that this attempt, or a gap before it, could hold."""
        return EventId(self.attempt, self.n - 1) if self.n else EventId(self.attempt - 1, _LARGEST_N)


_EVENT_ID = re.compile(r"([1-9][0-9]{0,9})-(0|[1-9][0-9]{0,9})")
_LARGEST_N = 9_999_999_999


class Usage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Tokens, summed over the rounds of a run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
        )


class Stages(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where a turn's time went, in milliseconds, of the last worker that had it; what did not happen is left out.

    What is called first is counted from when the message was enqueued, the others are durations.
    """

    context_ms: int | None = None
    """Reading the project and the conversation, for the call of the model that wrote the first text, or the last call."""
    connect_ms: int | None = None
    """Of the same call: from the request to the answer's headers."""
    first_append_ms: int | None = None
    """To the first event that Redis acknowledged."""
    first_byte_ms: int | None = None
    """To the first text that came from the provider."""
    tools_ms: int | None = None
    """Running tools, all together."""
    rounds: int | None = None
    """Calls of the model that were answered, in the whole run."""
    commit_ms: int | None = None
    """From the answer's end until its commit was sent: the last appends, and waiting for Postgres."""


class Timing(Stages, frozen=True, kw_only=True):
    """Milliseconds since the message was enqueued: to its first claim, first token appended, commit; and the stages."""

    queued_ms: int | None
    first_token_ms: int | None
    total_ms: int


MAX_ARGUMENTS_DEPTH: Final = 128
"""Containers inside one another in a tool call's arguments: neither a check of a schema nor a reader survives everything."""


def arguments_of(raw: str) -> Any:
    """The value that the model wrote. Raises `InvalidJson`."""
    return strict_json.load(raw.encode(), max_depth=MAX_ARGUMENTS_DEPTH, what="The text")


def shown_arguments(raw: str) -> Any:
    """A tool call's arguments as readers see them: the JSON that the model wrote, its raw text where that is refused."""
    try:
        return arguments_of(raw)
    except InvalidJson:
        return raw


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One call of a tool as a reader sees it; `arguments` as `shown_arguments` gives them.

    `version` is the document's after the call's effect.
    """

    tool_call_id: str
    name: str
    arguments: Any
    state: ToolCallState
    final_content: str | None = None
    error: str | None = None
    job_id: str | None = None
    version: int | None = None


class _Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type"):
    id: str
    """``<attempt>-<n>``."""
    message_id: str
    ts: int
    """Milliseconds since the epoch, when it was appended."""


class Status(_Event, frozen=True, kw_only=True, tag="status"):
    """What the assistant is doing."""

    status: AssistantActivity


class Delta(_Event, frozen=True, kw_only=True, tag="delta"):
    """Text to append. In a replay neighbours may arrive as one, bearing the last one's id and `from`, the first one's."""

    content: str
    from_: str | None = msgspec.field(default=None, name="from")


class ToolStart(_Event, frozen=True, kw_only=True, tag="tool_start"):
    """A tool call was decided, and is stored."""

    name: str
    tool_call_id: str
    arguments: Any


class ToolResult(_Event, frozen=True, kw_only=True, tag="tool_result"):
    """A tool call's effect is committed, or refused. `final_content` is the effect in words."""

    name: str
    tool_call_id: str
    success: bool
    job_id: str | None = None
    final_content: str | None = None
    error: str | None = None


class Complete(_Event, frozen=True, kw_only=True, tag="complete"):
    """The text is whole."""

    final_content: str


class Error(_Event, frozen=True, kw_only=True, tag="error"):
    """What went wrong, in words safe to show. `final_content` equals the text before it."""

    error: str
    code: str
    retryable: bool
    final_content: str | None = None


class Finalized(_Event, frozen=True, kw_only=True, tag="finalized"):
    """The row is committed with this status."""

    status: FinalizedStatus
    job_id: str | None = None
    usage: Usage | None = None
    timing: Timing | None = None


class Snapshot(_Event, frozen=True, kw_only=True, tag="snapshot"):
    """Replace what you show of this message by this."""

    content: str
    status: MessageStatusName
    tool_calls: tuple[ToolCall, ...]
    reason: SnapshotReason


StreamEvent: TypeAlias = Status | Delta | ToolStart | ToolResult | Complete | Error | Finalized | Snapshot
KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(StreamEvent))
"""What `peek` may find for a type."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[StreamEvent] = msgspec.json.Decoder(StreamEvent)
_all_decoder: msgspec.json.Decoder[list[StreamEvent]] = msgspec.json.Decoder(list[StreamEvent])
_DELTA = b'{"type":"delta",'
_PEEK = re.compile(rb'\{"type":"([a-z_]+)","id":"([0-9]+)-([0-9]+)"')
_PEEK_TS = re.compile(rb'\{"type":"[a-z_]+","id":"[0-9-]+","messageId":"[^"]*","ts":([0-9]{1,16})[,}]')


def encode(event: StreamEvent) -> bytes:
    """One line of JSON, ``type`` and ``id`` first. The same event always gives the same bytes."""
    return _encoder.encode(event)


def decode(payload: bytes | str) -> StreamEvent:
    """Raises `msgspec.DecodeError` (`msgspec.ValidationError` for a wrong shape)."""
    return _decoder.decode(payload)


def decode_all(payloads: Sequence[bytes]) -> list[StreamEvent]:
    """As `decode` for each, at once: much quicker for thousands."""
    decoded = _all_decoder.decode(b"[" + b",".join(payloads) + b"]")
    if len(decoded) != len(payloads):
        raise msgspec.DecodeError("a payload is more than one event")
    return decoded


def peek(payload: bytes) -> tuple[str, EventId]:
    """Type and id of an encoded event without parsing it. Raises `ValueError` on bytes that `encode` did not make."""
    if (match := _PEEK.match(payload)) is None:
        raise ValueError("not an encoded event")
    return match[1].decode(), EventId(int(match[2]), int(match[3]))


def is_delta(payload: bytes) -> bool:
    """Whether an encoded event is a ``delta``, as nearly all are."""
    return payload.startswith(_DELTA)


def peek_ts(payload: bytes) -> int | None:
    """When an encoded event was appended, without parsing the rest; None on bytes that `encode` did not make."""
    return None if (match := _PEEK_TS.match(payload)) is None else int(match[1])


def is_terminal(event: StreamEvent) -> bool:
    """Whether nothing follows in this attempt or any other, until somebody retries the message."""
    return isinstance(event, Finalized) and event.status != "building"


def is_terminal_payload(kind: str, payload: bytes) -> bool:
    """`is_terminal` for encoded bytes; parses a ``finalized`` only."""
    return kind == "finalized" and is_terminal(decode(payload))


def split_text(text: str, max_bytes: int = MAX_DELTA_BYTES) -> Iterator[str]:
    """`text` in pieces of at most `max_bytes` UTF-8 bytes each, never inside a character. Nothing for empty text."""
    if len(text) * 4 <= max_bytes or len(text.encode()) <= max_bytes:
        if text:
            yield text
        return
    raw = text.encode()
    start = 0
    while start < len(raw):
        end = min(start + max_bytes, len(raw))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        yield raw[start:end].decode()
        start = end


def split_for_deltas(text: str) -> Iterator[str]:
    """`split_text`, finer where JSON writes characters as escapes, of six bytes at most: no delta's JSON passes 16 KiB."""
    for piece in split_text(text):
        if len(_encoder.encode(piece)) > MAX_DELTA_BYTES * 3 // 2:
            yield from split_text(piece, MAX_DELTA_BYTES // 6)
        else:
            yield piece
