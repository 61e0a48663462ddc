"""The types of a script (the package's docstring has the table), and the strict reading of one from JSON.

A step is known by the one key that names its kind, so it is read here and not by a tagged union: exactly one kind a
step, and no unknown field anywhere.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

T = TypeVar("T")

MAX_CHUNKS: Final = 1_000_000

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3_600)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNKS)]
Pace = Seconds | Literal["human"]


class ScriptRejected(Exception):
    """The script isn't one; the text names the place and the reason."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Text(_Part, frozen=True):
    """Text in pieces: `chunks` of about the same length, or `chunk_size` characters each, or one a word."""

    text: str
    chunks: Count | None = None
    chunk_size: Count | None = None
    pace: Pace = 0.0

    def __post_init__(self) -> None:
        if self.chunks is not None and self.chunk_size is not None:
            raise ValueError("chunks and chunk_size exclude each other")


class Repetition(_Part, frozen=True):
    text: str
    count: Count
    pace: Pace = 0.0


class Repeat(_Part, frozen=True):
    """The same piece `count` times, each as its own chunk."""

    repeat: Repetition


class ScriptedCall(_Part, frozen=True):
    """A tool call; `arguments` as an object is encoded, as a string is sent as it is, JSON or not."""

    name: str
    arguments: dict[str, Any] | str = ""
    id: str | None = None
    split: Count = 1
    every_byte: bool = False
    pace: Pace = 0.0

    @property
    def arguments_text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else msgspec.json.encode(self.arguments).decode()


class Tool(_Part, frozen=True):
    tool: ScriptedCall


class Tools(_Part, frozen=True):
    """Several calls: one after the other, or with their fragments in turn."""

    tools: Annotated[list[ScriptedCall], msgspec.Meta(min_length=1, max_length=128)]
    interleave: bool = False


class Refusal(_Part, frozen=True):
    refusal: str


class Open(_Part, frozen=True):
    """Sends the headers and the role chunk now; otherwise they go out with the first piece."""

    open: Literal[True]


class Wait(_Part, frozen=True):
    wait: Seconds


class Hold(_Part, frozen=True):
    """Waits until the name is released."""

    hold: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Stall(_Part, frozen=True):
    """Sends nothing more, for ever, and keeps the connection open."""

    stall: Literal[True]


class Cut(_Part, frozen=True):
    """Ends the connection in the middle of the answer.

    At once, or, with `at_byte` or `inside_character`, inside the next line that would be sent: after that many of its
    bytes, or after the first byte of its first character outside ASCII.
    """

    cut: Literal["fin", "rst"]
    at_byte: Annotated[int, msgspec.Meta(ge=0)] | None = None
    inside_character: bool = False

    def __post_init__(self) -> None:
        if self.at_byte is not None and self.inside_character:
            raise ValueError("at_byte and inside_character exclude each other")


class Raw(_Part, frozen=True):
    """Bytes put on the stream as they are: each character is one byte (latin-1)."""

    raw: str

    def __post_init__(self) -> None:
        try:
            self.raw.encode("latin-1")
        except UnicodeEncodeError as error:
            raise ValueError("raw has a character above U+00FF; use raw64") from error

    @property
    def content(self) -> bytes:
        return self.raw.encode("latin-1")


class Raw64(_Part, frozen=True):
    """Bytes put on the stream as they are, in base64."""

    raw64: str

    def __post_init__(self) -> None:
        try:
            base64.b64decode(self.raw64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"raw64 isn't base64: {error}") from error

    @property
    def content(self) -> bytes:
        return base64.b64decode(self.raw64)


class Finish(_Part, frozen=True):
    """Sends this finish reason now; null: no finish reason is sent at all."""

    finish: Literal["stop", "length", "tool_calls", "content_filter"] | None


class ScriptedUsage(_Part, frozen=True):
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)]
    completion_tokens: Annotated[int, msgspec.Meta(ge=0)]
    total_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None


class SetUsage(_Part, frozen=True):
    """The usage sent at the end, asked for or not; null: none, though asked for."""

    usage: ScriptedUsage | None


class Done(_Part, frozen=True):
    """Whether `[DONE]` ends the stream."""

    done: bool


