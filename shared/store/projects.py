"""Projects and their documents."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, Text, Uuid, bindparam, cast, delete, func, insert, select, text, update

from shared.errors import Forbidden, NotFound, PatchRejected, VersionMismatch
from shared.lifecycle import UNFINISHED, MemberRole
from shared.models import DocumentVersion, Member, Message, Project
from shared.patching import PatchLimits, apply_patch, oversized
from shared.records import DocumentChange, JsonValue, Principal
from shared.records import Project as ProjectRecord
from shared.schema import check_document, check_schema
from shared.store.rows import fitting
from shared.store.transactions import Transactions

DELETED_AT_ONCE = 5_000
PAGE_DOCUMENT_BYTES = 4 * 1024 * 1024
OWNERS = frozenset({MemberRole.OWNER})
EDITORS = frozenset({MemberRole.OWNER, MemberRole.EDITOR})


class ProjectStore(Transactions):
    def create_project(
        self, principal: Principal, name: str, document: JsonValue, schema: JsonValue, limits: PatchLimits
    ) -> ProjectRecord:
        """Raises `PatchRejected` (too large), `InvalidSchema` or `SchemaViolation`."""
        if problem := oversized(document, limits):
            raise PatchRejected(problem)
        if schema is not None:
            check_schema(schema)
            check_document(document, schema)
        with self._transaction() as connection:
            project_id = connection.execute(
                insert(Project).values(name=name, document=document, schema=schema).returning(Project.id)
            ).scalar_one()
            connection.execute(
                insert(Member).values(project_id=project_id, user_id=principal.user_id, role=MemberRole.OWNER)
            )
            return project_record(seen_project(connection, principal, project_id))

    def projects(
        self, principal: Principal, *, limit: int, before: UUID | None = None
    ) -> tuple[list[ProjectRecord], UUID | None]:
        """A page of the projects of which the user is a member, newest first, and the next page's `before`.

        A page ends early where its documents would be large: `PAGE_DOCUMENT_BYTES`.
        """
        mine = (Member.user_id == principal.user_id,) + ((Project.id < before,) if before is not None else ())
        sizes = (
            select(Project.id, func.octet_length(cast(Project.document, Text)).label("size"))
            .join(Member, Member.project_id == Project.id)
            .where(*mine)
            .order_by(Project.id.desc())
            .limit(limit + 1)
        )
        with self._moment() as connection:
            found = connection.execute(sizes).all()
            count = fitting((row.size for row in found[:limit]), PAGE_DOCUMENT_BYTES)
            shown = [row.id for row in found[:count]]
            rows = connection.execute(
                select(Project.__table__, Member.role)
                .join(Member, Member.project_id == Project.id)
                .where(Project.id.in_(shown), Member.user_id == principal.user_id)
                .order_by(Project.id.desc())
            ).all()
        page = [project_record(row) for row in rows]
        return page, shown[-1] if len(found) > len(shown) else None

    def project(self, principal: Principal, project_id: UUID) -> ProjectRecord:
        """Raises `NotFound`."""
        with self._statement() as connection:
            return project_record(seen_project(connection, principal, project_id))

    def change_project(
        self, principal: Principal, project_id: UUID, *, name: str | None = None, schema: JsonValue = ...
    ) -> ProjectRecord:
        """Rename, or give another schema, which the present document must fit. `...` leaves the schema as it is.

        Raises `NotFound`, `Forbidden`, `InvalidSchema`, `SchemaViolation`.
        """
        with self._transaction() as connection:
            row = lock_project(connection, principal, project_id, EDITORS)
            changes: dict[str, Any] = {"updated_at": func.now()}
            if name is not None:
                changes["name"] = name
            if schema is not ...:
                if schema is not None:
                    check_schema(schema)
                check_document(row.document, schema)
                changes["schema"] = schema
            connection.execute(update(Project).where(Project.id == project_id).values(changes))
            return project_record(seen_project(connection, principal, project_id))

    def delete_project(self, principal: Principal, project_id: UUID) -> list[UUID]:
        """Owners only. Takes everything with it; answers the messages that were unfinished. A worker that still writes one
        finds itself fenced. Raises `NotFound`, `Forbidden`."""
        with self._transaction() as connection:
            lock_project(connection, principal, project_id, OWNERS)
            unfinished = connection.execute(
                select(Message.id).where(Message.project_id == project_id, Message.status.in_(UNFINISHED))
            ).scalars()
            ids = list(unfinished)
            for rows, key in ((Message, Message.id), (DocumentVersion, DocumentVersion.version)):
                # in pieces, each of which is done within the time that a statement has
                theirs = select(key).where(rows.project_id == project_id).limit(DELETED_AT_ONCE)
                while connection.execute(delete(rows).where(rows.project_id == project_id, key.in_(theirs))).rowcount:
                    pass
            # nothing is left but what hangs on the project itself: to look for it, Postgres would read every message where
            # its statistics still know the project as a large one
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(delete(Project).where(Project.id == project_id))
        return ids

    def patch_document(
        self,
        principal: Principal,
        project_id: UUID,
        operations: list[JsonValue],
        limits: PatchLimits,
        *,
        expected_version: int | None = None,
    ) -> tuple[ProjectRecord, DocumentChange]:
        """All of `operations` or nothing, as a new version.

        Raises `NotFound`, `Forbidden`, `VersionMismatch`, `PatchRejected`, `SchemaViolation`.
        """
        with self._transaction() as connection:
            row = lock_project(connection, principal, project_id, EDITORS)
            if expected_version is not None and row.version != expected_version:
                raise VersionMismatch
            change = change_document(connection, row, operations, limits, author=principal)
            return project_record(seen_project(connection, principal, project_id)), change


def change_document(
    connection: Connection,
    project: Row[Any],
    operations: list[JsonValue],
    limits: PatchLimits,
    *,
    author: Principal | None = None,
    message_id: UUID | None = None,
    undoes: int | None = None,
    redoes: int | None = None,
) -> DocumentChange:
    """The next version of a locked project's document. Raises `PatchRejected` or `SchemaViolation`; nothing changed."""
    patched = apply_patch(project.document, operations, limits)
    check_document(patched.document, project.schema)
    version = project.version + 1
    connection.execute(
        update(Project)
        .where(Project.id == project.id)
        .values(document=patched.document, version=version, updated_at=func.now())
    )
    connection.execute(
        insert(DocumentVersion).values(
            project_id=project.id,
            version=version,
            operations=operations,
            inverse=patched.inverse,
            message_id=message_id,
            author_id=None if author is None else author.user_id,
            undoes=undoes,
            redoes=redoes,
        )
    )
    return DocumentChange(
        version=version,
        operations=operations,
        author=None if author is None else author.user,
        message_id=message_id,
        undoes=undoes,
        redoes=redoes,
    )


