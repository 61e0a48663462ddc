"""What one reader received of one message, over all of its connections; and the file that it is kept in when it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from shared import events
from shared.events import EventId
from tests.trace_checker import TraceViolation, check_trace


@dataclass(kw_only=True, slots=True)
class Recording:
    message_id: str
    reader: str
    frames: list[bytes] = field(default_factory=list)
    """The events as they came, neither parsed nor sorted."""
    connections: int = 0
    problems: list[str] = field(default_factory=list)
    """What is wrong beside the events: a close code, a status, an end before the end."""

    @property
    def last(self) -> EventId | None:
        return events.peek(self.frames[-1])[1] if self.frames else None

    @property
    def is_at_an_end(self) -> bool:
        """Whether the newest event is a terminal one."""
        if not self.frames:
            return False
        kind, _ = events.peek(self.frames[-1])
        return events.is_terminal_payload(kind, self.frames[-1])


class SavedRecording(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The file of an offending reader."""

    seed: int
    violation: str
    reader: str
    row: dict[str, Any]
    recording: list[dict[str, Any]]

    @classmethod
    def of(cls, recording: Recording, row: dict[str, Any], *, seed: int, violation: str) -> SavedRecording:
        return cls(
            seed=seed,
            violation=violation,
            reader=recording.reader,
            row=row,
            recording=[msgspec.json.decode(frame) for frame in recording.frames],
        )

    @classmethod
    def read(cls, path: Path) -> SavedRecording:
        """Raises `msgspec.DecodeError`."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def check(self) -> str | None:
        """Why it is wrong, by the checker as it is now; None where it is not."""
        return violation_of([msgspec.json.encode(event) for event in self.recording], self.row)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))


_DOUBLED: Final = "is not above"
"""How the checker words an event that comes again, or out of order."""


def violation_of(frames: list[bytes], row: dict[str, Any]) -> str | None:
    """Why a reader of this message may not have received just these events; None where it may."""
    try:
        check_trace(frames, row=row)
    except TraceViolation as violation:
        return str(violation)
    return None


def is_doubled(violation: str) -> bool:
    """Whether a violation is an event that came twice, or after one that follows it."""
    return _DOUBLED in violation.partition("\n")[0]
