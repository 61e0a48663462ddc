"""A message told in the words of OpenAI's protocols: as a response's events, and as a completion's chunks. Pure.

Of a response, `numbers` says what an event's sequence number means and `story` what becomes of a text that is replaced. The
text is the first output item, tool calls are the following ones, in their order: call k has the indices 1 + 2k and 2 + 2k.
A telling that goes on after a number tells what a telling from the start would have told behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from api.close_codes import CloseCode
from api.protocols.openai import numbers, objects
from api.protocols.openai.numbers import MOST_CHARS, MOST_STEPS, NOTHING, OPENING_EVENTS, STEPS_OF_A_CALL, Told
from api.protocols.openai.objects import (
    ArgumentsDelta,
    ArgumentsDone,
    Chunk,
    ChunkChoice,
    ChunkDelta,
    Ending,
    ErrorEvent,
    Event,
    ItemEvent,
    OutputText,
    PartEvent,
    ResponseEvent,
    TextDelta,
    TextDone,
)
from api.protocols.openai.story import Story
from api.wire import Frame
from shared import events
from shared.events import Finalized, Snapshot, ToolCall
from shared.lifecycle import ErrorCode
from shared.records import Message, MessageError

WITHDRAWN: Final = ("not_found", "Your access to this project was withdrawn.")
BEGUN_ANEW: Final = ("answer_begun_anew", "The answer was begun anew with other words: ask for the project's messages.")
RESTARTS: Final = ("server_restarts", "The server restarts; the answer goes on without this stream.")
LOST: Final = ("stream_lost", "The stream ended before the answer did.")

_END_OF_CHUNKS: Final = b"data: [DONE]\n\n"


class _Telling:
    """What both have in common: a story that frames make, or the row of a message that is final."""

    def __init__(self, message: Message, story: Story) -> None:
        self._message = message
        self._story = story
        self._is_over = False

    def is_over(self) -> bool:
        return self._is_over

    def _hear(self, frame: Frame) -> Ending | None:
        """What `frame` ends the message with."""
        event = events.decode(frame.payload)
        self._story.hear(event)
        if not isinstance(event, Finalized) or event.status == "building":
            return None
        return Ending(event.status, self._error() if event.status == "error" else None, event.usage, event.timing)

    def _error(self) -> MessageError | None:
        told = self._story.error
        if told is None:
            return None
        try:
            return MessageError(code=ErrorCode(told.code), detail=told.error, retryable=told.retryable)
        except ValueError:
            return None

    def _hear_row(self, row: Message) -> Ending:
        """The same from a row that is final."""
        snapshot = Snapshot(
            id=f"{max(1, row.attempt)}-1",
            message_id=str(row.id),
            ts=0,
            content=row.content,
            status=row.status.value,
            tool_calls=tuple(row.tool_calls),
            reason="restored",
        )
        self._story.hear(snapshot)
        return objects.ending_of(row)


# --- responses --------------------------------------------------------------------------------------------------


class ResponseTelling(_Telling):
    """The events of a response, as blocks of an event stream, behind those that `told` says."""

    def __init__(self, message: Message, *, told: Told = NOTHING, shown: str | None = "") -> None:
        """`told.line` is the whole number of the attempt; `shown` its text as far as was told, None where it is not known."""
        super().__init__(message, Story(chars=told.chars, line=told.line, shown=shown, most_chars=MOST_CHARS))
        self._opening_told = told.opening
        self._steps = told.steps
        self._end_told = told.end

    def begin(self) -> Sequence[bytes]:
        return [*self._open(2)]

    def tell(self, frame: Frame) -> Sequence[bytes]:
        ending = self._hear(frame)
        return [*self._open(OPENING_EVENTS), *self._body(), *(self._end(ending) if ending is not None else ())]

    def tell_row(self, row: Message) -> Sequence[bytes]:
        """All that is left of a message that is final."""
        ending = self._hear_row(row)
        return [*self._open(OPENING_EVENTS), *self._body(), *self._end(ending)]

    def end(self, code: CloseCode) -> Sequence[bytes]:
        if code is not CloseCode.WITHDRAWN:
            return ()  # without its last event the client comes back, behind the last number that it has
        kind, words = WITHDRAWN
        return (_block(ErrorEvent(sequence_number=numbers.LARGEST, code=kind, message=words)),)

    def _open(self, count: int) -> Iterator[bytes]:
        """The first `count` events of the opening, those that were not told."""
        message = self._message
        makers: tuple[Callable[[int], Event], ...] = (
            lambda number: ResponseEvent(
                type="response.created", sequence_number=number, response=objects.unfinished(message, "queued")
            ),
            lambda number: ResponseEvent(
                type="response.queued", sequence_number=number, response=objects.unfinished(message, "queued")
            ),
            lambda number: ResponseEvent(
                type="response.in_progress", sequence_number=number, response=objects.unfinished(message, "in_progress")
            ),
            lambda number: ItemEvent(
                type="response.output_item.added",
                sequence_number=number,
                output_index=0,
                item=objects.text_item(message, None, "in_progress"),
            ),
            lambda number: PartEvent(
                type="response.content_part.added",
                sequence_number=number,
                item_id=objects.text_item_id(message),
                part=OutputText(text=""),
            ),
        )
        for index in range(self._opening_told, count):
            yield _block(makers[index](numbers.of_opening(index)))
        self._opening_told = max(self._opening_told, count)

    def _body(self) -> Iterator[bytes]:
        story = self._story
        if text := story.owed():
            yield _block(
                TextDelta(
                    sequence_number=numbers.of_body(self._steps, story.chars, story.line),
                    item_id=objects.text_item_id(self._message),
                    delta=text,
                )
            )
        while self._steps < min(_steps_of(story.calls), MOST_STEPS):
            call, step = divmod(self._steps, STEPS_OF_A_CALL)
            self._steps += 1
            number = numbers.of_body(self._steps, story.chars, story.line)
            yield _block(_step(story.calls[call], call, step, number))

    def _end(self, ending: Ending) -> Iterator[bytes]:
        story, message = self._story, self._message
        response = objects.finished(message, ending, story.text, story.calls)
        item_id, text = objects.text_item_id(message), story.text
        kind = {"completed": "completed", "failed": "failed"}.get(response.status, "incomplete")
        told: tuple[Callable[[int], Event], ...] = (
            lambda number: TextDone(sequence_number=number, item_id=item_id, text=text),
            lambda number: PartEvent(
                type="response.content_part.done", sequence_number=number, item_id=item_id, part=OutputText(text=text)
            ),
            lambda number: ItemEvent(
                type="response.output_item.done", sequence_number=number, output_index=0, item=response.output[0]
            ),
            lambda number: ResponseEvent(type=f"response.{kind}", sequence_number=number, response=response),
        )
        for index in range(self._end_told, len(told)):
            yield _block(told[index](numbers.of_end(index)))
        self._is_over = True


def _steps_of(calls: Sequence[ToolCall]) -> int:
    """How many steps can be told: of one call after the other, as they are made."""
    steps = 0
    for call in calls:
        if call.state == "started":
            return steps + STEPS_OF_A_CALL - 2
        steps += STEPS_OF_A_CALL
    return steps


def _step(call: ToolCall, index: int, step: int, number: int) -> Event:
    made = objects.function_call(call)
    at = 1 + 2 * index
    match step:
        case 0:
            item = msgspec.structs.replace(made, arguments="", status="in_progress")
            return ItemEvent(type="response.output_item.added", sequence_number=number, output_index=at, item=item)
        case 1:
            return ArgumentsDelta(sequence_number=number, item_id=made.id, output_index=at, delta=made.arguments)
        case 2:
            return ArgumentsDone(
                sequence_number=number, item_id=made.id, output_index=at, name=made.name, arguments=made.arguments
            )
        case 3:
            return ItemEvent(type="response.output_item.done", sequence_number=number, output_index=at, item=made)
        case _:
            kind = "response.output_item.added" if step == 4 else "response.output_item.done"
            result = objects.function_call_output(call)
            return ItemEvent(type=kind, sequence_number=number, output_index=at + 1, item=result)


def _block(event: Event) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), msgspec.json.encode(event))


# --- completions ------------------------------------------------------------------------------------------------


class ChunkTelling(_Telling):
    """The chunks of a completion. They can only append: where the text turns out to be another, an error ends them."""

    def __init__(self, message: Message, *, include_usage: bool) -> None:
        super().__init__(message, Story(most_chars=2**63))
        self._include_usage = include_usage

    def begin(self) -> Sequence[bytes]:
        return (self._chunk(ChunkDelta(role="assistant", content="")),)

    def tell(self, frame: Frame) -> Sequence[bytes]:
        ending = self._hear(frame)
        return [*self._body(), *(self._end(ending) if ending is not None and not self._is_over else ())]

    def tell_row(self, row: Message) -> Sequence[bytes]:
        """All of a message that is final."""
        ending = self._hear_row(row)
        return [*self._body(), *self._end(ending)]

    def end(self, code: CloseCode) -> Sequence[bytes]:
        if self._is_over:
            return ()
        match code:
            case CloseCode.WITHDRAWN:
                return (error_block(*WITHDRAWN),)
            case CloseCode.RESTART:
                return (error_block(*RESTARTS),)
            case _:
                return (error_block(*LOST),)

    def _body(self) -> Iterator[bytes]:
        if text := self._story.owed():
            yield self._chunk(ChunkDelta(content=text))
        if self._story.differs:
            yield error_block(*BEGUN_ANEW)
            self._is_over = True

    def _end(self, ending: Ending) -> Iterator[bytes]:
        self._is_over = True
        reason = objects.finish_reason(ending)
        if not self._story.is_whole:  # it ended before it came to what was shown
            yield error_block(*BEGUN_ANEW)
        elif reason is None:
            yield error_block(*failure_of(ending))
        else:
            yield self._chunk(ChunkDelta(), reason)
            if self._include_usage:
                yield self._encoded(usage=objects.completion_usage(ending.usage))
            yield _END_OF_CHUNKS

    def _chunk(self, delta: ChunkDelta, finish_reason: str | None = None) -> bytes:
        return self._encoded(ChunkChoice(delta=delta, finish_reason=finish_reason))

    def _encoded(self, *choices: ChunkChoice, usage: objects.CompletionUsage | None = None) -> bytes:
        message = self._message
        chunk = Chunk(
            id=objects.completion_id(message.id),
            created=int(message.created_at.timestamp()),
            model=message.model or "",
            choices=choices,
            usage=usage,
        )
        return b"data: %b\n\n" % msgspec.json.encode(chunk)


def failure_of(ending: Ending) -> tuple[str, str]:
    """Code and words of an ending that is no completion."""
    if ending.status == "cancelled":
        return "cancelled", "The answer was cancelled."
    if ending.error is None:
        return "internal", "The answer failed."
    return ending.error.code.value, ending.error.detail


def error_block(code: str, words: str) -> bytes:
    """What makes a client's iteration raise, in the midst of chunks."""
    error = {"message": words, "type": "server_error", "param": None, "code": code}
    return b"data: %b\n\n" % msgspec.json.encode({"error": error})