def role_in(connection: Connection, principal: Principal, project_id: UUID) -> MemberRole:
    """Raises `NotFound` for a stranger, as for a project that does not exist."""
    role = connection.execute(
        select(Member.role).where(Member.project_id == project_id, Member.user_id == principal.user_id)
    ).scalar_one_or_none()
    if role is None:
        raise NotFound
    return role


# what every submit and every patch ask is built once
_THEIRS: Final = (
    Project.id == bindparam("project", type_=Uuid()),
    Member.user_id == bindparam("user", type_=Uuid()),
)
_LOCK: Final = (
    select(Project.id).join(Member, Member.project_id == Project.id).where(*_THEIRS).with_for_update(of=Project)
)
_SEEN: Final = select(Project.__table__, Member.role).join(Member, Member.project_id == Project.id).where(*_THEIRS)


def lock_project(
    connection: Connection, principal: Principal, project_id: UUID, roles: frozenset[MemberRole]
) -> Row[Any]:
    """The project's row, locked until the transaction's end. Everything that locks more than one row locks it first.

    Raises `NotFound` for a stranger, `Forbidden` for a member with another role.
    """
    held = connection.execute(_LOCK, {"project": project_id, "user": principal.user_id}).one_or_none()
    if held is None:
        raise NotFound
    # in a statement of its own: the first saw the members as they were before it waited for the lock
    row = seen_project(connection, principal, project_id)
    if row.role not in roles:
        raise Forbidden
    return row


def seen_project(connection: Connection, principal: Principal, project_id: UUID) -> Row[Any]:
    """The project's row with the caller's `role`. Raises `NotFound` for a stranger."""
    row = connection.execute(_SEEN, {"project": project_id, "user": principal.user_id}).one_or_none()
    if row is None:
        raise NotFound
    return row


def project_record(row: Row[Any]) -> ProjectRecord:
    return ProjectRecord(
        id=row.id,
        name=row.name,
        document=row.document,
        version=row.version,
        schema=row.schema,
        role=row.role,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
