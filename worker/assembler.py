"""Bytes of a chat-completion stream -> text as it comes, and the round's calls at its end. Pure: no clock, no I/O.

The wire: lines ``data: {chunk}``, an empty line between them, ``data: [DONE]`` at the end, which may be missing. A tool
call's id and name come in the first fragment of its index only, its arguments in pieces cut anywhere, several calls
interleaved. The chunk that carries the usage has no choices.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from shared.events import Usage
from shared.strict_json import NOT_TEXT


class Text(msgspec.Struct, frozen=True):
    """Text to show."""

    content: str


class RefusalText(msgspec.Struct, frozen=True):
    """Text to show, in which the model declines."""

    content: str


Output: TypeAlias = Text | RefusalText


class DraftCall(msgspec.Struct, frozen=True):
    """A tool call as it was written. `arguments` is raw text; `too_long` where it was cut."""

    name: str
    arguments: str
    too_long: bool


class MalformedStream(Exception):
    """The provider sent something that is no chat-completion stream."""


class ProviderLine(Exception):
    """The provider sent an error inside the stream."""

    def __init__(self, kind: str, code: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.code = code


MOST_PARTS: Final = 1024
"""Of one line: its choices, its fragments of calls."""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _CallFragment(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[_CallFragment], msgspec.Meta(max_length=MOST_PARTS)] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    """Figures, or whatever a server takes for one: no answer fails for that."""

    prompt_tokens: Any = 0
    completion_tokens: Any = 0
    total_tokens: Any = 0


class _Error(msgspec.Struct):
    type: str | None = None
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(max_length=MOST_PARTS)] | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None


_decoder: Final = msgspec.json.Decoder(_Chunk)
MAX_LINE_BYTES: Final = 4 * 1024 * 1024
MAX_STREAM_BYTES: Final = 128 * 1024 * 1024
"""Of one answer on the wire: a megabyte of text, a token a line, has half of it. This ends what carries neither text nor
calls, which have limits of their own."""
MAX_NAME_CHARS: Final = 200
MOST_TOKENS: Final = 1_000_000_000
"""Of one answer, so that no provider's figure overflows a sum of ours."""


class _Pieces:
    """Text that comes in pieces, without what neither Postgres nor UTF-8 can hold: NUL and lone surrogates.

    Some servers cut a character outside the basic plane into two surrogates, one a piece: these are put together again.
    """

    __slots__ = ("_high",)

    def __init__(self) -> None:
        self._high = ""

    def take(self, piece: str) -> str:
        """What of the text so far became storable with `piece`."""
        text, self._high = self._high + piece, ""
        if NOT_TEXT.search(text) is None:
            return text
        text = text.replace("\x00", "")
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


class _Writing:
    """A tool call while its fragments come."""

    def __init__(self, call_id: str | None, max_arguments_bytes: int) -> None:
        self.call_id = call_id
        self._name = ""
        self._name_pieces = _Pieces()
        self._arguments: list[str] = []
        self._argument_pieces = _Pieces()
        self._room = max_arguments_bytes
        self._too_long = False

    def take(self, function: _Function) -> None:
        if function.name and len(self._name) < MAX_NAME_CHARS:
            self._name = (self._name + self._name_pieces.take(function.name))[:MAX_NAME_CHARS]
        if function.arguments and not self._too_long:
            text = self._argument_pieces.take(function.arguments)
            fitting, size = _fitting(text, self._room)
            self._room -= size
            self._too_long = len(fitting) < len(text)
            self._arguments.append(fitting)

    @property
    def draft(self) -> DraftCall:
        return DraftCall(name=self._name, arguments="".join(self._arguments), too_long=self._too_long)


