"""What clients of OpenAI's API are shown of a message: responses, completions, their items and events, as JSON. Pure.

The names are OpenAI's (API reference, "Responses" and "Chat"). What we have nothing for is there with the value that says so,
since clients with strict types expect it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from shared.events import Timing, ToolCall, Usage
from shared.lifecycle import ErrorCode, MessageStatus
from shared.records import Message, MessageError

RESPONSE_PREFIX: Final = "resp_"

ResponseStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    pass


# --- items ------------------------------------------------------------------------------------------------------


class OutputText(_Shown, frozen=True, kw_only=True, tag="output_text", tag_field="type"):
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(_Shown, frozen=True, kw_only=True, tag="message", tag_field="type"):
    """The answer's text, all of it: the first item, whatever tools were called between its parts."""

    id: str
    status: ItemStatus
    content: tuple[OutputText, ...]
    role: Literal["assistant"] = "assistant"


class FunctionCall(_Shown, frozen=True, kw_only=True, tag="function_call", tag_field="type"):
    """A tool call that the server makes by itself; `arguments` is JSON."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus = "completed"


class FunctionCallOutput(_Shown, frozen=True, kw_only=True, tag="function_call_output", tag_field="type"):
    """What came of it; `output` is JSON: `{success, finalContent?, error?, jobId?}`."""

    id: str
    call_id: str
    output: str
    status: ItemStatus = "completed"


Item: TypeAlias = OutputMessage | FunctionCall | FunctionCallOutput


class InputText(_Shown, frozen=True, kw_only=True, tag="input_text", tag_field="type"):
    text: str


class InputMessage(_Shown, frozen=True, kw_only=True, tag="message", tag_field="type"):
    id: str
    content: tuple[InputText, ...]
    role: Literal["user"] = "user"
    status: ItemStatus = "completed"


class InputItems(_Shown, frozen=True, kw_only=True):
    """What the response answers: one user's message."""

    data: tuple[InputMessage, ...]
    first_id: str
    last_id: str
    has_more: bool = False
    object: Literal["list"] = "list"


# --- responses --------------------------------------------------------------------------------------------------


class Conversation(_Shown, frozen=True, kw_only=True):
    """The project; its id is the project's."""

    id: str


class ResponseError(_Shown, frozen=True, kw_only=True):
    """`code` is one of OpenAI's, `type` ours."""

    code: str
    message: str
    type: str | None = None


class IncompleteDetails(_Shown, frozen=True, kw_only=True):
    reason: str | None


class InputTokensDetails(_Shown, frozen=True, kw_only=True):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(_Shown, frozen=True, kw_only=True):
    reasoning_tokens: int = 0


