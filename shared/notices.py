"""What is published beside the message channels: for a project's watchers and for operators.

A project's channel has the lifecycle of its messages (all but deltas), new rows and document changes. The operators' channel
has the lifecycle of everything and never users' text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from shared import events, keys, ops_events
from shared.batches import Batch
from shared.event_log import Entry, Publication
from shared.events import EventId, StreamEvent
from shared.lifecycle import JobStatus, MessageStatus
from shared.ops_events import AttemptState, OpsLine
from shared.records import DocumentChange, Ending, Job, JobPhase, Lease, Message


class Ready(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="ready"):
    """What a GET shows after it, together with what follows, is complete."""

    version: int
    """The document's."""
    newest_message_id: UUID | None


class MessageNotice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="message"):
    """A message was made, or is to be answered again."""

    message: Message


class DocumentNotice(DocumentChange, frozen=True, kw_only=True, tag_field="type", tag="document"):
    """The document has a new version."""


class JobNotice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="job"):
    """A component job has come further."""

    job_id: UUID
    message_id: UUID
    name: str
    status: JobStatus
    phase: JobPhase | None
    tries: int = msgspec.field(name="try")


ProjectEvent: TypeAlias = Ready | MessageNotice | DocumentNotice | JobNotice | StreamEvent
"""What a project's watcher gets."""


def lifecycle(project_id: UUID, entries: Iterable[Entry]) -> list[Publication]:
    """The entries that a project's watchers see, with its id."""
    shown = [entry.payload for entry in entries if not events.is_delta(entry.payload)]
    if not shown:
        return []
    channel, suffix = keys.project_channel(project_id), b',"projectId":"%s"}' % str(project_id).encode()
    return [Publication(channel, payload[:-1] + suffix) for payload in shown]


# --- for operators ----------------------------------------------------------------------------------------------


def submitted(message: Message) -> Publication:
    """A message waits for its first claim."""
    return _to_operators(
        ops_events.SubmittedLine(message_id=message.id, project_id=message.project_id, ts=now_ms(), model=message.model)
    )


def retried(message: Message) -> Publication:
    """A final message waits again."""
    status: Literal["pending", "building"] = "building" if message.status is MessageStatus.BUILDING else "pending"
    return _to_operators(
        ops_events.RetriedLine(
            message_id=message.id, project_id=message.project_id, ts=now_ms(), model=message.model, status=status
        )
    )


def started(lease: Lease, model: str) -> Publication:
    """Somebody has claimed the message."""
    return _to_operators(
        ops_events.StartedLine(
            message_id=lease.message_id,
            project_id=lease.project_id,
            ts=now_ms(),
            model=model,
            attempt=lease.attempt,
            run=lease.run,
        )
    )


def attempt_over(
    state: AttemptState,
    *,
    message_id: UUID,
    project_id: UUID,
    attempt: int,
    model: str | None,
    tries: int | None = None,
    code: str | None = None,
) -> Publication:
    """An attempt came to nothing, and the message is not over."""
    return _to_operators(
        ops_events.AttemptLine(
            message_id=message_id,
            project_id=project_id,
            ts=now_ms(),
            model=model,
            attempt=attempt,
            state=state,
            tries=tries,
            code=code,
        )
    )


def cancelled(message_id: UUID, project_id: UUID, model: str | None = None) -> Publication:
    """A message was cancelled, by whomever. One that went with its project has no other end."""
    return _to_operators(
        ops_events.CancelledLine(message_id=message_id, project_id=project_id, ts=now_ms(), model=model)
    )


def ended(ending: Ending, entries: Iterable[Entry]) -> list[Publication]:
    """How a message ended, or was handed to a builder, with its timing; `entries` are the ending's events."""
    code, last = None, None
    for entry in entries:
        last = events.decode(entry.payload)
        code = last.code if isinstance(last, events.Error) else code
    assert isinstance(last, events.Finalized)
    of = {"message_id": ending.message_id, "project_id": ending.project_id}
    told = _to_operators(
        ops_events.FinalizedLine(
            **of,
            ts=now_ms(),
            model=ending.model,
            status=last.status,
            attempt=EventId.parse(last.id).attempt,
            code=code,
            timing=last.timing,
            usage=last.usage,
        )
    )
    return [cancelled(**of, model=ending.model), told] if ending.status is MessageStatus.CANCELLED else [told]


def reprocess(batch: Batch) -> Publication:
    """How far a batch has come."""
    return _to_operators(
        ops_events.ReprocessLine(
            batch_id=batch.id, status=batch.status, ts=now_ms(), **msgspec.structs.asdict(batch.counts)
        )
    )


def _to_operators(line: OpsLine) -> Publication:
    return Publication(keys.OPS, ops_events.encode(line))


# --- for a project's watchers -----------------------------------------------------------------------------------


def ending(ended_: Ending, entries: Iterable[Entry]) -> list[Publication]:
    """All that goes out beside an ending, whose events are `entries`, to watchers and operators."""
    entries = list(entries)
    told = [] if ended_.job is None else [job_changed(ended_.job)]
    return [*lifecycle(ended_.project_id, entries), *told, *ended(ended_, entries)]


def ready(version: int, newest_message_id: UUID | None) -> bytes:
    """What a project's watcher is told first."""
    return msgspec.json.encode(Ready(version=version, newest_message_id=newest_message_id))


def message_made(message: Message) -> Publication:
    return _to_watchers(message.project_id, MessageNotice(message=message))


def document_changed(project_id: UUID, change: DocumentChange) -> Publication:
    return _to_watchers(project_id, DocumentNotice(**msgspec.structs.asdict(change)))


def job_changed(job: Job) -> Publication:
    notice = JobNotice(
        job_id=job.id, message_id=job.message_id, name=job.name, status=job.status, phase=job.phase, tries=job.tries
    )
    return _to_watchers(job.project_id, notice)


def _to_watchers(project_id: UUID, notice: MessageNotice | DocumentNotice | JobNotice) -> Publication:
    return Publication(keys.project_channel(project_id), msgspec.json.encode(notice))


def cancel_asked(message_id: UUID) -> Publication:
    """The nudge to whoever holds the message; the row is what counts."""
    return Publication(keys.CONTROL, msgspec.json.encode({"type": "cancel", "messageId": str(message_id)}))


def access_withdrawn(project_id: UUID, user_id: UUID | None = None) -> Publication:
    """Every API process closes its sockets of the project, all or one user's."""
    told = {"type": "withdraw", "projectId": str(project_id)} | ({"userId": str(user_id)} if user_id else {})
    return Publication(keys.CONTROL, msgspec.json.encode(told))


def token_revoked(token_sha256: bytes) -> Publication:
    """Every API process closes the sockets that came with the token. Its hash signs nobody in."""
    return Publication(keys.CONTROL, msgspec.json.encode({"type": "withdraw", "tokenSha256": token_sha256.hex()}))


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
