"""What the store answers with: frozen rows, as the API shows them or as a worker needs them.

Types that are part of a public answer encode to its JSON (camelCase, times in RFC 3339 UTC) with `msgspec`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from shared.events import EventId, Timing, ToolCall, Usage
from shared.lifecycle import ErrorCode, JobStatus, MemberRole, MessageKind, MessageStatus, Role

JsonValue: TypeAlias = Any
"""A project's document, a schema, one operation: JSON that belongs to users and has no shape of ours."""


JobPhase: TypeAlias = Literal["writing", "checking", "bundling"]

JobMark: TypeAlias = tuple[JobStatus, JobPhase | None, int]
"""How far a job has come: its status, its phase, its try."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: a token's user and scopes."""

    user_id: UUID
    user: str
    """The token's subject."""
    scopes: frozenset[str]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a JWT is of, what it allows, and until when: what an identity provider says, and has been checked."""

    user: str
    scopes: frozenset[str]
    issuer: str
    expires_at: datetime


class _Public(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Project(_Public, frozen=True, kw_only=True):
    """`version` rises by one with each change of the document."""

    id: UUID
    name: str
    document: JsonValue
    version: int
    schema: JsonValue
    role: MemberRole
    created_at: datetime
    updated_at: datetime


class Version(_Public, frozen=True, kw_only=True, omit_defaults=True):
    """One change of a project's document. `inverse` takes it back."""

    version: int
    operations: list[JsonValue]
    inverse: list[JsonValue]
    created_at: datetime
    author: str | None = None
    """The user who made it by hand."""
    message_id: UUID | None = None
    """The assistant's message that made it."""
    undoes: int | None = None
    """The version that this one takes back."""
    redoes: int | None = None
    """The undo that this one takes back."""


class DocumentAt(_Public, frozen=True, kw_only=True):
    """A project's document as it was at a version; 1 is the one that the project was made with."""

    version: int
    document: JsonValue


class Membership(_Public, frozen=True, kw_only=True):
    """A member of a project. `user` is the subject of the member's tokens."""

    user: str
    role: MemberRole


class MessageError(_Public, frozen=True, kw_only=True):
    code: ErrorCode
    detail: str
    retryable: bool


class Message(_Public, frozen=True, kw_only=True):
    """One row. `content` is the fold of the message's events, for every status."""

    id: UUID
    project_id: UUID
    role: Role
    author: str | None
    """The user who wrote it; null for the assistant's."""
    kind: MessageKind
    status: MessageStatus
    content: str
    error: MessageError | None
    attempt: int
    job_id: UUID | None
    tool_calls: list[ToolCall]
    model: str | None
    usage: Usage | None
    timing: Timing | None
    reply_to: UUID | None
    queue_number: int | None
    """While it waits in the project's queue, held by nobody: the lower goes first. Null else."""
    created_at: datetime
    updated_at: datetime


class Job(_Public, frozen=True, kw_only=True):
    id: UUID
    project_id: UUID
    message_id: UUID
    name: str
    effect_description: str
    status: JobStatus
    phase: JobPhase | None
    """What the builder is doing; null before it and after its end."""
    tries: int
    """How often the model was asked to write it."""
    error: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def mark(self) -> JobMark:
        return self.status, self.phase, self.tries


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The pair that a submit made, or made before under the same key."""

    user_message: Message
    assistant_message: Message
    repeated: bool
    interrupted: tuple[UUID, ...] = ()
    """Messages that were asked to cancel so that this one goes first."""


class MessageState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a message has come."""

    message_id: UUID
    project_id: UUID
    status: MessageStatus
    last_event_id: EventId | None

    @property
    def is_final(self) -> bool:
        return self.status not in (MessageStatus.PENDING, MessageStatus.BUILDING)


class ReaderRow(MessageState, frozen=True, kw_only=True):
    """What a reader of one message needs to know of its row."""

    attempt: int
    content: str
    tool_calls: tuple[ToolCall, ...]
    """Those that were made."""
    ending: tuple[bytes, ...]
    """The encoded events of the stored ending, oldest first; empty while there is none."""