Step = (
    Text | Repeat | Tool | Tools | Refusal | Open | Wait | Hold | Stall | Cut | Raw | Raw64 | Finish | SetUsage | Done
)

_STEP_KINDS: Final[Mapping[str, type[Step]]] = {
    "text": Text,
    "repeat": Repeat,
    "tool": Tool,
    "tools": Tools,
    "refusal": Refusal,
    "open": Open,
    "wait": Wait,
    "hold": Hold,
    "stall": Stall,
    "cut": Cut,
    "raw": Raw,
    "raw64": Raw64,
    "finish": Finish,
    "usage": SetUsage,
    "done": Done,
}


class HttpError(_Part, frozen=True):
    """A round that answers with an HTTP error: `error` goes inside the body's `error`; `body` replaces the whole body."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    headers: dict[str, str] = {}
    error: dict[str, Any] | None = None
    body: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A round that answers 200 and plays its steps."""

    steps: tuple[Step, ...]


Round = HttpError | Answer


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What to answer, by round and, inside a round, by how often it was asked for (the last entry serves all later ones)."""

    rounds: tuple[tuple[Round, ...], ...]

    def has_attempts(self, index: int) -> bool:
        """Whether it matters how often that round was asked for."""
        return index < len(self.rounds) and len(self.rounds[index]) > 1

    def round_for(self, index: int, times_seen: int) -> Round | None:
        """The round of that index at its `times_seen`th repetition (0: the first request); None beyond the last one."""
        if index >= len(self.rounds):
            return None
        attempts = self.rounds[index]
        return attempts[min(times_seen, len(attempts) - 1)]


def parse_script(raw: object) -> Script:
    """The script in a decoded JSON value. Raises ScriptRejected."""
    fields = _fields(raw, "script", {"rounds"})
    rounds = _nonempty_list(fields.get("rounds"), "rounds")
    return Script(rounds=tuple(_parse_round(entry, f"rounds[{index}]") for index, entry in enumerate(rounds)))


def parse_script_text(text: str) -> Script:
    """The script in a JSON text. Raises ScriptRejected."""
    try:
        raw = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ScriptRejected(f"not JSON: {error}") from error
    return parse_script(raw)


def _parse_round(raw: object, place: str) -> tuple[Round, ...]:
    if isinstance(raw, dict) and "attempts" in raw:
        attempts = _nonempty_list(_fields(raw, place, {"attempts"})["attempts"], f"{place}.attempts")
        return tuple(_parse_attempt(entry, f"{place}.attempts[{index}]") for index, entry in enumerate(attempts))
    return (_parse_attempt(raw, place),)


def _parse_attempt(raw: object, place: str) -> Round:
    if isinstance(raw, dict) and "status" in raw:
        return _convert(raw, HttpError, place)
    fields = _fields(raw, place, {"steps"})
    if "steps" not in fields:
        raise ScriptRejected(f"{place}: has none of status, steps, attempts")
    steps = fields["steps"]
    if not isinstance(steps, list):
        raise ScriptRejected(f"{place}.steps: not a list")
    return Answer(steps=tuple(_parse_step(step, f"{place}.steps[{index}]") for index, step in enumerate(steps)))


def _parse_step(raw: object, place: str) -> Step:
    if not isinstance(raw, dict):
        raise ScriptRejected(f"{place}: not an object")
    kinds = [key for key in raw if key in _STEP_KINDS]
    if len(kinds) != 1:
        raise ScriptRejected(
            f"{place}: needs exactly one of {', '.join(_STEP_KINDS)}; has {' and '.join(kinds) or 'none'}"
        )
    return _convert(raw, _STEP_KINDS[kinds[0]], place)


def _convert(raw: object, to: type[T], place: str) -> T:
    try:
        return msgspec.convert(raw, to)
    except msgspec.ValidationError as error:
        raise ScriptRejected(f"{place}: {error}") from error


def _fields(raw: object, place: str, allowed: set[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ScriptRejected(f"{place}: not an object")
    unknown = sorted(set(raw) - allowed)
    if unknown:
        raise ScriptRejected(f"{place}: unknown field {', '.join(unknown)}")
    return raw


def _nonempty_list(raw: object, place: str) -> list[Any]:
    if not isinstance(raw, list) or not raw:
        raise ScriptRejected(f"{place}: not a list with at least one entry")
    return raw
