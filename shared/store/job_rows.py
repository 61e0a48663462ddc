"""Component jobs as rows, for the store's chapters: each function runs inside its caller's transaction."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, select, update

from shared.lifecycle import JobStatus
from shared.models import ComponentJob, LedgerEntry
from shared.records import Job, Lease

OPEN: Final = (JobStatus.PENDING, JobStatus.BUILDING)

JOB_COLUMNS: Final[tuple[Any, ...]] = (
    ComponentJob.id,
    ComponentJob.project_id,
    ComponentJob.message_id,
    ComponentJob.name,
    ComponentJob.effect_description,
    ComponentJob.status,
    ComponentJob.phase,
    ComponentJob.tries,
    ComponentJob.error,
    ComponentJob.created_at,
    ComponentJob.updated_at,
)


def job_record(row: Row[Any]) -> Job:
    """Of a row of `JOB_COLUMNS`."""
    return Job(
        id=row.id,
        project_id=row.project_id,
        message_id=row.message_id,
        name=row.name,
        effect_description=row.effect_description,
        status=row.status,
        phase=row.phase,
        tries=row.tries,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def start_job(connection: Connection, lease: Lease, tool_call_id: str, name: str, effect_description: str) -> Job:
    """The job of a tool call, once: its id is unique among the calls."""
    row = connection.execute(
        insert(ComponentJob)
        .values(
            project_id=lease.project_id,
            message_id=lease.message_id,
            tool_call_id=tool_call_id,
            name=name,
            effect_description=effect_description,
            status=JobStatus.PENDING,
        )
        .returning(*JOB_COLUMNS)
    ).one()
    return job_record(row)


def has_job(connection: Connection, lease: Lease) -> bool:
    """Whether the run has started its job."""
    return (
        connection.execute(
            select(LedgerEntry.tool_call_id).where(
                LedgerEntry.message_id == lease.message_id,
                LedgerEntry.run == lease.run,
                LedgerEntry.job_id.is_not(None),
            )
        ).first()
        is not None
    )


def write_job(connection: Connection, job_id: UUID, **values: Any) -> Job | None:
    """Change a job whose message the caller has locked; None where there is none."""
    row = connection.execute(
        update(ComponentJob)
        .where(ComponentJob.id == job_id)
        .values(**values, updated_at=func.now())
        .returning(*JOB_COLUMNS)
    ).one_or_none()
    return None if row is None else job_record(row)


def end_open_job(connection: Connection, message_id: UUID, status: JobStatus, **values: Any) -> Job | None:
    """The message ends: so does the job that it has started, if any."""
    row = connection.execute(
        update(ComponentJob)
        .where(ComponentJob.message_id == message_id, ComponentJob.status.in_(OPEN))
        .values(status=status, phase=None, **values, updated_at=func.now())
        .returning(*JOB_COLUMNS)
    ).first()
    return None if row is None else job_record(row)
