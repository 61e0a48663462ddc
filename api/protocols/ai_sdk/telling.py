"""A message's events as a UI message stream. Pure.

`UiMessage` remembers what the client shows: one step with text parts, tool parts and the job's part. Text is appended as it
comes. A snapshot that only goes on from what is shown is told as the rest of it; one that takes something back needs
`reset-step`, which version 7 knows: it empties the step, which is then told anew. A client that is not known to know it is
cut off instead, and its resume replays everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, assert_never
from uuid import UUID

import msgspec
from msgspec.structs import replace

from api.close_codes import CloseCode
from api.protocols.ai_sdk import chunks
from api.protocols.ai_sdk.chunks import (
    AbortChunk,
    Chunk,
    DataJobChunk,
    DataStatusChunk,
    ErrorChunk,
    FinishChunk,
    FinishReason,
    FinishStepChunk,
    JobData,
    MessageMetadata,
    MessageMetadataChunk,
    ResetStepChunk,
    StartChunk,
    StartStepChunk,
    StatusData,
    TextDeltaChunk,
    TextEndChunk,
    TextStartChunk,
    ToolInputAvailableChunk,
    ToolInputStartChunk,
    ToolOutput,
    ToolOutputAvailableChunk,
    ToolOutputErrorChunk,
)
from api.protocols.telling import ComeBack
from api.wire import Frame
from shared import events
from shared.events import (
    Complete,
    Delta,
    Error,
    Finalized,
    Snapshot,
    Status,
    StreamEvent,
    ToolCall,
    ToolResult,
    ToolStart,
)
from shared.lifecycle import FINAL, ErrorCode, JobStatus, MessageStatus
from shared.notices import JobNotice
from shared.records import Message

CANCELLED: Final = "cancelled"
FAILED: Final = ErrorCode.INTERNAL.detail
"""Of an answer that failed where only the row's status is left to tell."""
WITHDRAWN: Final = "Your access to this project was withdrawn."
BROKEN_OFF: Final = "The connection broke off; the answer goes on. Resume the stream."
_NOT_DONE: Final = "The call was not made."

_REASONS: Final[dict[str, FinishReason]] = {
    ErrorCode.LENGTH: "length",
    ErrorCode.CONTENT_FILTER: "content-filter",
    ErrorCode.REFUSAL: "content-filter",
}


_OPEN: Final = frozenset({JobStatus.PENDING, JobStatus.BUILDING})
_job_decoder: Final = msgspec.json.Decoder(JobNotice)


