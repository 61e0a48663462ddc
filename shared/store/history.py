"""The versions of a project's document: listed, taken back, made again, rebuilt.

Undo and redo read at most the newest `HISTORY_REACH` versions, three numbers of each. A former document is rebuilt from
the present one by at most `REBUILD_VERSIONS` inverses of at most `REBUILD_BYTES` in all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Row, Text, cast, func, select

from shared import history
from shared.errors import NotFound, NothingToRedo, NothingToUndo, VersionMismatch, VersionOutOfReach
from shared.history import Step
from shared.models import DocumentVersion, User
from shared.patching import PatchLimits, replay
from shared.records import DocumentAt, DocumentChange, JsonValue, Principal, Version
from shared.records import Project as ProjectRecord
from shared.store.projects import EDITORS, change_document, lock_project, project_record, role_in, seen_project
from shared.store.rows import fitting
from shared.store.transactions import Transactions

HISTORY_REACH: Final = 10_000
PAGE_VERSION_BYTES: Final = 4 * 1024 * 1024
REBUILD_VERSIONS: Final = 1_000
REBUILD_BYTES: Final = 2 * 1024 * 1024
_FIRST_STEPS: Final = 50
"""Read at first: mostly the newest version or its neighbour is the answer."""


class HistoryStore(Transactions):
    def versions(
        self,
        principal: Principal,
        project_id: UUID,
        *,
        limit: int,
        before: int | None = None,
        message_id: UUID | None = None,
    ) -> tuple[list[Version], int | None]:
        """A page of the document's versions, newest first, and the next page's `before`; of one message's, if it is given.

        A page ends early where its operations would be large: `PAGE_VERSION_BYTES`. Raises `NotFound`.
        """
        theirs: list[Any] = [DocumentVersion.project_id == project_id]
        if before is not None:
            theirs.append(DocumentVersion.version < before)
        if message_id is not None:
            theirs.append(DocumentVersion.message_id == message_id)
        size = _bytes(DocumentVersion.operations) + _bytes(DocumentVersion.inverse)
        newest = DocumentVersion.version.desc()
        with self._moment() as connection:
            role_in(connection, principal, project_id)
            found = connection.execute(
                select(DocumentVersion.version, size.label("size")).where(*theirs).order_by(newest).limit(limit + 1)
            ).all()
            count = fitting((row.size for row in found[:limit]), PAGE_VERSION_BYTES)
            rows = connection.execute(
                select(DocumentVersion.__table__, User.name.label("author"))
                .outerjoin(User, User.id == DocumentVersion.author_id)
                .where(
                    DocumentVersion.project_id == project_id,
                    DocumentVersion.version.in_([row.version for row in found[:count]]),
                )
                .order_by(newest)
            ).all()
        page = [
            Version(
                version=row.version,
                operations=row.operations,
                inverse=row.inverse,
                created_at=row.created_at,
                author=row.author,
                message_id=row.message_id,
                undoes=row.undoes,
                redoes=row.redoes,
            )
            for row in rows
        ]
        return page, page[-1].version if len(found) > count else None

    def undo(
        self, principal: Principal, project_id: UUID, limits: PatchLimits, *, expected_version: int | None = None
    ) -> tuple[ProjectRecord, DocumentChange]:
        """Take back the newest change that is not taken back, whoever made it, as a new version.

        Raises `NotFound`, `Forbidden`, `VersionMismatch`, `NothingToUndo`, and, where the schema or the limits have changed
        since, `SchemaViolation` or `PatchRejected`.
        """
        with self._transaction() as connection:
            project = _locked(connection, principal, project_id, expected_version)
            version = history.undoable(_steps(connection, project))
            if version is None:
                raise NothingToUndo
            return _take_back(connection, principal, project, version, limits, undoes=version)

    def redo(
        self, principal: Principal, project_id: UUID, limits: PatchLimits, *, expected_version: int | None = None
    ) -> tuple[ProjectRecord, DocumentChange]:
        """Take back the newest undo that is not taken back, as a new version. Raises as `undo`, but `NothingToRedo`."""
        with self._transaction() as connection:
            project = _locked(connection, principal, project_id, expected_version)
            version = history.redoable(_steps(connection, project))
            if version is None:
                raise NothingToRedo
            return _take_back(connection, principal, project, version, limits, redoes=version)

    def documents_at(self, principal: Principal, project_id: UUID, versions: Iterable[int]) -> dict[int, DocumentAt]:
        """The document as it was at each of `versions`.

        Raises `NotFound`, also for a version that there is not, and `VersionOutOfReach`.
        """
        wanted = set(versions)
        with self._moment() as connection:
            project = seen_project(connection, principal, project_id)
            if not all(1 <= version <= project.version for version in wanted):
                raise NotFound
            inverses = _inverses(connection, project, back_to=min(wanted))
        found, document, version = {}, project.document, project.version
        for inverse in (None, *inverses):
            if inverse is not None:
                document, version = replay(document, inverse), version - 1
            if version in wanted:
                found[version] = DocumentAt(version=version, document=copy.deepcopy(document))
        return found


def _bytes(column: Any) -> Any:
    return func.octet_length(cast(column, Text))


def _locked(connection: Connection, principal: Principal, project_id: UUID, expected_version: int | None) -> Row[Any]:
    project = lock_project(connection, principal, project_id, EDITORS)
    if expected_version is not None and project.version != expected_version:
        raise VersionMismatch
    return project


def _steps(connection: Connection, project: Row[Any]) -> Iterator[Step]:
    """What the versions of a locked project did, newest first, read as far as they are asked for."""
    before, size = project.version + 1, _FIRST_STEPS
    oldest = before - HISTORY_REACH
    while True:
        rows = connection.execute(
            select(DocumentVersion.version, DocumentVersion.undoes, DocumentVersion.redoes)
            .where(
                DocumentVersion.project_id == project.id,
                DocumentVersion.version < before,
                DocumentVersion.version >= oldest,
            )
            .order_by(DocumentVersion.version.desc())
            .limit(size)
        ).all()
        for row in rows:
            yield Step(version=row.version, undoes=row.undoes, redoes=row.redoes)
        if len(rows) < size:
            return
        before, size = rows[-1].version, size * 4


def _take_back(
    connection: Connection,
    principal: Principal,
    project: Row[Any],
    version: int,
    limits: PatchLimits,
    *,
    undoes: int | None = None,
    redoes: int | None = None,
) -> tuple[ProjectRecord, DocumentChange]:
    inverse = connection.execute(
        select(DocumentVersion.inverse).where(
            DocumentVersion.project_id == project.id, DocumentVersion.version == version
        )
    ).scalar_one()
    # an inverse may have more operations than the patch had: a move onto something takes two to take back
    allowed = msgspec.structs.replace(limits, max_operations=max(limits.max_operations, len(inverse)))
    change = change_document(connection, project, inverse, allowed, author=principal, undoes=undoes, redoes=redoes)
    return project_record(seen_project(connection, principal, project.id)), change


def _inverses(connection: Connection, project: Row[Any], *, back_to: int) -> list[list[JsonValue]]:
    """What leads from the present document back to the version `back_to`, newest first. Raises `VersionOutOfReach`."""
    if project.version - back_to > REBUILD_VERSIONS:
        raise VersionOutOfReach
    between: tuple[Any, ...] = (
        DocumentVersion.project_id == project.id,
        DocumentVersion.version > back_to,
        DocumentVersion.version <= project.version,
    )
    size = func.coalesce(func.sum(_bytes(DocumentVersion.inverse)), 0)
    if connection.execute(select(size).where(*between)).scalar_one() > REBUILD_BYTES:
        raise VersionOutOfReach
    return list(
        connection.execute(
            select(DocumentVersion.inverse).where(*between).order_by(DocumentVersion.version.desc())
        ).scalars()
    )
