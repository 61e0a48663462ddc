"""What a project's watchers are told from the rows: at first, after a gap in what was published, when nothing comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, Text, Uuid, and_, cast, column, func, or_, select, union
from sqlalchemy.dialects.postgresql import ARRAY

from shared.lifecycle import UNFINISHED, MemberRole, Role
from shared.models import ComponentJob, DocumentVersion, Member, Message, Project, User
from shared.records import DocumentChange, JobMark, Principal, ProjectNews, ProjectState, Since
from shared.store.job_rows import JOB_COLUMNS, OPEN, job_record
from shared.store.projects import role_in
from shared.store.rows import MESSAGE_BYTES, MESSAGE_COLUMNS, fitting, message_records
from shared.store.transactions import Transactions

MOST_NEWS: Final = 200
"""Versions, or messages, that one reader is told of at once; who lacks more starts anew."""
MOST_NEWS_BYTES: Final = 4 * 1024 * 1024


class WatchStore(Transactions):
    def project_for_reader(self, principal: Principal, project_id: UUID) -> MemberRole:
        """Whether the user may watch the project, and as what. Raises `NotFound`."""
        with self._statement() as connection:
            return role_in(connection, principal, project_id)

    def members_among(self, pairs: Collection[tuple[UUID, UUID]]) -> frozenset[tuple[UUID, UUID]]:
        """Those of the pairs of project and user that are members."""
        if not pairs:
            return frozenset()
        projects, users = zip(*pairs, strict=True)
        # as two arrays: a list of thousands of pairs is a condition that Postgres refuses as too deep
        wanted = (
            func.unnest(cast(list(projects), ARRAY(Uuid)), cast(list(users), ARRAY(Uuid)))
            .table_valued(column("project_id", Uuid), column("user_id", Uuid))
            .render_derived()
        )
        query = select(Member.project_id, Member.user_id).join(
            wanted, and_(Member.project_id == wanted.c.project_id, Member.user_id == wanted.c.user_id)
        )
        with self._statement() as connection:
            return frozenset((row.project_id, row.user_id) for row in connection.execute(query))

    def project_states(self, project_ids: Collection[UUID]) -> dict[UUID, ProjectState]:
        """How far each project has come; a deleted one is missing."""
        with self._moment() as connection:
            return _states(connection, project_ids)

    def project_news(self, project_id: UUID, since: Since | None, job_ids: Collection[UUID] = ()) -> ProjectNews | None:
        """How far the project has come, and what a reader that was told `since` lacks, oldest first.

        `job_ids` are shown whatever has become of them. None where the project is gone.
        """
        with self._moment() as connection:
            state = _states(connection, [project_id]).get(project_id)
            if state is None:
                return None
            jobs = connection.execute(
                select(*JOB_COLUMNS)
                .where(ComponentJob.project_id == project_id)
                .where(or_(ComponentJob.id.in_([*job_ids, *state.jobs])))
                .order_by(ComponentJob.id)
            )
            found = tuple(job_record(row) for row in jobs)
            if since is None:
                return ProjectNews(state=state, jobs=found)
            changes, all_changes = _changes(connection, project_id, since.version)
            sizes = connection.execute(_news(project_id, since)).all()
            count = min(fitting((row.size for row in sizes), MOST_NEWS_BYTES), MOST_NEWS)
            rows: Sequence[Row[Any]] = ()
            if count:
                shown = [row.id for row in sizes[:count]]
                rows = connection.execute(
                    select(*MESSAGE_COLUMNS).where(Message.id.in_(shown)).order_by(Message.id)
                ).all()
            return ProjectNews(
                state=state,
                jobs=found,
                changes=changes,
                messages=tuple(message_records(connection, rows)),
                is_whole=all_changes and count == len(sizes),
            )


def _news(project_id: UUID, since: Since) -> Any:
    """The ids and sizes of a project's first messages that a reader lacks: those that are new, and those that were retried.

    One question for each, which an index answers: together they would be answered by a look at every message.
    """
    theirs = Message.project_id == project_id
    new = select(Message.id).where(theirs)
    if since.message_id is not None:
        new = new.where(Message.id > since.message_id)
    retried = select(Message.id).where(
        theirs, Message.role == Role.ASSISTANT, Message.queue_number > since.queue_number
    )
    lacking = union(_first(new, Message.id), _first(retried, Message.queue_number)).subquery()
    return _first(select(Message.id, MESSAGE_BYTES).where(Message.id.in_(select(lacking.c.id))), Message.id)


def _first(query: Any, by: Any) -> Any:
    return query.order_by(by).limit(MOST_NEWS + 1)


def _states(connection: Connection, project_ids: Collection[UUID]) -> dict[UUID, ProjectState]:
    newest = (
        select(Message.id)
        .where(Message.project_id == Project.id)
        .order_by(Message.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    projects = connection.execute(
        select(Project.id, Project.version, Project.newest_queue_number, newest.label("newest")).where(
            Project.id.in_(project_ids)
        )
    ).all()
    unfinished: dict[UUID, list[UUID]] = defaultdict(list)
    jobs: dict[UUID, dict[UUID, JobMark]] = defaultdict(dict)
    rows = connection.execute(
        select(
            Message.project_id,
            Message.id,
            ComponentJob.id.label("job_id"),
            ComponentJob.status,
            ComponentJob.phase,
            ComponentJob.tries,
        )
        # by the message: its own `job_id` stands there only once the turn is over
        .outerjoin(ComponentJob, and_(ComponentJob.message_id == Message.id, ComponentJob.status.in_(OPEN)))
        .where(Message.project_id.in_(project_ids), Message.role == Role.ASSISTANT, Message.status.in_(UNFINISHED))
        .order_by(Message.id)
    )
    for row in rows:
        unfinished[row.project_id].append(row.id)
        if row.job_id is not None:
            jobs[row.project_id][row.job_id] = (row.status, row.phase, row.tries)
    return {
        row.id: ProjectState(
            version=row.version,
            newest_message_id=row.newest,
            newest_queue_number=row.newest_queue_number,
            unfinished=tuple(unfinished[row.id]),
            jobs=jobs[row.id],
        )
        for row in projects
    }


def _changes(connection: Connection, project_id: UUID, after: int) -> tuple[tuple[DocumentChange, ...], bool]:
    """The changes above a version, oldest first, and whether these are all."""
    above = (DocumentVersion.project_id == project_id, DocumentVersion.version > after)
    sizes = connection.execute(
        select(DocumentVersion.version, func.octet_length(cast(DocumentVersion.operations, Text)).label("size"))
        .where(*above)
        .order_by(DocumentVersion.version)
        .limit(MOST_NEWS + 1)
    ).all()
    count = min(fitting((row.size for row in sizes), MOST_NEWS_BYTES), MOST_NEWS)
    if not count:
        return (), True
    rows = connection.execute(
        select(DocumentVersion.__table__, User.name.label("author"))
        .outerjoin(User, User.id == DocumentVersion.author_id)
        .where(*above, DocumentVersion.version <= sizes[count - 1].version)
        .order_by(DocumentVersion.version)
    )
    changes = tuple(
        DocumentChange(
            version=row.version,
            operations=row.operations,
            author=row.author,
            message_id=row.message_id,
            undoes=row.undoes,
            redoes=row.redoes,
        )
        for row in rows
    )
    return changes, count == len(sizes)
