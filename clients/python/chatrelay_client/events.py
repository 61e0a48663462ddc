"""What the server tells: the events of a message (`StreamEvent`), and what a project's stream has beside them."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from chatrelay_client.rows import Message, MessageStatus, Timing, ToolCall, Usage

_EVENT_ID: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")


class EventId(NamedTuple):
    """``<attempt>-<n>``, in the order of the events."""

    attempt: int
    n: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.n}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Raises `ValueError` where `text` is no event id."""
        if (match := _EVENT_ID.fullmatch(text)) is None:
            raise ValueError(f"not an event id: {text}")
        return cls(int(match[1]), int(match[2]))


class _Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type"):
    id: str
    message_id: str
    ts: int
    """Milliseconds since the epoch, when it was written."""

    @property
    def event_id(self) -> EventId:
        return EventId.parse(self.id)


class Status(_Event, frozen=True, kw_only=True, tag="status"):
    """What the assistant is doing."""

    status: Literal["thinking", "tool_calling", "building"]


class Delta(_Event, frozen=True, kw_only=True, tag="delta"):
    """Text to append. Several that came late may be one, with the last one's id and `from_`, the first one's."""

    content: str
    from_: str | None = msgspec.field(default=None, name="from")


class ToolStart(_Event, frozen=True, kw_only=True, tag="tool_start"):
    """A tool call was decided."""

    name: str
    tool_call_id: str
    arguments: Any


class ToolResult(_Event, frozen=True, kw_only=True, tag="tool_result"):
    """A tool call has taken effect, or was refused. `final_content` is its effect in words."""

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
    """What went wrong, in words safe to show."""

    error: str
    code: str
    retryable: bool
    final_content: str | None = None


class Finalized(_Event, frozen=True, kw_only=True, tag="finalized"):
    """The message is stored with this status; all but ``building`` are its end, until somebody retries it."""

    status: Literal["success", "error", "building", "cancelled"]
    job_id: str | None = None
    usage: Usage | None = None
    timing: Timing | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status != "building"


class Snapshot(_Event, frozen=True, kw_only=True, tag="snapshot"):
    """Replace what you show of this message by this."""

    content: str
    status: MessageStatus
    tool_calls: tuple[ToolCall, ...]
    reason: Literal["attempt", "restored", "compacted"]


StreamEvent: TypeAlias = Status | Delta | ToolStart | ToolResult | Complete | Error | Finalized | Snapshot


class _Notice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    pass


class Ready(_Notice, frozen=True, kw_only=True, tag="ready"):
    """First on each connection: what is read of the project after it, together with what follows, is complete."""

    version: int
    """The document's."""
    newest_message_id: str | None


class MessageNotice(_Notice, frozen=True, kw_only=True, tag="message"):
    """A message was made, or is to be answered again."""

    message: Message


class DocumentNotice(_Notice, frozen=True, kw_only=True, tag="document"):
    """The document has a new version, made by these RFC 6902 operations."""

    version: int
    operations: list[Any]
    message_id: str | None = None


class JobNotice(_Notice, frozen=True, kw_only=True, tag="job"):
    """A component job has come further."""

    job_id: str
    message_id: str
    name: str
    status: Literal["pending", "building", "success", "error", "cancelled"]
    phase: Literal["writing", "checking", "bundling"] | None
    tries: int = msgspec.field(name="try")


ProjectNotice: TypeAlias = Ready | MessageNotice | DocumentNotice | JobNotice
ProjectEvent: TypeAlias = ProjectNotice | StreamEvent
"""What watching a project yields."""


class Frame(msgspec.Struct, frozen=True, rename="camel"):
    """What every reader must know of anything that it is sent, of a type that it knows or not."""

    type: str
    id: str | None = None
    message_id: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")


_KINDS: Final = frozenset(
    ("status", "delta", "tool_start", "tool_result", "complete", "error", "finalized", "snapshot")
)
_NOTICES: Final = frozenset(("ready", "message", "document", "job"))
_frames: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_events: msgspec.json.Decoder[StreamEvent] = msgspec.json.Decoder(StreamEvent)
_notices: msgspec.json.Decoder[ProjectNotice] = msgspec.json.Decoder(ProjectNotice)


def frame_of(payload: bytes | str) -> Frame:
    """Raises `msgspec.DecodeError`."""
    return _frames.decode(payload)


def event_of(frame: Frame, payload: bytes | str) -> StreamEvent | None:
    """The frame as an event of a message; None where it is none, or of a type that is not known here."""
    return _events.decode(payload) if frame.id is not None and frame.type in _KINDS else None


def notice_of(frame: Frame, payload: bytes | str) -> ProjectNotice | None:
    """The frame as something that a project's stream tells beside events; None where it is nothing of that."""
    return _notices.decode(payload) if frame.id is None and frame.type in _NOTICES else None


def is_next(position: EventId | None, frame: Frame) -> bool:
    """Whether a reader at `position` (None: the start) may take this event as the next one: it is newer, and a snapshot,
    the first of all, or the very next of its attempt. Else there is a gap, or a part of it was seen.
    """
    assert frame.id is not None
    event_id = EventId.parse(frame.id)
    if frame.type == "snapshot":
        return position is None or event_id > position
    first = EventId.parse(frame.from_ or frame.id)
    return first.n == 0 if position is None else first == EventId(position.attempt, position.n + 1)