class UiMessage:
    """One message on its way to one client. `resets`: the client knows `reset-step`."""

    def __init__(self, row: Message, *, resets: bool) -> None:
        self._id = str(row.id)
        self._metadata = MessageMetadata(
            model=row.model,
            created_at=row.created_at,
            reply_to=row.reply_to,
        )
        self._resets = resets
        self._error: Error | None = None
        self._known_error = row.error if row.status is MessageStatus.ERROR else None
        """The row's, for where the log has it no more."""
        self._text = ""
        """What all text parts show together."""
        self._parts = 0
        """Text parts that were begun."""
        self._open: str | None = None
        """The text part that is being written."""
        self._calls: dict[str, ToolCall] = {}
        self._job: JobData | None = None
        self._job_shown: JobData | None = None
        self.is_over = False

    @property
    def job_id(self) -> UUID | None:
        """The job that its client is still to be told of."""
        return None if self._job is None or self.is_over else UUID(self._job.job_id)

    def begin(self) -> Iterator[Chunk]:
        yield StartChunk(message_id=self._id, message_metadata=self._metadata)
        yield StartStepChunk()

    def tell(self, event: StreamEvent) -> Iterator[Chunk]:
        """Raises `ComeBack` where something would have to be taken back from a client that cannot do that."""
        match event:
            case Status():
                yield DataStatusChunk(data=StatusData(status=event.status), transient=True)
            case Delta():
                yield from self._append(event.content)
            case ToolStart():
                call = ToolCall(
                    tool_call_id=event.tool_call_id, name=event.name, arguments=event.arguments, state="started"
                )
                yield from self._call(call)
            case ToolResult():
                yield from self._result(event)
            case Complete():
                yield from self._become(event.final_content, self._calls.values())
            case Error():
                self._error = event
                if event.final_content is not None:
                    yield from self._become(event.final_content, self._calls.values())
            case Finalized():
                yield from self._finalize(event)
            case Snapshot():
                self._error = None
                yield from self._become(event.content, event.tool_calls)
                job_id = next((call.job_id for call in event.tool_calls if call.job_id is not None), None)
                yield from self._learn_job(job_id, _job_status(event.status))
            case _:
                assert_never(event)

    def tell_job(self, payload: bytes) -> Iterator[Chunk]:
        """A notice of the project's; nothing where it is not of this message's job."""
        told = _job_decoder.decode(payload)
        job_id = str(told.job_id)
        if self._job is not None and job_id == self._job.job_id and not self.is_over:
            self._job = JobData(job_id=job_id, name=told.name, status=told.status, phase=told.phase, tries=told.tries)
            yield from self._show_job()

    # --- text -------------------------------------------------------------------------------------------------------

    def _append(self, text: str) -> Iterator[Chunk]:
        if not text:
            return
        if self._open is None:
            self._parts += 1
            self._open = f"t{self._parts}"
            yield TextStartChunk(id=self._open)
        self._text += text
        yield TextDeltaChunk(id=self._open, delta=text)

    def _close_text(self) -> Iterator[Chunk]:
        if self._open is not None:
            yield TextEndChunk(id=self._open)
            self._open = None

    # --- calls ------------------------------------------------------------------------------------------------------

    def _call(self, call: ToolCall) -> Iterator[Chunk]:
        """Show that it was decided, once."""
        if call.tool_call_id in self._calls:
            return
        self._calls[call.tool_call_id] = replace(call, state="started")
        yield from self._close_text()
        yield ToolInputStartChunk(tool_call_id=call.tool_call_id, tool_name=call.name, provider_executed=True)
        yield ToolInputAvailableChunk(
            tool_call_id=call.tool_call_id,
            tool_name=call.name,
            input=chunks.safe_input(call.arguments),
            provider_executed=True,
        )

    def _result(self, event: ToolResult) -> Iterator[Chunk]:
        known = self._calls.get(event.tool_call_id)
        yield from self._come_to(
            ToolCall(
                tool_call_id=event.tool_call_id,
                name=event.name,
                arguments=None if known is None else known.arguments,
                state="succeeded" if event.success else "failed",
                final_content=event.final_content,
                error=event.error,
                job_id=event.job_id,
            )
        )
        if event.job_id is not None:
            yield from self._learn_job(event.job_id, JobStatus.PENDING)

    def _come_to(self, call: ToolCall) -> Iterator[Chunk]:
        """Show what it came to, once; where it is still to be made, that alone."""
        yield from self._call(call)
        if call.state == "started" or self._calls[call.tool_call_id].state != "started":
            return
        self._calls[call.tool_call_id] = call
        if call.state == "succeeded":
            output = ToolOutput(final_content=call.final_content, job_id=call.job_id)
            yield ToolOutputAvailableChunk(tool_call_id=call.tool_call_id, output=output, provider_executed=True)
        else:
            yield ToolOutputErrorChunk(
                tool_call_id=call.tool_call_id,
                error_text=call.error or call.final_content or _NOT_DONE,
                provider_executed=True,
            )

    # --- what takes back --------------------------------------------------------------------------------------------

    def _become(self, text: str, calls: Iterable[ToolCall]) -> Iterator[Chunk]:
        """Show this text and these calls: the rest of them, where what is shown is their beginning."""
        wanted = tuple(calls)
        if not self._is_beginning_of(text, wanted):
            if not self._resets:
                raise ComeBack
            yield ResetStepChunk()
            self._text, self._open = "", None
            self._calls.clear()
            self._job_shown = None
        for call in wanted:
            if call.tool_call_id in self._calls:
                yield from self._come_to(call)
        yield from self._append(text[len(self._text) :])
        for call in wanted:
            yield from self._come_to(call)

    def _is_beginning_of(self, text: str, calls: Sequence[ToolCall]) -> bool:
        states = {call.tool_call_id: call.state for call in calls}
        return text.startswith(self._text) and all(
            states.get(known.tool_call_id) is not None
            and (known.state == "started" or states[known.tool_call_id] == known.state)
            for known in self._calls.values()
        )

    # --- the job ----------------------------------------------------------------------------------------------------

    def _learn_job(self, job_id: str | None, status: JobStatus) -> Iterator[Chunk]:
        """What the message's own events say of it: that it is there, and its end. How far it is, notices say better."""
        known = self._job
        if job_id is None:
            self._job = None
        elif known is None or known.job_id != job_id:
            self._job = JobData(job_id=job_id, status=status)
        elif known.status not in _OPEN or status not in _OPEN:
            self._job = replace(known, status=status, phase=None)
        yield from self._show_job()

    def _show_job(self) -> Iterator[Chunk]:
        if self._job is not None and self._job != self._job_shown:
            self._job_shown = self._job
            yield DataJobChunk(id=self._job.job_id, data=self._job)

    # --- the end ----------------------------------------------------------------------------------------------------

    def _finalize(self, event: Finalized) -> Iterator[Chunk]:
        if event.status == "building":
            return
        status = MessageStatus(event.status)
        yield from self._close_text()
        if self._job is not None:
            yield from self._learn_job(self._job.job_id, JobStatus(event.status))
        self.is_over = True
        metadata = MessageMetadata(status=status, usage=event.usage, timing=event.timing)
        if status is MessageStatus.CANCELLED:
            yield MessageMetadataChunk(message_metadata=metadata)
            yield FinishStepChunk()
            yield AbortChunk(reason=CANCELLED)
            return
        reason: FinishReason = "stop"
        if status is MessageStatus.ERROR:
            text, code, retryable = self._failure()
            metadata = replace(metadata, code=code, retryable=retryable)
            reason = _REASONS.get(code, "error")
            # a client looks at nothing behind the error
            yield MessageMetadataChunk(message_metadata=metadata)
            yield FinishStepChunk()
            yield ErrorChunk(error_text=text)
        else:
            yield FinishStepChunk()
        yield FinishChunk(finish_reason=reason, message_metadata=metadata)

    def _failure(self) -> tuple[str, str, bool]:
        """In words safe to show, its code, and whether asking again could help."""
        if self._error is not None:
            return self._error.error, self._error.code, self._error.retryable
        if self._known_error is not None:
            return self._known_error.detail, self._known_error.code, self._known_error.retryable
        return FAILED, ErrorCode.INTERNAL, ErrorCode.INTERNAL.retryable

    def end(self, code: CloseCode) -> Iterator[Chunk]:
        """What tells a client that there is no more, where the message's own end did not."""
        if self.is_over:
            return
        yield from self._close_text()
        if code is CloseCode.FINISHED:
            yield FinishStepChunk()
            yield FinishChunk(finish_reason="other", message_metadata=MessageMetadata())
        else:
            yield ErrorChunk(error_text=WITHDRAWN if code is CloseCode.WITHDRAWN else BROKEN_OFF)