class Assembler:
    """One round's stream. `feed` takes bytes cut anywhere; once it ended, the attributes tell what it came to."""

    def __init__(self, *, max_text_bytes: int, max_arguments_bytes: int, max_calls: int) -> None:
        """`max_text_bytes`: UTF-8 bytes of text taken; what comes after them sets `is_too_long` and is left out.

        Calls beyond `max_calls` are left out too: the model is not told of them, nor that it made them.
        """
        self.failure: MalformedStream | ProviderLine | None = None
        """What broke the stream; nothing that came behind it is taken."""
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.refused = False
        self.is_too_long = False
        self.is_done = False
        self.has_text = False
        self._room = max_text_bytes
        self._max_arguments_bytes = max_arguments_bytes
        self._max_calls = max_calls
        self._content = _Pieces()
        self._refusal = _Pieces()
        self._calls: list[_Writing] = []
        self._by_index: dict[int, _Writing | None] = {}
        self._rest = bytearray()
        """A line whose end has not come."""
        self._bytes = 0

    @property
    def calls(self) -> list[DraftCall]:
        """The calls as far as they came, in the order of their first fragments."""
        return [call.draft for call in self._calls]

    def feed(self, data: bytes) -> list[Output]:
        """The text in `data`, up to where the stream broke: see `failure`."""
        self._bytes += len(data)
        if self._bytes > MAX_STREAM_BYTES:
            self._break(MalformedStream("a stream without an end"))
        if self.failure is not None:
            return []
        end = data.rfind(b"\n")
        # what came before is not looked at again for each piece of a long line
        if end < 0:
            self._rest += data
            outputs = []
        else:
            lines = (bytes(self._rest) + data[:end]).split(b"\n")
            self._rest = bytearray(data[end + 1 :])
            outputs = self._take_lines(lines)
        if len(self._rest) > MAX_LINE_BYTES:
            self._break(MalformedStream("a line without an end"))
        return outputs

    def end(self) -> list[Output]:
        """The stream is over; its last line may lack its end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return self._take_lines([rest])

    def _take_lines(self, lines: Sequence[bytes]) -> list[Output]:
        outputs: list[Output] = []
        for line in lines:
            if self.failure is not None:
                break
            if len(line) > MAX_LINE_BYTES:
                self._break(MalformedStream("a line that is too long"))
            elif line.startswith(b"data:"):
                try:
                    self._take(line[5:].strip(), outputs)
                except (MalformedStream, ProviderLine) as failure:
                    self._break(failure)
        return outputs

    def _break(self, failure: MalformedStream | ProviderLine) -> None:
        if self.failure is None:
            self.failure = failure
        self._rest = bytearray()

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
                prompt_tokens=_tokens(chunk.usage.prompt_tokens),
                completion_tokens=_tokens(chunk.usage.completion_tokens),
                total_tokens=_tokens(chunk.usage.total_tokens),
            )
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.delta is None:
            return
        if choice.delta.content and (text := self._fit(self._content.take(choice.delta.content))):
            outputs.append(Text(text))
        if choice.delta.refusal and (text := self._fit(self._refusal.take(choice.delta.refusal))):
            self.refused = True
            outputs.append(RefusalText(text))
        for fragment in choice.delta.tool_calls or ():
            call = self._call_of(fragment)
            if call is not None and fragment.function is not None:
                call.take(fragment.function)

    def _fit(self, text: str) -> str:
        fitting, size = _fitting(text, self._room)
        if len(fitting) < len(text):
            self.is_too_long = True
            size = self._room
        self._room -= size
        self.has_text = self.has_text or bool(fitting)
        return fitting

    def _call_of(self, fragment: _CallFragment) -> _Writing | None:
        """The call that a fragment belongs to; None for one too many."""
        known = self._by_index.get(fragment.index)
        # some servers give every call the index 0; only its first fragment bears an id
        if known is not None and not (fragment.id and known.call_id and fragment.id != known.call_id):
            return known
        if len(self._calls) >= self._max_calls:
            if fragment.index in self._by_index:
                self._by_index[fragment.index] = None  # what follows under it is the other call's
            return None
        made = self._by_index[fragment.index] = _Writing(fragment.id, self._max_arguments_bytes)
        self._calls.append(made)
        return made


def _fitting(text: str, room: int) -> tuple[str, int]:
    """As much of `text` as fits `room` UTF-8 bytes, never a part of a character, and its bytes."""
    size = len(text) if text.isascii() else len(text.encode())
    if size <= room:
        return text, size
    raw = text.encode()[:room]
    fitting = raw.decode(errors="ignore")
    return fitting, len(fitting.encode())


def _tokens(told: object) -> int:
    return min(max(told, 0), MOST_TOKENS) if type(told) is int else 0


def _decode(payload: bytes) -> _Chunk:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # msgspec refuses lone surrogates, which some servers send where they cut an emoji; they are stripped later
    try:
        loose: Any = json.loads(payload.decode("utf-8"))
        return msgspec.convert(loose, _Chunk)
    except (ValueError, msgspec.ValidationError, RecursionError):
        raise MalformedStream("a line that is not a chunk") from None
