"""Bytes of a chat-completion stream -> text as it comes, and the round's calls at its end. Pure: no clock, no I/O.

The wire: lines ``data: {chunk}``, an empty line between them, ``data: [DONE]`` at the end, which may be missing. A tool
call's id and name come in the first fragment of its index only, its arguments in pieces cut anywhere, several calls
interleaved. The chunk that carries the usage has no choices.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeAlias

import msgspec

from shared.events import Usage


class Text(msgspec.Struct, frozen=True):
    """Text to show."""

    content: str


class RefusalText(msgspec.Struct, frozen=True):
    """Text to show, in which the model declines."""

    content: str


Output: TypeAlias = Text | RefusalText


class DraftCall(msgspec.Struct):
    """A tool call as it is being written. `arguments` is raw text; `too_long` where it was cut."""

    name: str = ""
    arguments: str = ""
    too_long: bool = False


class MalformedStream(Exception):
    """The provider sent something that is no chat-completion stream."""


class ProviderLine(Exception):
    """The provider sent an error inside the stream."""

    def __init__(self, kind: str, code: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.code = code


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _CallFragment(msgspec.Struct):
    index: int = 0
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallFragment] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Error(msgspec.Struct):
    type: str | None = None
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | str | None = None


_decoder: Final = msgspec.json.Decoder(_Chunk)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
MAX_LINE_BYTES: Final = 4 * 1024 * 1024


class Assembler:
    """One round's stream. `feed` takes bytes cut anywhere; once it ended, the attributes tell what it came to."""

    def __init__(self, *, max_text_bytes: int, max_arguments_bytes: int, max_calls: int) -> None:
        """`max_text_bytes`: UTF-8 bytes of text taken; what comes after them sets `is_too_long` and is left out."""
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.calls: list[DraftCall] = []
        self.refused = False
        self.is_too_long = False
        self.is_done = False
        self.has_text = False
        self._room = max_text_bytes
        self._max_arguments_bytes = max_arguments_bytes
        self._max_calls = max_calls
        self._by_index: dict[int, DraftCall] = {}
        self._rest = b""

    def feed(self, data: bytes) -> list[Output]:
        """Raises `MalformedStream` or `ProviderLine`."""
        outputs: list[Output] = []
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise MalformedStream("a line without an end")
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[5:].strip(), outputs)
        return outputs

    def end(self) -> list[Output]:
        """The stream is over; its last line may lack its end. Raises as `feed`."""
        outputs: list[Output] = []
        rest, self._rest = self._rest, b""
        if rest.startswith(b"data:"):
            self._take(rest[5:].strip(), outputs)
        return outputs

    def _take(self, payload: bytes, outputs: list[Output]) -> None:
        if payload == b"[DONE]":
            self.is_done = True
            return
        if self.is_done or not payload:
            return
        chunk = _decode(payload)
        if chunk.error is not None:
            error = _Error() if isinstance(chunk.error, str) else chunk.error
            raise ProviderLine(error.type or "", str(error.code or ""))
        if chunk.usage is not None:
            self.usage = Usage(
                prompt_tokens=chunk.usage.prompt_tokens,
                completion_tokens=chunk.usage.completion_tokens,
                total_tokens=chunk.usage.total_tokens,
            )
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.delta is None:
            return
        if choice.delta.content and (text := self._fit(choice.delta.content)):
            outputs.append(Text(text))
        if choice.delta.refusal and (text := self._fit(choice.delta.refusal)):
            self.refused = True
            outputs.append(RefusalText(text))
        for fragment in choice.delta.tool_calls or ():
            self._take_fragment(fragment)

    def _fit(self, text: str) -> str:
        text = _UNSTORABLE.sub("", text)
        size = len(text) if text.isascii() else len(text.encode())
        if size > self._room:
            self.is_too_long = True
            text = text.encode()[: self._room].decode(errors="ignore")
            size = self._room
        self._room -= size
        self.has_text = self.has_text or bool(text)
        return text

    def _take_fragment(self, fragment: _CallFragment) -> None:
        call = self._by_index.get(fragment.index)
        if call is None:
            if len(self.calls) >= self._max_calls:
                return
            call = self._by_index[fragment.index] = DraftCall()
            self.calls.append(call)
        if fragment.function is None:
            return
        if fragment.function.name:
            call.name += _UNSTORABLE.sub("", fragment.function.name)[:200]
        if fragment.function.arguments:
            if len(call.arguments) + len(fragment.function.arguments) > self._max_arguments_bytes:
                call.too_long = True
            else:
                call.arguments += _UNSTORABLE.sub("", fragment.function.arguments)


def _decode(payload: bytes) -> _Chunk:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        pass
    # msgspec refuses lone surrogates, which some servers send where they cut an emoji; they are stripped later
    try:
        loose: Any = json.loads(payload.decode("utf-8"))
        return msgspec.convert(loose, _Chunk)
    except (ValueError, msgspec.ValidationError, RecursionError):
        raise MalformedStream("a line that is not a chunk") from None
