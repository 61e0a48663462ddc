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

from shared import events, keys
from shared.event_log import Entry, Publication
from shared.events import StreamEvent
from shared.lifecycle import JobStatus, MessageStatus
from shared.records import DocumentChange, Ending, Job, JobPhase, Message


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

OpsType = Literal["started", "finalized", "attempt", "cancelled"]


def lifecycle(project_id: UUID, entries: Iterable[Entry]) -> list[Publication]:
    """The entries that a project's watchers see, with its id."""
    channel, suffix = keys.project_channel(project_id), b',"projectId":"%s"}' % str(project_id).encode()
    return [Publication(channel, entry.payload[:-1] + suffix) for entry in entries if entry.kind != "delta"]


def finalized(project_id: UUID, entry: Entry, code: str | None) -> Publication:
    """For operators: how a message ended, with its timing."""
    event = events.decode(entry.payload)
    assert isinstance(event, events.Finalized)
    return ops(
        "finalized",
        UUID(event.message_id),
        project_id,
        status=event.status,
        code=code,
        attempt=entry.id.attempt,
        timing=None if event.timing is None else msgspec.to_builtins(event.timing),
    )


def ending(ended: Ending, entries: Iterable[Entry]) -> list[Publication]:
    """All that goes out beside an ending, whose events are `entries`."""
    entries = list(entries)
    code = next((_error_code(entry) for entry in entries if entry.kind == "error"), None)
    told = [] if ended.job is None else [job_changed(ended.job)]
    if ended.status is MessageStatus.CANCELLED:
        told.append(cancelled(ended.message_id, ended.project_id))
    return [*lifecycle(ended.project_id, entries), *told, finalized(ended.project_id, entries[-1], code)]


def cancelled(message_id: UUID, project_id: UUID) -> Publication:
    """For operators: a message was cancelled, by whomever. One that went with its project has no other end."""
    return ops("cancelled", message_id, project_id)


def ops(kind: OpsType, message_id: UUID, project_id: UUID, **fields: object) -> Publication:
    """One lifecycle line for operators. None-valued fields are left out."""
    line = {"type": kind, "messageId": str(message_id), "projectId": str(project_id), "ts": now_ms()}
    line.update((name, value) for name, value in fields.items() if value is not None)
    return Publication(keys.OPS, msgspec.json.encode(line))


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


def _error_code(entry: Entry) -> str | None:
    event = events.decode(entry.payload)
    return event.code if isinstance(event, events.Error) else None
