"""The chat completions wire as OpenAI speaks it: requests decoded into types, answers encoded chunk by chunk.

Everything of a chunk that is the same for the whole answer is encoded once, so that a chunk costs one small JSON string.
Only what the scripted model looks at is in the request types; other fields of a request are ignored, as a model does.
"""

from typing import Any, Final

import msgspec

DONE: Final = b"data: [DONE]\n\n"

_encode = msgspec.json.encode


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a message whose content is a list; only text parts are read."""

    type: str
    text: str = ""


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """What an assistant's earlier tool call asked for; `arguments` is the text as it was streamed, JSON or not."""

    name: str = ""
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    function: FunctionCall


class Message(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The message's text, whichever form its content has."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or () if part.type == "text")


class OfferedFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class OfferedTool(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    function: OfferedFunction


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    messages: list[Message]
    tools: list[OfferedTool] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer, as they go over the wire."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


_decode_request = msgspec.json.Decoder(ChatRequest).decode


def parse_request(body: bytes) -> ChatRequest:
    """The request in `body`. Raises msgspec.DecodeError (of which ValidationError is one) on anything else."""
    return _decode_request(body)


class ChunkEncoder:
    """Encodes the chunks of one streamed answer, each as the bytes of its `data:` line and the blank line after it."""

    def __init__(self, *, completion_id: str, created_s: int, model: str, with_usage: bool) -> None:
        self._head = (
            b'data: {"id":%s,"object":"chat.completion.chunk","created":%d,"model":%s,"system_fingerprint":"fp_scripted",'
            % (_encode(completion_id), created_s, _encode(model))
        )
        self._before_delta = self._head + b'"choices":[{"index":0,"delta":{'
        # With include_usage every chunk but the last says that the usage is still unknown.
        usage = b',"usage":null' if with_usage else b""
        self._after_delta = b'},"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._after_finish = b"}]" + usage + b"}\n\n"

    def role(self, *, with_text: bool) -> bytes:
        """The first chunk; `with_text` is whether text follows, and not tool calls alone."""
        return self._delta(b'"role":"assistant","content":' + (b'""' if with_text else b"null") + b',"refusal":null')

    def text(self, piece: str) -> bytes:
        return self._delta(b'"content":' + _encode(piece))

    def refusal(self, piece: str) -> bytes:
        return self._delta(b'"refusal":' + _encode(piece))

    def tool_opening(self, index: int, call_id: str, name: str) -> bytes:
        """The first fragment of a tool call, the only one that bears its id and name."""
        return self._delta(
            b'"tool_calls":[{"index":%d,"id":%s,"type":"function","function":{"name":%s,"arguments":""}}]'
            % (index, _encode(call_id), _encode(name))
        )

    def tool_arguments(self, index: int, piece: str) -> bytes:
        return self._delta(b'"tool_calls":[{"index":%d,"function":{"arguments":%s}}]' % (index, _encode(piece)))

    def finish(self, reason: str) -> bytes:
        return (
            self._head
            + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":'
            + _encode(reason)
            + self._after_finish
        )

    def usage(self, usage: Usage) -> bytes:
        return self._head + b'"choices":[],"usage":' + _encode(usage) + b"}\n\n"

    def _delta(self, fields: bytes) -> bytes:
        return self._before_delta + fields + self._after_delta


class AnsweredCall(msgspec.Struct, kw_only=True):
    """A tool call of an answer that is sent whole; `arguments` grows as its fragments come."""

    id: str
    name: str
    arguments: str = ""


def whole_answer(
    *,
    completion_id: str,
    created_s: int,
    model: str,
    text: str | None,
    refusal: str | None,
    calls: list[AnsweredCall],
    finish_reason: str | None,
    usage: Usage | None,
) -> bytes:
    """The body of an answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": refusal}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    answer: dict[str, Any] = {
        "id": completion_id,
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "system_fingerprint": "fp_scripted",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
    }
    if usage is not None:
        answer["usage"] = msgspec.to_builtins(usage)
    return _encode(answer)


_ERROR_KINDS: Final = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout", None),
    409: ("conflict", None),
    429: ("requests", "rate_limit_exceeded"),
}


def error_body(status: int, message: str, *, more: dict[str, Any] | None = None) -> bytes:
    """The body of an HTTP error; `more` overrides or adds to the fields inside `error`."""
    kind, code = _ERROR_KINDS.get(status, ("server_error", None))
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code, **(more or {})}})
