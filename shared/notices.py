"""What is published beside the message channels: for a project's watchers and for operators.

A project's channel has the lifecycle of its messages (all but deltas), new rows and document changes. The operators' channel
has the lifecycle of everything and never users' text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal
from uuid import UUID

import msgspec

from shared import events, keys
from shared.event_log import Entry, Publication
from shared.records import DocumentChange, Ending, Job, Message

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
    return [*lifecycle(ended.project_id, entries), *told, finalized(ended.project_id, entries[-1], code)]


def ops(kind: OpsType, message_id: UUID, project_id: UUID, **fields: object) -> Publication:
    """One lifecycle line for operators. None-valued fields are left out."""
    line = {"type": kind, "messageId": str(message_id), "projectId": str(project_id), "ts": now_ms()}
    line.update((name, value) for name, value in fields.items() if value is not None)
    return Publication(keys.OPS, msgspec.json.encode(line))


def message_made(message: Message) -> Publication:
    payload = msgspec.json.encode({"type": "message", "message": message})
    return Publication(keys.project_channel(message.project_id), payload)


def document_changed(project_id: UUID, change: DocumentChange) -> Publication:
    payload = msgspec.json.encode({"type": "document", **msgspec.to_builtins(change)})
    return Publication(keys.project_channel(project_id), payload)


def job_changed(job: Job) -> Publication:
    payload = {
        "type": "job",
        "jobId": job.id,
        "messageId": job.message_id,
        "name": job.name,
        "status": job.status,
        "phase": job.phase,
        "try": job.tries,
    }
    return Publication(keys.project_channel(job.project_id), msgspec.json.encode(payload))


def cancel_asked(message_id: UUID) -> Publication:
    """The nudge to whoever holds the message; the row is what counts."""
    return Publication(keys.CONTROL, msgspec.json.encode({"type": "cancel", "messageId": str(message_id)}))


def access_withdrawn(project_id: UUID, user_id: UUID | None = None) -> Publication:
    """Every API process closes its sockets of the project, all or one user's."""
    told = {"type": "withdraw", "projectId": str(project_id)} | ({"userId": str(user_id)} if user_id else {})
    return Publication(keys.CONTROL, msgspec.json.encode(told))


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _error_code(entry: Entry) -> str | None:
    event = events.decode(entry.payload)
    return event.code if isinstance(event, events.Error) else None
