"""What `chatrelay:ops` carries: one line for each step in the life of any message, and never users' text. Public.

A line says what was just done; the row is the truth. Lines are told at most once where a process dies between its commit and
its word, and an end at least once: `docs/operating.md` says who tells what.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias, assert_never
from uuid import UUID

import msgspec

from shared.events import FinalizedStatus, Timing, Usage
from shared.ops_records import Step, Summary


class _Line(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type"):
    message_id: UUID
    project_id: UUID
    ts: int
    """Milliseconds since the epoch, when it was told."""
    model: str | None = None


class SubmittedLine(_Line, frozen=True, kw_only=True, tag="submitted"):
    """A message waits for its first claim."""


class RetriedLine(_Line, frozen=True, kw_only=True, tag="retried"):
    """A final message waits again: for a worker, or, `building`, for a builder."""

    status: Literal["pending", "building"]


class StartedLine(_Line, frozen=True, kw_only=True, tag="started"):
    """A worker or a builder has claimed the message."""

    attempt: int
    run: int


AttemptState: TypeAlias = Literal["lost", "failed", "handed_back", "log_lost"]


class AttemptLine(_Line, frozen=True, kw_only=True, tag="attempt"):
    """An attempt came to nothing, and the message is not over.

    `lost`: its holder let the lease run out. `failed`: the provider failed, or the holder did (`code` says which); it is
    tried again. `handed_back`: its holder stops; no try is counted. `log_lost`: Redis had lost the log, and its holder goes
    on under a higher attempt.
    """

    attempt: int
    state: AttemptState
    tries: int | None = None
    """Of this run, failed so far."""
    code: str | None = None


class CancelledLine(_Line, frozen=True, kw_only=True, tag="cancelled"):
    """Just before the `finalized` of that status; of what went with a deleted project it is the end."""


class FinalizedLine(_Line, frozen=True, kw_only=True, tag="finalized"):
    """The row is committed with this status."""

    status: FinalizedStatus
    attempt: int
    code: str | None = None
    timing: Timing | None = None
    usage: Usage | None = None


OpsLine: TypeAlias = SubmittedLine | RetriedLine | StartedLine | AttemptLine | CancelledLine | FinalizedLine
"""What is published. Who reads ignores types and fields that it does not know."""


class Missed(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="missed"):
    """Told to one reader: lines are lacking here.

    `slow`: so many were left out because the reader did not keep up. `subscription`: nobody was listening for a while, so
    that any number may lack (`count` null). What was missed is in the rows.
    """

    count: int | None
    since: int
    """Milliseconds since the epoch: before it nothing lacks."""
    reason: Literal["slow", "subscription"]


class ReadyLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="ready"):
    """What a reader of the API is told first: how it was then, and what follows is complete."""

    summary: Summary | None
    """Null where the database did not answer."""


OpsEvent: TypeAlias = ReadyLine | OpsLine | Missed
"""What a reader of the API gets."""


def of_step(step: Step) -> OpsLine:
    """A line as it was told, or would have been, when the step was taken."""
    common: dict[str, Any] = {
        "message_id": step.message_id,
        "project_id": step.project_id,
        "ts": int(step.at.timestamp() * 1000),
        "model": step.model,
    }
    match step.kind:
        case "submitted":
            return SubmittedLine(**common)
        case "started":
            return StartedLine(**common, attempt=step.attempt, run=step.run)
        case "finalized":
            status: Any = step.status.value
            ended = FinalizedLine(**common, status=status, attempt=step.attempt, code=step.code, timing=step.timing)
            return msgspec.structs.replace(ended, usage=step.usage)
        case _:
            assert_never(step.kind)


TYPE: Final = r"[a-z_]{1,40}"
"""A line's type, as a regular expression: others may come."""


class Head(msgspec.Struct, frozen=True, rename="camel"):
    """What is looked at to choose among lines."""

    type: Annotated[str, msgspec.Meta(pattern=f"^{TYPE}$")]
    message_id: str | None = None
    project_id: str | None = None
    status: str | None = None


_heads: Final = msgspec.json.Decoder(Head)
_encoder: Final = msgspec.json.Encoder()


def encode(line: OpsEvent) -> bytes:
    """One line of JSON, ``type`` first."""
    return _encoder.encode(line)


def head(payload: bytes) -> Head:
    """Raises `msgspec.DecodeError` for what is no line: the channel is public."""
    return _heads.decode(payload)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines somebody wants. Empty: all. Those of no project pass no filter of a project, and so on."""

    projects: frozenset[str] = frozenset()
    messages: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    @property
    def passes_all(self) -> bool:
        return not (self.projects or self.messages or self.statuses or self.types)

    def passes(self, head: Head) -> bool:
        return (
            (not self.types or head.type in self.types)
            and (not self.projects or head.project_id in self.projects)
            and (not self.messages or head.message_id in self.messages)
            and (not self.statuses or head.status in self.statuses)
        )