class ProjectState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a project has come."""

    version: int
    newest_message_id: UUID | None
    newest_queue_number: int
    """Rises with each message that is submitted or retried."""
    unfinished: tuple[UUID, ...]
    """Its unfinished messages, oldest first."""
    jobs: dict[UUID, JobMark]
    """The jobs of those."""


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """How much a reader of a project knows: the document up to `version`, the messages up to `message_id` (None: there
    were none) and what was submitted or retried up to `queue_number`."""

    version: int
    message_id: UUID | None
    queue_number: int


class ProjectNews(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader of a project lacks, oldest first."""

    state: ProjectState
    jobs: tuple[Job, ...] = ()
    changes: tuple[DocumentChange, ...] = ()
    messages: tuple[Message, ...] = ()
    """Those that are new, and those that were retried."""
    is_whole: bool = True
    """Whether these are all."""


class StoredCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call as the model decided it: `arguments` is its raw text."""

    tool_call_id: str
    name: str
    arguments: str


class StoredRound(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the model: its text, its calls, and the document's version that the model saw."""

    round: int
    text: str
    calls: tuple[StoredCall, ...]
    document_version: int
    usage: Usage | None


class DocumentChange(_Public, frozen=True, kw_only=True, omit_defaults=True):
    """A committed change of a project's document, as told to other readers."""

    version: int
    operations: list[JsonValue]
    author: str | None = None
    message_id: UUID | None = None
    undoes: int | None = None
    redoes: int | None = None


class ToolEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What one call came to, as the ledger has it; `result` is what the model is told."""

    call: ToolCall
    result: str
    change: DocumentChange | None = None
    """The change that was committed with it now; None where nothing changed or the call had been made before."""
    job: Job | None = None
    """The job that was started with it now."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What every write of a worker carries. Once a newer attempt exists, or the lease is another's, it is refused."""

    message_id: UUID
    project_id: UUID
    owner: str
    attempt: int
    run: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A message taken by a worker, with all that its run has stored."""

    lease: Lease
    tries: int
    """Tries of this run that failed before this attempt."""
    model: str
    run_age_s: float
    """Seconds since the run's first claim, by the database's clock."""
    enqueued_age_s: float
    """Seconds since the run was enqueued, by the database's clock."""
    first_token_ms: int | None
    content: str
    """The text of the stored rounds."""
    is_of_a_batch: bool
    """Nobody waits for it but a batch."""
    rounds: tuple[StoredRound, ...]
    effects: tuple[ToolEffect, ...]
    """The calls of this run that were made, in order."""


class BuildClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A message taken by a builder, for its job."""

    lease: Lease
    tries: int
    """Tries of this build that failed before this attempt: builders lost, a provider that failed."""
    model: str
    content: str
    """The text of the turn that asked for the component."""
    effects: tuple[ToolEffect, ...]
    """The calls of this run that were made, in order."""
    job: Job
    usage: Usage | None
    """Of the run so far."""
    first_token_ms: int | None


class HistoryMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier message, as the model is shown it."""

    role: Role
    content: str


class BuiltComponent(msgspec.Struct, frozen=True, kw_only=True):
    """A component that a document may show, as the model is told of it."""

    id: UUID
    name: str
    description: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is shown: the project as it is now and the messages that stand before this one, oldest first."""

    document: JsonValue
    version: int
    schema: JsonValue
    history: tuple[HistoryMessage, ...]
    components: tuple[BuiltComponent, ...] = ()
    """The project's newest that were built, newest first."""


class Leased(msgspec.Struct, frozen=True, kw_only=True):
    """What a renewal found of one message that the owner still holds."""

    attempt: int
    cancel_requested: bool
    is_renewed: bool = True
    """False where somebody had the row locked: it is held, and prolonged the next time."""


class Cancelling(msgspec.Struct, frozen=True, kw_only=True):
    """A cancel that was asked for. `held`: a worker has the message and is the one to end it."""

    message_id: UUID
    project_id: UUID
    held: bool


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that wait for a process to take them, and for how long the oldest has; 0 where none waits."""

    depth: int
    oldest_s: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How the whole system does, by the database. A count of thousands may stand for more."""

    unfinished: dict[str, int]
    """By status."""
    queues: dict[str, QueueFigures]
    """``interactive``, ``builds`` and ``batch``."""
    sweepers_silent_s: float | None
    """Since any sweeper last came round; None where none ever did."""
    disagreements: int | None
    """That the last audit of everything left; None before one."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A committed end: encoded events to append, as the row keeps them."""

    message_id: UUID
    project_id: UUID
    status: MessageStatus
    events: tuple[bytes, ...]
    job: Job | None = None
    """The job that was changed with it."""
    model: str | None = None
    """The message's."""