def _job_status(status: str) -> JobStatus:
    """Of a message's job, as far as the message's own status tells."""
    return JobStatus(status) if MessageStatus(status) in FINAL or status == "building" else JobStatus.PENDING


class StreamTelling:
    """To a `DefaultChatTransport`; units are blocks."""

    def __init__(self, row: Message, *, resets: bool) -> None:
        self._message = UiMessage(row, resets=resets)

    def is_over(self) -> bool:
        return self._message.is_over

    def begin(self) -> Sequence[bytes]:
        return _blocks(self._message.begin())

    def tell(self, frame: Frame) -> Sequence[bytes]:
        return _blocks(self._message.tell(events.decode(frame.payload)))

    def end(self, code: CloseCode) -> Sequence[bytes]:
        return [*_blocks(self._message.end(code)), chunks.DONE]

    def job(self) -> UUID | None:
        return self._message.job_id

    def tell_job(self, payload: bytes) -> Sequence[bytes]:
        return _blocks(self._message.tell_job(payload))


def _blocks(told: Iterable[Chunk]) -> list[bytes]:
    return [b"data: %b\n\n" % chunks.encode(chunk) for chunk in told]


class SocketTelling:
    """To one request of a `WebSocketChatTransport`; units are frames, their chunks numbered without a gap."""

    def __init__(self, row: Message, request_id: str, asked: Literal["send", "resume"]) -> None:
        self._message = UiMessage(row, resets=True)  # no version before 7 has this transport
        self._request_id = request_id
        self._asked = asked
        self._sequence = 0

    def is_over(self) -> bool:
        return self._message.is_over

    def begin(self) -> Sequence[bytes]:
        told = self._frames(self._message.begin())
        return [started(self._request_id), *told] if self._asked == "resume" else told

    def tell(self, frame: Frame) -> Sequence[bytes]:
        return self._frames(self._message.tell(events.decode(frame.payload)))

    def end(self, code: CloseCode) -> Sequence[bytes]:
        if code is CloseCode.WITHDRAWN:
            return [failed(self._request_id, WITHDRAWN)]
        if code is not CloseCode.FINISHED:
            return [failed(self._request_id, BROKEN_OFF)]
        return [*self._frames(self._message.end(code)), ended(self._request_id)]

    def job(self) -> UUID | None:
        return self._message.job_id

    def tell_job(self, payload: bytes) -> Sequence[bytes]:
        return self._frames(self._message.tell_job(payload))

    def _frames(self, told: Iterable[Chunk]) -> list[bytes]:
        frames = []
        for chunk in told:
            frames.append(
                b'{"type":"chunk","requestId":%b,"sequence":%d,"chunk":%b}'
                % (msgspec.json.encode(self._request_id), self._sequence, chunks.encode(chunk))
            )
            self._sequence += 1
        return frames


def started(request_id: str) -> bytes:
    """What is resumed is there."""
    return _answer("start", request_id)


def ended(request_id: str) -> bytes:
    return _answer("end", request_id)


def no_active(request_id: str) -> bytes:
    """There is nothing to resume."""
    return _answer("no-active", request_id)


def failed(request_id: str, text: str) -> bytes:
    """The request comes to nothing."""
    return _answer("error", request_id, errorText=text)


def _answer(kind: str, request_id: str, **more: str) -> bytes:
    return msgspec.json.encode({"type": kind, "requestId": request_id, **more})
