"""How `chatrelay tail` writes a line: for people, aligned and in colours on a terminal, or for programs, as it came."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Protocol, TextIO
from uuid import UUID

import msgspec
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

from shared import ops_events
from shared.ops_events import Missed

_STYLES: Final = {
    "error": Style.parse("bold red"),
    "lost": Style.parse("red"),
    "failed": Style.parse("red"),
    "success": Style.parse("green"),
    "cancelled": Style.parse("yellow"),
    "building": Style.parse("cyan"),
    "started": Style.parse("blue"),
    "missed": Style.parse("bold yellow"),
    "faint": Style.parse("dim"),
}
_SHOWN: Final = frozenset(
    {"type", "ts", "messageId", "projectId", "status", "state", "code", "timing", "model", "usage", "id"}
)
"""Fields that have a column; others follow as ``name=value``."""
_LONG: Final = frozenset({"content", "finalContent", "arguments", "error", "toolCalls", "summary"})
"""Fields that may hold users' text."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Nobody's text moves the cursor, changes a colour or turns a line around."""
_MOST_CHARS: Final = 120


class Printer(Protocol):
    def line(self, payload: bytes) -> None:
        """A lifecycle line."""
        ...

    def event(self, message_id: UUID, payload: bytes, *, text: bool) -> None:
        """An event of a message, not a delta."""
        ...

    def delta(self, message_id: UUID, payload: bytes) -> None: ...

    def end_text(self, message_id: UUID) -> None:
        """No more text of this message for now."""
        ...

    def missed(self, missed: Missed) -> None: ...

    def flush(self) -> None:
        """Have all of it written. Raises `BrokenPipeError` where nobody reads."""
        ...


class Raw:
    """For programs: what was published, a line each."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: list[str] = []

    def line(self, payload: bytes) -> None:
        self._lines.append(payload.decode(errors="replace"))

    def event(self, message_id: UUID, payload: bytes, *, text: bool) -> None:
        self.line(payload)

    def delta(self, message_id: UUID, payload: bytes) -> None:
        self.line(payload)

    def end_text(self, message_id: UUID) -> None:
        """Lines have no open end."""

    def missed(self, missed: Missed) -> None:
        self.line(ops_events.encode(missed))

    def flush(self) -> None:
        if self._lines:
            self._out.write("\n".join(self._lines) + "\n")
            self._lines.clear()
        self._out.flush()


class Plain:
    """For people. `inline`: one message's text is written on as it comes; else whole lines, each with its message's id."""

    def __init__(self, out: TextIO, *, color: bool, inline: bool) -> None:
        self._out = out
        self._pieces: list[str] = []
        self._inline = inline
        self._is_open = False
        """Text was written on without the end of its line."""
        self._texts: dict[UUID, str] = {}
        self._colors: ColorSystem | None = Console(file=out)._color_system if color and out.isatty() else None

    def line(self, payload: bytes) -> None:
        told = _fields(payload)
        state = str(told.get("status") or told.get("state") or "")
        timing = told.get("timing")
        timing = timing if isinstance(timing, dict) else {}
        took = timing.get("totalMs")
        columns = [
            self._faint(_clock(told.get("ts"))),
            self._styled(f"{_safe(told.get('type')):<10}", str(told.get("type"))),
            self._styled(f"{_safe(state):<11}", state),
            self._styled(f"{_safe(told.get('code')):<21}", "error"),
            f"{'' if took is None else f'{took} ms':>9}",
            _short(told.get("messageId")),
            self._faint(_short(told.get("projectId"))),
            _safe(told.get("model")),
            *_more(told, _SHOWN),
        ]
        if timing.get("firstTokenMs") is not None:
            columns.append(f"first={timing['firstTokenMs']}ms")
        self._write("  ".join(columns).rstrip())

    def event(self, message_id: UUID, payload: bytes, *, text: bool) -> None:
        told = _fields(payload)
        self.end_text(message_id)
        status = str(told.get("status") or "")
        columns = [
            self._faint(_clock(told.get("ts"))),
            f"{_safe(told.get('type')):<10}",
            self._styled(f"{_safe(status):<11}", status),
            f"{_safe(told.get('code')):<21}",
            f"{_safe(told.get('id')):>9}",
            _short(told.get("messageId")),
            *_more(told, _SHOWN if text else _SHOWN | _LONG),
        ]
        self._write("  ".join(columns).rstrip())

    def delta(self, message_id: UUID, payload: bytes) -> None:
        content = str(_fields(payload).get("content", ""))
        if self._inline:
            self._is_open = True
            self._pieces.append("\n".join(_safe(line) for line in content.split("\n")))
            return
        *whole, rest = (self._texts.pop(message_id, "") + content).split("\n")
        for line in whole:
            self._text(message_id, line)
        self._texts[message_id] = rest

    def end_text(self, message_id: UUID) -> None:
        if rest := self._texts.pop(message_id, ""):
            self._text(message_id, rest)

    def missed(self, missed: Missed) -> None:
        since = _clock(missed.since)
        if missed.count is None:
            words = f"-- lines may lack since {since}: not all that happened was heard"
        else:
            words = f"-- {missed.count} lines lack since {since}: they came faster than they are written here"
        self._write(self._styled(words, "missed"))

    def flush(self) -> None:
        if self._pieces:
            self._out.write("".join(self._pieces))
            self._pieces.clear()
        self._out.flush()

    def _text(self, message_id: UUID, line: str) -> None:
        self._write(f"{self._faint(_short(str(message_id)) + ' |')} {_safe(line)}")

    def _write(self, line: str) -> None:
        before = "\n" if self._is_open else ""
        self._is_open = False
        self._pieces.append(f"{before}{line}\n")

    def _styled(self, words: str, style: str) -> str:
        if self._colors is None or style not in _STYLES:
            return words
        return _STYLES[style].render(words, color_system=self._colors)

    def _faint(self, words: str) -> str:
        return self._styled(words, "faint")


def _fields(payload: bytes) -> dict[str, Any]:
    """None of them where it is no object: the channels are public."""
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _more(told: dict[str, Any], known: frozenset[str]) -> list[str]:
    return [f"{_safe(name)}={_brief(value)}" for name, value in told.items() if name not in known]


def _brief(value: Any) -> str:
    words = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    words = _safe(words)
    return words if len(words) <= _MOST_CHARS else f"{words[:_MOST_CHARS]}…"


def _safe(value: Any) -> str:
    return "" if value is None else _CONTROL.sub("\ufffd", str(value))


def _clock(ts: Any) -> str:
    """The local time of milliseconds since the epoch."""
    try:
        moment = datetime.fromtimestamp(ts / 1000)
    except (TypeError, ValueError, OverflowError, OSError):
        return " " * 12
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"


def _short(id_: Any) -> str:
    """The end of an id: its beginning is the time, which neighbours share."""
    return _safe(id_)[-8:].ljust(8)
