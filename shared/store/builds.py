"""Component jobs: what their users read, and what a builder does to one.

A builder holds the message, not the job: its lease, its attempt and its cancel are the message's, and every write carries
them.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, case, func, or_, select, update

from shared.errors import Fenced, NotBuilt, NotFound
from shared.lifecycle import JobStatus, MessageStatus
from shared.models import ComponentJob, Member, Message
from shared.records import BuildClaim, Job, Lease, Principal
from shared.store.job_rows import JOB_COLUMNS, job_record, write_job
from shared.store.projects import role_in
from shared.store.rows import ledger, usage
from shared.store.transactions import Transactions
from shared.store.turns import is_of, write_under_lease


def buildable() -> Any:
    """What a builder may take: building, held by nobody, not asked to end. Builds wait for nobody."""
    return and_(
        Message.status == MessageStatus.BUILDING,
        Message.lease_owner.is_(None),
        Message.cancel_requested_at.is_(None),
    )


def build_waited_for() -> Any:
    """What a builder may take, and somebody waits for it."""
    return and_(buildable(), Message.batch_id.is_(None))


class BuildStore(Transactions):
    # --- what users read ----------------------------------------------------------------------------------------

    def jobs(
        self, principal: Principal, project_id: UUID, *, limit: int, before: UUID | None = None
    ) -> tuple[list[Job], UUID | None]:
        """A page of a project's jobs, newest first, and the next page's `before`. Raises `NotFound`."""
        query = select(*JOB_COLUMNS).where(ComponentJob.project_id == project_id)
        if before is not None:
            query = query.where(ComponentJob.id < before)
        with self._transaction() as connection:
            role_in(connection, principal, project_id)
            rows = connection.execute(query.order_by(ComponentJob.id.desc()).limit(limit + 1)).all()
        page = [job_record(row) for row in rows[:limit]]
        return page, page[-1].id if len(rows) > limit else None

    def job(self, principal: Principal, job_id: UUID) -> Job:
        """Raises `NotFound`."""
        return job_record(self._seen_job(principal, job_id, *JOB_COLUMNS))

    def built_jobs(self, principal: Principal, project_id: UUID, job_ids: Collection[UUID]) -> list[Job]:
        """Those of the jobs that are the project's and have a bundle, oldest first. Raises `NotFound`."""
        query = select(*JOB_COLUMNS).where(
            ComponentJob.project_id == project_id, ComponentJob.id.in_(job_ids), ComponentJob.bundle.is_not(None)
        )
        with self._transaction() as connection:
            role_in(connection, principal, project_id)
            return [job_record(row) for row in connection.execute(query.order_by(ComponentJob.id))]

    def job_source(self, principal: Principal, job_id: UUID) -> tuple[str, str]:
        """The built component's TSX and its SHA-256 in hex. Raises `NotFound`, `NotBuilt`."""
        row = self._seen_job(principal, job_id, ComponentJob.source, ComponentJob.source_sha256)
        if row.source is None:
            raise NotBuilt
        return row.source, row.source_sha256

    def job_bundle(self, principal: Principal, job_id: UUID) -> tuple[str, str]:
        """The built component's ES module and its SHA-256 in hex. Raises `NotFound`, `NotBuilt`."""
        row = self._seen_job(principal, job_id, ComponentJob.bundle, ComponentJob.bundle_sha256)
        if row.bundle is None:
            raise NotBuilt
        return row.bundle, row.bundle_sha256

    def _seen_job(self, principal: Principal, job_id: UUID, *columns: Any) -> Row[Any]:
        with self._transaction() as connection:
            row = connection.execute(
                select(*columns)
                .select_from(ComponentJob)
                .join(Member, Member.project_id == ComponentJob.project_id)
                .where(ComponentJob.id == job_id, Member.user_id == principal.user_id)
            ).one_or_none()
        if row is None:
            raise NotFound
        return row

    # --- what a builder does ------------------------------------------------------------------------------------

    def claim_build(self, message_id: UUID, owner: str, *, lease_s: float, max_tries: int) -> BuildClaim | None:
        """Take the message for its job, under a new attempt; None where there is nothing to take. As `claim` otherwise."""
        with self._transaction() as connection:
            row = connection.execute(
                update(Message)
                .where(Message.id == message_id, or_(and_(Message.tries < max_tries, buildable()), is_of(owner)))
                .values(
                    attempt=case((is_of(owner), Message.attempt), else_=Message.attempt + 1),
                    lease_owner=owner,
                    lease_until=func.clock_timestamp() + timedelta(seconds=lease_s),
                    # a build that is tried again by hand has no turn before it that was claimed
                    claimed_at=func.coalesce(Message.claimed_at, func.clock_timestamp()),
                    # of the turn's end, which this attempt's snapshot stands for
                    ending=None,
                    ending_appended=True,
                    updated_at=func.now(),
                )
                .returning(
                    Message.project_id,
                    Message.attempt,
                    Message.run,
                    Message.tries,
                    Message.model,
                    Message.content,
                    Message.job_id,
                    Message.usage,
                    Message.first_token_ms,
                )
            ).one_or_none()
            if row is None:
                return None
            job = write_job(connection, row.job_id, status=JobStatus.BUILDING, error=None)
            if job is None:
                raise AssertionError(f"message {message_id} is building without a job")
            effects = ledger(connection, [message_id])[message_id]
        return BuildClaim(
            lease=Lease(
                message_id=message_id, project_id=row.project_id, owner=owner, attempt=row.attempt, run=row.run
            ),
            tries=row.tries,
            model=row.model,
            content=row.content,
            effects=tuple(effects),
            job=job,
            usage=usage(row.usage),
            first_token_ms=row.first_token_ms,
        )

    def write_phase(self, lease: Lease, job_id: UUID, phase: str, *, tries: int) -> Job:
        """How far the job has come. Raises `Fenced`."""
        with self._transaction() as connection:
            write_under_lease(connection, lease)
            job = write_job(connection, job_id, phase=phase, tries=tries)
        if job is None:
            raise Fenced
        return job
