"""What an audit reads, page by page, and how it mends. Each page is of one moment and bounded in bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ARRAY, Connection, Text, and_, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from shared.auditing import AuditedCall, AuditedJob, AuditedMessage, AuditedRound, AuditedVersion
from shared.lifecycle import FINAL, UNFINISHED, JobStatus, MessageStatus, Role
from shared.models import (
    Audit,
    ComponentJob,
    DocumentVersion,
    IdempotencyKey,
    LedgerEntry,
    Message,
    Project,
    Round,
)
from shared.records import Ending, JsonValue
from shared.store.builds import build_waited_for
from shared.store.job_rows import OPEN
from shared.store.rows import fitting
from shared.store.sweeping import CLOSING_COLUMNS, ToClose, to_close_record
from shared.store.transactions import Transactions
from shared.store.turn_statements import WAITED_FOR

PAGE: Final = 200
PAGE_BYTES: Final = 8 * 1024 * 1024
REPLAYED_VERSIONS: Final = 200
"""Of each project, the newest: made again from the present document backwards."""
REPLAYED_BYTES: Final = 8 * 1024 * 1024


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A stored audit; the three are counts by kind. `project_id`: it looked at that project alone."""

    project_id: UUID | None
    began_at: datetime
    ended_at: datetime
    looked_at: dict[str, int]
    found: dict[str, int]
    repaired: dict[str, int]
    disagreements_left: int