class ResponseUsage(_Shown, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()


class TextFormat(_Shown, frozen=True, kw_only=True):
    type: Literal["text"] = "text"


class TextSettings(_Shown, frozen=True, kw_only=True):
    format: TextFormat = TextFormat()


class Response(_Shown, frozen=True, kw_only=True):
    """An assistant's message. Every one is of background mode: it goes on without its client."""

    id: str
    created_at: int
    status: ResponseStatus
    model: str
    conversation: Conversation
    output: tuple[Item, ...]
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: ResponseUsage | None = None
    metadata: dict[str, str] = {}
    object: Literal["response"] = "response"
    background: bool = True
    store: bool = True
    instructions: None = None
    max_output_tokens: None = None
    max_tool_calls: None = None
    parallel_tool_calls: bool = False
    previous_response_id: None = None
    reasoning: None = None
    temperature: None = None
    text: TextSettings = TextSettings()
    tool_choice: str = "auto"
    tools: list[Any] = []
    top_p: None = None
    truncation: str = "disabled"
    user: None = None


class Ending(NamedTuple):
    """How a message ended. `error` None with `error` as the status: it is not known here."""

    status: Literal["success", "error", "cancelled"]
    error: MessageError | None
    usage: Usage | None
    timing: Timing | None


_INCOMPLETE: Final = {ErrorCode.LENGTH: "max_output_tokens", ErrorCode.CONTENT_FILTER: "content_filter"}
"""A message that ended so is no failure to clients: its text was cut."""
_ERROR_CODES: Final = {
    ErrorCode.PROVIDER_RATE_LIMITED: "rate_limit_exceeded",
    ErrorCode.PROVIDER_QUOTA: "rate_limit_exceeded",
    ErrorCode.CONTEXT_TOO_LONG: "invalid_prompt",
    ErrorCode.PROVIDER_REJECTED: "invalid_prompt",
    ErrorCode.REFUSAL: "invalid_prompt",
}
"""Those of OpenAI's that come near ours; the others are a `server_error`."""
_UNKNOWN_ERROR: Final = ResponseError(code="server_error", message="The answer failed; retrieve it for the reason.")


def response_id(message_id: UUID) -> str:
    return f"{RESPONSE_PREFIX}{message_id}"


def text_item_id(message: Message) -> str:
    return f"msg_{message.id}"


def unfinished(message: Message, status: Literal["queued", "in_progress"], output: tuple[Item, ...] = ()) -> Response:
    """`message` while it is written."""
    return Response(**_facts(message), status=status, output=output)


def finished(message: Message, ending: Ending, text: str, calls: Sequence[ToolCall]) -> Response:
    """`message` once it has ended, with this text and these calls."""
    error = ending.error
    reason = _INCOMPLETE.get(error.code) if error is not None else None
    status: ResponseStatus
    match ending.status:
        case "success":
            status = "completed"
        case "cancelled":
            status = "cancelled"
        case "error":
            status = "failed" if reason is None else "incomplete"
    is_completed = status == "completed"
    return Response(
        **_facts(message),
        status=status,
        output=output(message, text, calls, "completed" if is_completed else "incomplete"),
        completed_at=_completed_at(message, ending.timing) if is_completed else None,
        error=_error(error) if status == "failed" else None,
        incomplete_details=None if reason is None else IncompleteDetails(reason=reason),
        usage=usage_of(ending.usage),
    )


def of_row(message: Message) -> Response:
    """The row as a response: what it knows, which of an unfinished one are the stored rounds."""
    match message.status:
        case MessageStatus.PENDING if message.attempt == 0:
            return unfinished(message, "queued")
        case MessageStatus.PENDING | MessageStatus.BUILDING:
            return unfinished(
                message, "in_progress", output(message, message.content, message.tool_calls, "in_progress")
            )
        case MessageStatus.SUCCESS | MessageStatus.ERROR | MessageStatus.CANCELLED:
            return finished(message, ending_of(message), message.content, message.tool_calls)


def ending_of(message: Message) -> Ending:
    """Of a row that is final."""
    status: Literal["success", "error", "cancelled"]
    match message.status:
        case MessageStatus.SUCCESS:
            status = "success"
        case MessageStatus.CANCELLED:
            status = "cancelled"
        case _:
            status = "error"
    return Ending(status, message.error, message.usage, message.timing)


def output(message: Message, text: str, calls: Sequence[ToolCall], status: ItemStatus) -> tuple[Item, ...]:
    """The items in the order of their indices: the text, then each call that was made with what came of it."""
    items: list[Item] = [text_item(message, text, status)]
    for call in calls:
        if call.state != "started":
            items += (function_call(call), function_call_output(call))
    return tuple(items)


def text_item(message: Message, text: str | None, status: ItemStatus) -> OutputMessage:
    """`text` None: its part is not there yet."""
    content = () if text is None else (OutputText(text=text),)
    return OutputMessage(id=text_item_id(message), status=status, content=content)


def function_call(call: ToolCall) -> FunctionCall:
    return FunctionCall(
        id=f"fc_{call.tool_call_id}", call_id=call.tool_call_id, name=call.name, arguments=arguments_of(call)
    )


def function_call_output(call: ToolCall) -> FunctionCallOutput:
    result = {"success": call.state == "succeeded"} | {
        name: value
        for name, value in (("finalContent", call.final_content), ("error", call.error), ("jobId", call.job_id))
        if value is not None
    }
    return FunctionCallOutput(
        id=f"fco_{call.tool_call_id}", call_id=call.tool_call_id, output=msgspec.json.encode(result).decode()
    )


def arguments_of(call: ToolCall) -> str:
    """In one way, however the JSON was kept; what was no JSON is as the model wrote it."""
    if isinstance(call.arguments, str):
        return call.arguments
    return msgspec.json.encode(call.arguments, order="sorted").decode()


def usage_of(usage: Usage | None) -> ResponseUsage | None:
    if usage is None:
        return None
    return ResponseUsage(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )


def _facts(message: Message) -> dict[str, Any]:
    project_id = str(message.project_id)
    return {
        "id": response_id(message.id),
        "created_at": int(message.created_at.timestamp()),
        "model": message.model or "",
        "conversation": Conversation(id=project_id),
        "metadata": {"project": project_id},
    }


def _completed_at(message: Message, timing: Timing | None) -> int | None:
    return None if timing is None else int(message.created_at.timestamp() + timing.total_ms / 1000)


def _error(error: MessageError | None) -> ResponseError:
    if error is None:
        return _UNKNOWN_ERROR
    return ResponseError(code=_ERROR_CODES.get(error.code, "server_error"), message=error.detail, type=error.code.value)


# --- events of a response ---------------------------------------------------------------------------------------


class ResponseEvent(_Shown, frozen=True, kw_only=True):
    type: str
    sequence_number: int
    response: Response


class ItemEvent(_Shown, frozen=True, kw_only=True):
    type: str
    sequence_number: int
    output_index: int
    item: Item


class PartEvent(_Shown, frozen=True, kw_only=True):
    type: str
    sequence_number: int
    item_id: str
    part: OutputText
    output_index: int = 0
    content_index: int = 0


class TextDelta(_Shown, frozen=True, kw_only=True):
    type: str = "response.output_text.delta"
    sequence_number: int
    item_id: str
    delta: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[Any] = []


class TextDone(_Shown, frozen=True, kw_only=True):
    type: str = "response.output_text.done"
    sequence_number: int
    item_id: str
    text: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[Any] = []


class ArgumentsDelta(_Shown, frozen=True, kw_only=True):
    type: str = "response.function_call_arguments.delta"
    sequence_number: int
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(_Shown, frozen=True, kw_only=True):
    type: str = "response.function_call_arguments.done"
    sequence_number: int
    item_id: str
    output_index: int
    name: str
    arguments: str


class ErrorEvent(_Shown, frozen=True, kw_only=True):
    type: str = "error"
    sequence_number: int
    code: str
    message: str
    param: str | None = None


Event: TypeAlias = (
    ResponseEvent | ItemEvent | PartEvent | TextDelta | TextDone | ArgumentsDelta | ArgumentsDone | ErrorEvent
)


# --- completions ------------------------------------------------------------------------------------------------


class CompletionUsage(_Shown, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionMessage(_Shown, frozen=True, kw_only=True):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(_Shown, frozen=True, kw_only=True):
    message: CompletionMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class Completion(_Shown, frozen=True, kw_only=True):
    """An answer's text; what tools did stands in the project."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: CompletionUsage | None
    object: Literal["chat.completion"] = "chat.completion"


class ChunkDelta(_Shown, frozen=True, kw_only=True, omit_defaults=True):
    role: str | None = None
    content: str | None = None


class ChunkChoice(_Shown, frozen=True, kw_only=True):
    delta: ChunkDelta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(_Shown, frozen=True, kw_only=True):
    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    usage: CompletionUsage | None = None
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


def completion_id(message_id: UUID) -> str:
    return f"chatcmpl-{message_id}"


def finish_reason(ending: Ending) -> str | None:
    """None where the answer did not come to an end that this protocol knows: it is an error then."""
    if ending.status == "success":
        return "stop"
    if ending.error is not None and ending.error.code in _INCOMPLETE:
        return "length" if ending.error.code is ErrorCode.LENGTH else "content_filter"
    return None


def completion(message: Message, reason: str) -> Completion:
    return Completion(
        id=completion_id(message.id),
        created=int(message.created_at.timestamp()),
        model=message.model or "",
        choices=(Choice(message=CompletionMessage(content=message.content), finish_reason=reason),),
        usage=completion_usage(message.usage),
    )


def completion_usage(usage: Usage | None) -> CompletionUsage | None:
    if usage is None:
        return None
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
    )


# --- models -----------------------------------------------------------------------------------------------------


class Model(_Shown, frozen=True, kw_only=True):
    id: str
    owned_by: str
    created: int = 0
    object: Literal["model"] = "model"


class Models(_Shown, frozen=True, kw_only=True):
    data: tuple[Model, ...]
    object: Literal["list"] = "list"