class AuditedProject(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    version: int
    stored: tuple[int, int, int]
    """How many versions are stored, the lowest and the highest; zeros where none is."""


class AuditStore(Transactions):
    # --- what is read -----------------------------------------------------------------------------------------------

    def audited_messages(
        self, *, after: UUID | None = None, project_id: UUID | None = None, limit: int = PAGE
    ) -> list[AuditedMessage]:
        """A page of messages by id, above `after`, with all that belongs to them; empty at the end."""
        theirs: list[Any] = []
        if after is not None:
            theirs.append(Message.id > after)
        if project_id is not None:
            theirs.append(Message.project_id == project_id)
        with self._moment() as connection:
            sizes = connection.execute(
                select(Message.id, func.octet_length(Message.content).label("size"))
                .where(*theirs)
                .order_by(Message.id)
                .limit(limit)
            ).all()
            count = fitting((row.size for row in sizes), PAGE_BYTES)
            return _messages(connection, [row.id for row in sizes[:count]])

    def audited_message(self, message_id: UUID) -> AuditedMessage | None:
        """One message anew; None where it is gone."""
        with self._moment() as connection:
            found = _messages(connection, [message_id])
        return found[0] if found else None

    def audited_projects(
        self, *, after: UUID | None = None, project_id: UUID | None = None, limit: int = 50
    ) -> list[AuditedProject]:
        """A page of projects by id, above `after`, with the numbers of their versions."""
        theirs: list[Any] = []
        if after is not None:
            theirs.append(Project.id > after)
        if project_id is not None:
            theirs.append(Project.id == project_id)
        page = select(Project.id, Project.version).where(*theirs).order_by(Project.id).limit(limit).subquery()
        number = DocumentVersion.version
        with self._moment() as connection:
            rows = connection.execute(
                select(
                    page.c.id,
                    page.c.version,
                    func.count(number).label("stored"),
                    func.coalesce(func.min(number), 0).label("lowest"),
                    func.coalesce(func.max(number), 0).label("highest"),
                )
                .outerjoin(DocumentVersion, DocumentVersion.project_id == page.c.id)
                .group_by(page.c.id, page.c.version)
                .order_by(page.c.id)
            )
            return [
                AuditedProject(id=row.id, version=row.version, stored=(row.stored, row.lowest, row.highest))
                for row in rows
            ]

    def audited_versions(self, project_id: UUID) -> tuple[JsonValue, list[AuditedVersion]] | None:
        """A project's document and its newest versions, newest first, as many as fit; None where it is gone."""
        bytes_ = func.octet_length(DocumentVersion.operations.cast(Text)) + func.octet_length(
            DocumentVersion.inverse.cast(Text)
        )
        newest = DocumentVersion.version.desc()
        with self._moment() as connection:
            project = connection.execute(
                select(Project.document, Project.version).where(Project.id == project_id)
            ).one_or_none()
            if project is None:
                return None
            sizes = connection.execute(
                select(DocumentVersion.version, bytes_.label("size"))
                .where(DocumentVersion.project_id == project_id)
                .order_by(newest)
                .limit(REPLAYED_VERSIONS)
            ).all()
            count = fitting((row.size for row in sizes), REPLAYED_BYTES)
            rows = connection.execute(
                select(DocumentVersion.version, DocumentVersion.operations, DocumentVersion.inverse)
                .where(
                    DocumentVersion.project_id == project_id,
                    DocumentVersion.version.in_([row.version for row in sizes[:count]]),
                )
                .order_by(newest)
            )
            versions = [
                AuditedVersion(version=row.version, operations=row.operations, inverse=row.inverse) for row in rows
            ]
        return project.document, versions

    def audited_keys(
        self, *, after: tuple[UUID, UUID, str] | None = None, project_id: UUID | None = None, limit: int = 1000
    ) -> tuple[int, list[tuple[UUID, UUID, str]], tuple[UUID, UUID, str] | None]:
        """A page of idempotency keys: how many, those whose message is no answer of their project, and where to go on."""
        columns = (IdempotencyKey.user_id, IdempotencyKey.project_id, IdempotencyKey.key)
        query = select(*columns, Message.role, Message.project_id.label("home")).outerjoin(
            Message, Message.id == IdempotencyKey.assistant_message_id
        )
        if after is not None:
            query = query.where(func.row(*columns) > func.row(*after))
        if project_id is not None:
            query = query.where(IdempotencyKey.project_id == project_id)
        with self._statement() as connection:
            rows = connection.execute(query.order_by(*columns).limit(limit)).all()
        wrong = [
            (row.user_id, row.project_id, row.key)
            for row in rows
            if row.role is not Role.ASSISTANT or row.home != row.project_id
        ]
        last = rows[-1] if len(rows) == limit else None
        return len(rows), wrong, None if last is None else (last.user_id, last.project_id, last.key)

    # --- how it mends -----------------------------------------------------------------------------------------------

    def ending_of(self, message_id: UUID) -> Ending | None:
        """The stored end of a final message; None where there is none."""
        with self._statement() as connection:
            row = connection.execute(
                select(Message.id, Message.project_id, Message.status, Message.ending, Message.model).where(
                    Message.id == message_id, Message.status.in_(FINAL), Message.ending.is_not(None)
                )
            ).one_or_none()
        if row is None:
            return None
        return Ending(
            message_id=row.id,
            project_id=row.project_id,
            status=row.status,
            events=tuple(map(bytes, row.ending)),
            model=row.model,
        )

    def take_lapsed_lease(self, message_id: UUID, *, overdue_s: float) -> bool:
        """Take one lease that ran out so long ago, which counts as a try, as the sweeper would have."""
        with self._transaction() as connection:
            taken = connection.execute(
                update(Message)
                .where(
                    Message.id.in_(
                        select(Message.id)
                        .where(
                            Message.id == message_id,
                            Message.lease_owner.is_not(None),
                            Message.lease_until < func.clock_timestamp() - timedelta(seconds=overdue_s),
                        )
                        .with_for_update(skip_locked=True)
                    )
                )
                .values(
                    lease_owner=None, lease_until=None, tries=Message.tries + 1, rung_at=None, updated_at=func.now()
                )
                .returning(Message.id)
            )
            return taken.one_or_none() is not None

    def note_rung(self, message_id: UUID) -> bool:
        """Somebody rings for the message now. False where it is not its turn, it is a batch's, or the row is locked."""
        with self._transaction() as connection:
            rung = connection.execute(
                update(Message)
                .where(
                    Message.id.in_(
                        select(Message.id)
                        .where(Message.id == message_id, or_(WAITED_FOR, build_waited_for()))
                        .with_for_update(skip_locked=True)
                    )
                )
                .values(rung_at=func.now())
                .returning(Message.id)
            )
            return rung.one_or_none() is not None

    def abandoned(self, message_id: UUID) -> ToClose | None:
        """An unfinished message that nobody holds, to be closed as lost, or as cancelled where that was asked for."""
        with self._statement() as connection:
            row = connection.execute(
                select(*CLOSING_COLUMNS).where(
                    Message.id == message_id, Message.status.in_(UNFINISHED), Message.lease_owner.is_(None)
                )
            ).one_or_none()
        return None if row is None else to_close_record(row)

    def end_job_with_message(self, message_id: UUID) -> int:
        """End a final message's open jobs as the message ended: a success only where there is a bundle. How many."""
        with self._transaction() as connection:
            row = connection.execute(
                select(Message.status).where(Message.id == message_id, Message.status.in_(FINAL)).with_for_update()
            ).one_or_none()
            if row is None:
                return 0
            theirs = (ComponentJob.message_id == message_id, ComponentJob.status.in_(OPEN))
            ended = 0
            if row.status is MessageStatus.SUCCESS:
                built = update(ComponentJob).where(*theirs, ComponentJob.bundle.is_not(None))
                ended = connection.execute(
                    built.values(status=JobStatus.SUCCESS, error=None, phase=None, updated_at=func.now())
                ).rowcount
            cancelled = row.status is MessageStatus.CANCELLED
            rest = update(ComponentJob).where(*theirs)
            ended += connection.execute(
                rest.values(
                    status=JobStatus.CANCELLED if cancelled else JobStatus.ERROR,
                    error=None if cancelled else "The component was not built.",
                    phase=None,
                    updated_at=func.now(),
                )
            ).rowcount
            return ended

    def forget_key(self, key: tuple[UUID, UUID, str]) -> None:
        """The key stands for nothing any more."""
        user_id, project_id, name = key
        with self._transaction() as connection:
            connection.execute(
                delete(IdempotencyKey).where(
                    IdempotencyKey.user_id == user_id,
                    IdempotencyKey.project_id == project_id,
                    IdempotencyKey.key == name,
                )
            )

    # --- what is kept of it -----------------------------------------------------------------------------------------

    def database_now(self) -> datetime:
        """The database's clock."""
        with self._statement() as connection:
            now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return now

    def keep_audit(
        self,
        *,
        project_id: UUID | None,
        began_at: datetime,
        looked_at: Mapping[str, int],
        found: Mapping[str, int],
        repaired: Mapping[str, int],
        disagreements_left: int,
    ) -> None:
        """Store what an audit came to."""
        with self._transaction() as connection:
            connection.execute(
                insert(Audit).values(
                    project_id=project_id,
                    began_at=began_at,
                    looked_at=dict(looked_at),
                    found=dict(found),
                    repaired=dict(repaired),
                    disagreements_left=disagreements_left,
                )
            )

    def last_audit(self) -> AuditRecord | None:
        """The newest audit that looked at everything; None where there was none."""
        with self._statement() as connection:
            row = connection.execute(
                select(Audit.__table__).where(Audit.project_id.is_(None)).order_by(Audit.id.desc()).limit(1)
            ).one_or_none()
        if row is None:
            return None
        return AuditRecord(
            project_id=row.project_id,
            began_at=row.began_at,
            ended_at=row.ended_at,
            looked_at=row.looked_at,
            found=row.found,
            repaired=row.repaired,
            disagreements_left=row.disagreements_left,
        )


# --- rows to records -----------------------------------------------------------------------------------------------

_NOW: Final = func.clock_timestamp()
_question, _answer, _other, _neighbour = (aliased(Message) for _ in range(4))


def _age_s(column: Any) -> Any:
    return func.extract("epoch", _NOW - column)


_COLUMNS: Final[tuple[Any, ...]] = (
    Message.id,
    Message.project_id,
    Message.role,
    Message.kind,
    Message.status,
    Message.content,
    Message.error_code,
    exists()
    .where(
        _question.id == Message.reply_to,
        _question.role == Role.USER,
        _question.project_id == Message.project_id,
    )
    .label("has_question"),
    case(
        (
            Message.role == Role.USER,
            select(func.count()).select_from(_answer).where(_answer.reply_to == Message.id).scalar_subquery(),
        ),
        else_=0,
    ).label("answers"),
    Message.job_id,
    Message.attempt,
    Message.run,
    Message.tries,
    Message.lease_owner.is_not(None).label("is_leased"),
    func.coalesce(_age_s(Message.lease_until), 0).label("lease_overdue_s"),
    _age_s(Message.updated_at).label("unwritten_s"),
    func.coalesce(_age_s(func.coalesce(Message.rung_at, Message.enqueued_at)), 0).label("unrung_s"),
    _age_s(Message.cancel_requested_at).label("cancel_age_s"),
    or_(WAITED_FOR, build_waited_for()).label("is_waited_for"),
    case(
        (
            Message.status == MessageStatus.PENDING,
            select(_age_s(func.max(_neighbour.updated_at)))
            .where(_neighbour.project_id == Message.project_id)
            .scalar_subquery(),
        ),
        else_=_age_s(Message.updated_at),
    ).label("project_quiet_s"),
    Message.queue_number,
    and_(
        Message.status == MessageStatus.PENDING,
        Message.batch_id.is_(None),  # a batch's stand in no line, in which others are moved up
        exists().where(
            _other.project_id == Message.project_id,
            _other.status == MessageStatus.PENDING,
            _other.batch_id.is_(None),
            _other.queue_number == Message.queue_number,
            _other.id < Message.id,
        ),
    ).label("shares_number"),
    Project.newest_queue_number,
    Message.last_event_id,
    Message.ending,
    Message.ending_appended,
)


def _messages(connection: Connection, message_ids: Sequence[UUID]) -> list[AuditedMessage]:
    """The messages that there are, by id, with what belongs to them."""
    if not message_ids:
        return []
    rows = connection.execute(
        select(*_COLUMNS)
        .join(Project, Project.id == Message.project_id)
        .where(Message.id.in_(message_ids))
        .order_by(Message.id)
    ).all()
    answers = [row.id for row in rows if row.role is Role.ASSISTANT]
    rounds, calls = _rounds(connection, answers), _calls(connection, answers)
    jobs, versions = _jobs(connection, answers), _versions(connection, answers)
    oldest = _oldest_versions(connection, {row.project_id for row in rows})
    return [
        AuditedMessage(
            id=row.id,
            project_id=row.project_id,
            role=row.role,
            kind=row.kind,
            status=row.status,
            content=row.content,
            error_code=row.error_code,
            has_question=row.has_question,
            answers=row.answers,
            job_id=row.job_id,
            attempt=row.attempt,
            run=row.run,
            tries=row.tries,
            is_leased=row.is_leased,
            lease_overdue_s=float(row.lease_overdue_s),
            unwritten_s=float(row.unwritten_s),
            unrung_s=float(row.unrung_s),
            cancel_age_s=None if row.cancel_age_s is None else float(row.cancel_age_s),
            is_waited_for=row.is_waited_for,
            project_quiet_s=float(row.project_quiet_s),
            queue_number=row.queue_number,
            shares_number=bool(row.shares_number),
            newest_queue_number=row.newest_queue_number,
            last_event_id=row.last_event_id,
            ending=tuple(map(bytes, row.ending or ())),
            ending_appended=row.ending_appended,
            rounds=tuple(rounds[row.id]),
            calls=tuple(calls[row.id]),
            jobs=tuple(jobs[row.id]),
            oldest_version=oldest.get(row.project_id, 0),
            versions=tuple(versions[row.id]),
        )
        for row in rows
    ]


def _rounds(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, list[AuditedRound]]:
    # the ids alone: arguments of calls may have megabytes
    call = func.json_array_elements(Round.calls).table_valued("value", with_ordinality="place").render_derived()
    ids = (
        select(func.array_agg(call.c.value.op("->>")("tool_call_id")).cast(ARRAY(Text)))
        .select_from(call)
        .scalar_subquery()
    )
    found: dict[UUID, list[AuditedRound]] = defaultdict(list)
    for row in connection.execute(
        select(Round.message_id, Round.run, Round.round, Round.attempt, ids.label("calls"))
        .where(Round.message_id.in_(message_ids))
        .order_by(Round.message_id, Round.run, Round.round)
    ):
        found[row.message_id].append(
            AuditedRound(run=row.run, round=row.round, attempt=row.attempt, calls=tuple(row.calls or ()))
        )
    return found


def _calls(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, list[AuditedCall]]:
    found: dict[UUID, list[AuditedCall]] = defaultdict(list)
    for row in connection.execute(
        select(
            LedgerEntry.message_id,
            LedgerEntry.tool_call_id,
            LedgerEntry.run,
            LedgerEntry.round,
            LedgerEntry.index.label("place"),
            LedgerEntry.attempt,
            LedgerEntry.name,
            LedgerEntry.succeeded,
            LedgerEntry.job_id,
            LedgerEntry.version,
        ).where(LedgerEntry.message_id.in_(message_ids))
    ):
        found[row.message_id].append(
            AuditedCall(
                tool_call_id=row.tool_call_id,
                run=row.run,
                round=row.round,
                index=row.place,
                attempt=row.attempt,
                name=row.name,
                succeeded=row.succeeded,
                job_id=row.job_id,
                version=row.version,
            )
        )
    return found


def _jobs(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, list[AuditedJob]]:
    def is_sound(text: Any, digest: Any) -> Any:
        told = func.encode(func.sha256(func.convert_to(text, "UTF8")), "hex")
        return or_(and_(text.is_(None), digest.is_(None)), func.coalesce(told == digest, False))

    job = ComponentJob
    sound = and_(
        is_sound(job.source, job.source_sha256),
        is_sound(job.bundle, job.bundle_sha256),
        job.source.is_(None) == job.bundle.is_(None),
    )
    found: dict[UUID, list[AuditedJob]] = defaultdict(list)
    for row in connection.execute(
        select(
            job.message_id,
            job.id,
            job.project_id,
            job.tool_call_id,
            job.status,
            job.bundle.is_not(None).label("has_bundle"),
            sound.label("is_sound"),
        )
        .where(job.message_id.in_(message_ids))
        .order_by(job.id)
    ):
        found[row.message_id].append(
            AuditedJob(
                id=row.id,
                project_id=row.project_id,
                tool_call_id=row.tool_call_id,
                status=row.status,
                has_bundle=row.has_bundle,
                is_sound=row.is_sound,
            )
        )
    return found


def _versions(connection: Connection, message_ids: Collection[UUID]) -> dict[UUID, list[tuple[UUID, int]]]:
    found: dict[UUID, list[tuple[UUID, int]]] = defaultdict(list)
    for row in connection.execute(
        select(DocumentVersion.message_id, DocumentVersion.project_id, DocumentVersion.version).where(
            DocumentVersion.message_id.in_(message_ids)
        )
    ):
        found[row.message_id].append((row.project_id, row.version))
    return found


def _oldest_versions(connection: Connection, project_ids: Collection[UUID]) -> dict[UUID, int]:
    lowest = (
        select(DocumentVersion.version)
        .where(DocumentVersion.project_id == Project.id)
        .order_by(DocumentVersion.version)
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(select(Project.id, lowest.label("version")).where(Project.id.in_(project_ids)))
    return {row.id: row.version for row in rows if row.version is not None}
